"""Clips of different lengths in one row: each is computed as if it were alone.

Shapes: B clips, S tokens of all together, N tokens, D width.
"""

from collections.abc import Sequence

import pytest
import torch
from small_models import GRID, autoencoder, classifier, random_patches
from torch import Tensor

from everest.models.layers import Block
from everest.models.varlen import attend, join_clips, mean_of_clips, per_token, take_masked
from everest.tokens import TokenCounts, TokenSelection
from everest.tokens.others.packed import pack_selection

LENGTHS = (5, 1, 12)


def random_masks(counts: Sequence[tuple[int, int]], seed: int = 0) -> tuple[Tensor, Tensor]:
    """For each clip, so many visible and so many target tokens, drawn at random."""
    visible, target = torch.zeros(2, len(counts), GRID.num_tokens, dtype=torch.bool)
    generator = torch.Generator().manual_seed(seed)
    for clip, (num_visible, num_target) in enumerate(counts):
        order = torch.randperm(GRID.num_tokens, generator=generator)
        visible[clip, order[:num_visible]] = True
        target[clip, order[num_visible : num_visible + num_target]] = True
    return visible, target


def alone(visible: Tensor, target: Tensor, clip: int) -> TokenSelection:
    return TokenSelection(visible[clip].nonzero().mT, target[clip].nonzero().mT, GRID)


class TestAttention:
    def test_clips_do_not_see_each_other(self) -> None:
        q, k, v = torch.randn(3, 1, 2, sum(LENGTHS), 8, generator=torch.Generator().manual_seed(0))
        together = attend(q, k, v, LENGTHS)
        start = 0
        for length in LENGTHS:
            part = slice(start, start + length)
            logits = q[:, :, part] @ k[:, :, part].mT / 8**0.5
            torch.testing.assert_close(together[:, :, part], logits.softmax(dim=-1) @ v[:, :, part])
            start += length

    @pytest.mark.gpu
    def test_the_fused_call_gives_what_clip_by_clip_gives(self) -> None:
        q, k, v = torch.randn(3, 1, 2, sum(LENGTHS), 64, device="cuda", dtype=torch.bfloat16)
        expected = attend(q.float(), k.float(), v.float(), LENGTHS)
        torch.testing.assert_close(attend(q, k, v, LENGTHS).float(), expected, atol=2e-2, rtol=2e-2)


class TestRows:
    def test_the_mean_is_that_of_each_clip(self) -> None:
        x = torch.rand(1, 18, 4)
        means = mean_of_clips(x, LENGTHS)
        torch.testing.assert_close(means, torch.stack([x[0, :5].mean(0), x[0, 5], x[0, 6:].mean(0)]))

    def test_every_token_gets_the_value_of_its_clip(self) -> None:
        assert per_token(torch.tensor([1.0, 2, 3]), (2, 1, 3)).tolist() == [[[1], [1], [2], [3], [3], [3]]]

    def test_masked_tokens_come_back_from_where_they_were_put(self) -> None:
        counts = (TokenCounts(2, 1), TokenCounts(1, 3))
        visible, masked = torch.arange(3.0).reshape(1, 3, 1), torch.arange(10.0, 14).reshape(1, 4, 1)
        joined = join_clips(visible, masked, counts)
        assert joined.flatten().tolist() == [0, 1, 10, 2, 11, 12, 13]
        assert torch.equal(take_masked(joined, counts), masked)


class TestModels:
    COUNTS = ((7, 9), (1, 1), (30, 12))

    def test_a_prediction_is_that_of_each_clip_alone(self) -> None:
        model, patches = autoencoder().eval(), random_patches(3)
        visible, target = random_masks(self.COUNTS)
        packed = model(patches, pack_selection(visible, target, GRID)).values
        parts = [model(patches[c : c + 1], alone(visible, target, c)).values for c in range(3)]
        torch.testing.assert_close(packed, torch.cat(parts, dim=1), atol=1e-5, rtol=1e-5)

    def test_a_classification_is_that_of_each_clip_alone(self) -> None:
        model, patches = classifier().eval(), random_patches(3)
        visible, none = random_masks([(v, 0) for v, _ in self.COUNTS])
        packed = model(patches, pack_selection(visible, none, GRID))
        parts = [model(patches[c : c + 1], alone(visible, none, c)) for c in range(3)]
        torch.testing.assert_close(packed, torch.cat(parts), atol=1e-5, rtol=1e-5)

    def test_gradients_are_those_of_the_clips_alone(self) -> None:
        model, patches = classifier(), random_patches(3)
        visible, none = random_masks([(v, 0) for v, _ in self.COUNTS])

        def gradients() -> list[Tensor]:
            found = [p.grad.clone() for p in model.parameters() if p.grad is not None]
            model.zero_grad(set_to_none=True)
            return found

        model(patches, pack_selection(visible, none, GRID)).square().sum().backward()
        packed = gradients()
        for clip in range(3):
            model(patches[clip : clip + 1], alone(visible, none, clip)).square().sum().backward()
        for one, other in zip(packed, gradients(), strict=True):
            torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)

    def test_clips_of_equal_lengths_are_what_rows_are(self) -> None:
        model, patches = autoencoder().eval(), random_patches(3)
        visible, target = random_masks([(6, 10)] * 3)
        numbers = (mask.nonzero()[:, 1].reshape(3, -1) for mask in (visible, target))
        rows = model(patches, TokenSelection(*numbers, GRID)).values
        packed = model(patches, pack_selection(visible, target, GRID)).values
        torch.testing.assert_close(packed.reshape(rows.shape), rows, atol=1e-5, rtol=1e-5)


def test_drop_path_skips_whole_clips_of_a_row() -> None:
    torch.manual_seed(0)
    block, lengths = Block(24, 3, drop_path=0.5).train(), [3] * 200
    branch = torch.rand(1, 600, 24) + 1
    factor = (block.skip2(branch, lengths) / branch).reshape(200, 3, 24)
    torch.testing.assert_close(factor, factor[:, :1, :1].expand_as(factor))
    assert {round(value, 4) for value in factor.flatten().tolist()} == {0.0, 2.0}
