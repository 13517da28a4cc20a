"""Space-time mixing attention against its definition, token by token."""

import pytest
import torch
from supervised_models import (
    GRID,
    HEADS,
    WIDTH,
    attention,
    chosen,
    everything,
    masked,
    projected,
    random_module,
)
from torch import Tensor

from everest.models.supervised.attention import TokenBlock
from everest.models.supervised.places import TokenPlaces
from everest.models.supervised.xvit import MixingAttention
from everest.tokens import TokenSelection

L, SLOTS = GRID.tokens_per_slot, GRID.num_slots


def by_definition(module: MixingAttention, norm: torch.nn.LayerNorm, x: Tensor, numbers: list[int]) -> Tensor:
    """One clip: [V + t, D] to the same. A place is (slot, spot); the class token of a slot is its spot L."""
    q, k, v = projected(module, norm, x)
    places = [divmod(number, L) for number in numbers] + [(slot, L) for slot in range(SLOTS)]
    row = {place: index for index, place in enumerate(places)}
    size = WIDTH // HEADS

    def mixed(of: Tensor, slot: int, spot: int) -> Tensor:
        own = of[row[slot, spot]]
        out = own.clone()
        for channel in range(WIDTH):
            quarter = channel % size // (size // 4)
            neighbour = {0: (slot - 1, spot), 1: (slot + 1, spot)}.get(quarter)
            if neighbour in row:
                out[channel] = of[row[neighbour], channel]
        return out

    out = []
    for slot, spot in places:
        there = [place for place in places if place[0] == slot]
        keys, values = [mixed(k, *place) for place in there], [mixed(v, *place) for place in there]
        out.append(attention(q[row[slot, spot]], keys, values))
    return module.proj(torch.stack(out))


def parts(seed: int = 0) -> tuple[MixingAttention, torch.nn.LayerNorm]:
    block = random_module(TokenBlock(MixingAttention(WIDTH, HEADS), WIDTH), seed)
    assert isinstance(block, TokenBlock)
    assert isinstance(block.attn, MixingAttention)
    return block.attn, block.norm1


@pytest.mark.parametrize(
    "selection",
    [everything(GRID, 2), chosen(GRID, [0, 1, 6, 7, 13, 23], [2, 5, 8, 11, 14, 17]), chosen(GRID, [4])],
    ids=["all", "some", "one"],
)
def test_attention_is_what_its_definition_says(selection: TokenSelection) -> None:
    attn, norm = parts()
    x = torch.randn(len(selection.visible), selection.visible.shape[1] + SLOTS, WIDTH, dtype=torch.float64)
    found = attn(x, norm, TokenPlaces.of(selection))
    for clip, numbers in enumerate(selection.visible.tolist()):
        torch.testing.assert_close(found[clip], by_definition(attn, norm, x[clip], numbers), rtol=0, atol=1e-12)


def test_with_all_tokens_the_masked_way_equals_the_dense_one() -> None:
    attn, norm = parts()
    dense = TokenPlaces.of(everything(GRID, 2))
    x = torch.randn(2, GRID.num_tokens + SLOTS, WIDTH, dtype=torch.float64)
    torch.testing.assert_close(attn(x, norm, masked(dense)), attn(x, norm, dense), rtol=0, atol=1e-12)


def test_half_of_the_channels_come_from_the_neighbours_in_time() -> None:
    attn, _ = parts()
    x = torch.arange(SLOTS, dtype=torch.float64)[None, :, None, None].expand(1, SLOTS, L + 1, WIDTH)
    mixed = attn.mix(x, None)[0, :, 0].unflatten(-1, (HEADS, -1))  # [t, h, d]
    assert mixed[1, 0].tolist() == [0.0] * 3 + [2.0] * 3 + [1.0] * 6
    assert mixed[0, 1].tolist() == [0.0] * 3 + [1.0] * 3 + [0.0] * 6  # nothing before the first slot: its own
