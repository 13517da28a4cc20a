"""Laws of ReRo scores, stated on pixels: an embedding is a linear map of a tubelet.

Shapes: B clips, t time slots, L tokens of a slot, N = t * L tokens, P pixels of a tubelet, D width.
"""

import pytest
import torch
from torch import Tensor

from everest.errors import SelectionError
from everest.models.embedding import PatchEmbed
from everest.tokens import TokenGrid, patchify, rero_scores, token_changes

GRID = TokenGrid(num_slots=4, num_rows=3, num_columns=2, tubelet_size=2, patch_size=4)


def embedding(grid: TokenGrid = GRID) -> PatchEmbed:
    torch.manual_seed(0)
    return PatchEmbed(grid, 8)


def score(clips: Tensor, grid: TokenGrid = GRID) -> Tensor:
    """Scores by slot, shape [B, t, L]."""
    scores = rero_scores(embedding(grid).embed_all(patchify(clips, grid), grid)[1])
    return scores.unflatten(1, (grid.num_slots, grid.tokens_per_slot))


def moving_clips(batch: int = 2, grid: TokenGrid = GRID) -> Tensor:
    """Noise with values of few bits, so that sums of two are exact in float32."""
    generator = torch.Generator().manual_seed(1)
    return torch.randint(-128, 128, (batch, 3, *grid.clip_shape), generator=generator) / 64


def test_a_still_clip_scores_exactly_zero() -> None:
    still = moving_clips()[:, :, :1].expand(-1, -1, GRID.clip_shape[0], -1, -1)
    assert torch.count_nonzero(score(still)) == 0


def test_only_the_place_that_moves_scores() -> None:
    clips = moving_clips()[:, :, :1].repeat(1, 1, GRID.clip_shape[0], 1, 1)
    clips[:, :, 4:, 4:8, 0:4] += 1  # from slot 2 on, row 1, column 0
    scores = score(clips)
    assert torch.count_nonzero(scores) == 2  # one token of each clip
    assert (scores[:, 2, 1 * GRID.num_columns + 0] > 0).all()


def test_the_first_slot_takes_the_scores_of_the_second() -> None:
    scores = score(moving_clips())
    assert torch.equal(scores[:, 0], scores[:, 1])
    assert not torch.equal(scores[:, 1], scores[:, 2])


def test_scores_move_with_time() -> None:
    longer = TokenGrid(GRID.num_slots + 2, *GRID.shape[1:], GRID.tubelet_size, GRID.patch_size)
    clips = moving_clips(grid=longer)
    early = score(clips[:, :, : GRID.clip_shape[0]])
    late = score(clips[:, :, 2 * GRID.tubelet_size :])
    torch.testing.assert_close(late[:, 1:-2], early[:, 3:], rtol=1e-6, atol=0)


def test_a_constant_image_added_to_all_frames_changes_no_score() -> None:
    clips = moving_clips()
    image = moving_clips().flip(0)[:, :, :1]
    assert torch.equal(score(clips + image), score(clips))


def test_scores_are_distances_of_neighbouring_embeddings() -> None:
    patches = patchify(moving_clips(), GRID)
    embed = embedding()
    with torch.no_grad():
        slots = embed(patches).unflatten(1, (GRID.num_slots, GRID.tokens_per_slot))  # [B, t, L, D]
    direct = (slots[:, 1:] - slots[:, :-1]).square().sum(dim=-1).sqrt()
    scores = rero_scores(embed.embed_all(patches, GRID)[1])
    torch.testing.assert_close(scores, torch.cat([direct[:, :1], direct], dim=1).flatten(1), rtol=1e-5, atol=1e-6)


def test_changes_subtract_the_slot_before() -> None:
    tokens = torch.randn(2, GRID.num_tokens, 5)
    changes = token_changes(tokens, GRID)
    assert changes.shape == (2, GRID.num_slots - 1, GRID.tokens_per_slot, 5)
    for slot in range(1, GRID.num_slots):
        for place in range(GRID.tokens_per_slot):
            here = slot * GRID.tokens_per_slot + place
            expected = tokens[:, here] - tokens[:, here - GRID.tokens_per_slot]
            assert torch.equal(changes[:, slot - 1, place], expected)


def test_one_slot_has_nothing_to_compare() -> None:
    grid = TokenGrid(1, 2, 2, 2, 2)
    with pytest.raises(SelectionError, match="at least two"):
        rero_scores(token_changes(torch.zeros(1, grid.num_tokens, 3), grid))


@pytest.mark.parametrize(
    ("given", "returned"),
    [
        (torch.float64, torch.float64),
        (torch.float32, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float16, torch.float32),
    ],
)
def test_scores_are_float32_at_least(given: torch.dtype, returned: torch.dtype) -> None:
    changes = torch.full((1, 2, 3, 4), 300.0, dtype=given)  # squares that float16 cannot hold
    scores = rero_scores(changes)
    assert scores.dtype == returned
    assert torch.equal(scores, torch.full((1, 9), 600.0, dtype=returned))


def test_autocast_does_not_coarsen_scores() -> None:
    patches = patchify(moving_clips(), GRID)
    exact = embedding().embed_all(patches, GRID)
    with torch.autocast("cpu", torch.bfloat16):
        under_autocast = embedding().embed_all(patches, GRID)
    assert all(torch.equal(a, b) for a, b in zip(exact, under_autocast, strict=True))
