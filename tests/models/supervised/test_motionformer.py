"""Trajectory attention against its definition, token by token."""

import pytest
import torch
from supervised_models import GRID, HEADS, WIDTH, attention, chosen, everything, masked, projected, random_module
from torch import Tensor

from everest.models.supervised.attention import TokenBlock
from everest.models.supervised.motionformer import TrajectoryAttention
from everest.models.supervised.places import TokenPlaces
from everest.tokens import TokenSelection

L, SLOTS = GRID.tokens_per_slot, GRID.num_slots


def by_definition(module: TrajectoryAttention, norm: torch.nn.LayerNorm, x: Tensor, numbers: list[int]) -> Tensor:
    """One clip: [1 + V, D] to the same."""
    q, k, v = projected(module, norm, x)
    slots = [number // L for number in numbers]
    out = [attention(q[0], list(k), list(v))]
    for token, slot in enumerate(slots, start=1):
        trajectory = {}
        for other in sorted(set(slots)):
            there = [1 + index for index, s in enumerate(slots) if s == other]
            trajectory[other] = attention(q[token], [k[i] for i in there], [v[i] for i in there])
        again = module.trajectory_q(trajectory[slot])
        keys = [module.trajectory_kv(point)[:WIDTH] for point in trajectory.values()]
        values = [module.trajectory_kv(point)[WIDTH:] for point in trajectory.values()]
        out.append(attention(again, keys, values))
    return module.proj(torch.stack(out))


def parts() -> tuple[TrajectoryAttention, torch.nn.LayerNorm]:
    block = random_module(TokenBlock(TrajectoryAttention(WIDTH, HEADS), WIDTH))
    assert isinstance(block, TokenBlock)
    assert isinstance(block.attn, TrajectoryAttention)
    return block.attn, block.norm1


@pytest.mark.parametrize(
    "selection",
    [everything(GRID, 2), chosen(GRID, [0, 1, 6, 7, 13], [2, 5, 18, 20, 22]), chosen(GRID, [4])],
    ids=["all", "slots without tokens", "one"],
)
def test_attention_is_what_its_definition_says(selection: TokenSelection) -> None:
    attn, norm = parts()
    x = torch.randn(len(selection.visible), 1 + selection.visible.shape[1], WIDTH, dtype=torch.float64)
    found = attn(x, norm, TokenPlaces.of(selection))
    for clip, numbers in enumerate(selection.visible.tolist()):
        torch.testing.assert_close(found[clip], by_definition(attn, norm, x[clip], numbers), rtol=0, atol=1e-12)


def test_with_all_tokens_the_masked_way_equals_the_dense_one() -> None:
    attn, norm = parts()
    dense = TokenPlaces.of(everything(GRID, 2))
    x = torch.randn(2, 1 + GRID.num_tokens, WIDTH, dtype=torch.float64)
    torch.testing.assert_close(attn(x, norm, masked(dense)), attn(x, norm, dense), rtol=0, atol=1e-12)
