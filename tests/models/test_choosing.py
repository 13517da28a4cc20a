"""Choosing tokens by what is in the clips: K-centred, run-length and adaptive selection, through the encoder.

Shapes: B clips, T frames, N tokens.
"""

import pytest
import torch
from small_models import GRID, encoder
from torch import Tensor

from everest.config import SelectionConfig, SelectionMethod, Task
from everest.errors import ConfigError, SelectionError
from everest.models.choosing import choose_tokens
from everest.models.tubelets import Tubelets, cut
from everest.settings import parse
from everest.tokens import TokenSelection, count_tokens
from everest.tokens.others.k_centered import k_centers

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
VARYING: tuple[SelectionMethod, ...] = ("adaptive", "rlt")
TASKS: tuple[Task, ...] = ("pretrain", "finetune")


def config(method: SelectionMethod, **settings: object) -> SelectionConfig:
    return parse(SelectionConfig, {"method": method, "keep_ratio": 0.5, "encode_ratio": 0.2, **settings})


def moving(*num_moving: int) -> Tensor:
    """Clips of noise that stands still but for so many places, uint8 [B, 3, T, H, W]; places change in every slot."""
    T, H, W = GRID.clip_shape
    generator = torch.Generator().manual_seed(0)
    clips = torch.randint(0, 256, (len(num_moving), 3, 1, H, W), generator=generator, dtype=torch.uint8)
    clips = clips.expand(-1, -1, T, -1, -1).clone()
    for clip, count in zip(clips, num_moving, strict=True):
        for place in range(count):
            row, column = divmod(place, GRID.num_columns)
            p = GRID.patch_size
            here = clip[:, :, row * p : (row + 1) * p, column * p : (column + 1) * p]
            here.copy_(torch.randint(0, 256, here.shape, generator=generator, dtype=torch.uint8))
    return clips


def select(clips: Tensor, settings: SelectionConfig, task: Task, seed: int = 0) -> TokenSelection:
    torch.manual_seed(1)
    body = encoder(final_norm=True)
    generator = torch.Generator().manual_seed(seed)
    return body.select(cut(clips, GRID, MEAN, STD), settings, task, generator=generator)


class TestVarying:
    @pytest.mark.parametrize("method", VARYING)
    def test_a_busy_clip_keeps_more_than_a_quiet_one(self, method: SelectionMethod) -> None:
        selection = select(moving(0, 2, 10), config(method, keep_ratio=1.0, coverage=1.0), "finetune")
        still, quiet, busy = (count.num_visible for count in selection.counts)
        assert still < quiet < busy

    def test_run_length_keeps_what_is_new(self) -> None:
        selection = select(moving(0, 2), config("rlt"), "finetune")
        places = selection.places(selection.visible)[0].tolist()
        first = list(range(GRID.tokens_per_slot))
        changed = [slot * GRID.tokens_per_slot + place for slot in (1, 2, 3) for place in (0, 1)]
        assert places == first + first + changed
        assert [count.num_visible for count in selection.counts] == [16, 22]

    def test_adaptive_keeps_the_tokens_that_change_most(self) -> None:
        clips = moving(3, 12)
        selection = select(clips, config("adaptive", coverage=0.6), "finetune")
        assert selection.scores is not None
        for clip, count in enumerate(selection.counts):
            numbers = [n - clip * 64 for n in selection.visible[0].tolist() if n // 64 == clip]
            best = selection.scores[clip].argsort(descending=True, stable=True)[: count.num_visible].tolist()
            assert numbers == sorted(best)

    def test_adaptive_stays_between_its_limits(self) -> None:
        counts = select(moving(0, 1, 16), config("adaptive", min_keep_ratio=0.25), "finetune").counts
        assert counts[0].num_visible == 16
        assert counts[2].num_visible == 32
        assert all(16 <= count.num_visible <= 32 for count in counts)

    @pytest.mark.parametrize("method", VARYING)
    def test_pretraining_shares_out_what_is_kept(self, method: SelectionMethod) -> None:
        clips, settings = moving(0, 2, 10), config(method)
        kept = select(clips, settings, "finetune")
        selection = select(clips, settings, "pretrain")
        for count, (num_kept, _) in zip(selection.counts, kept.counts, strict=True):
            share = 0.2 / 0.5 if method == "adaptive" else 0.2
            assert sum(count) == max(2, num_kept)
            assert count.num_visible == max(1, min(int(num_kept * share + 1e-6), sum(count) - 1))
        both = torch.cat([selection.visible, selection.target], dim=1).sort(dim=1).values
        if min(count.num_visible for count in kept.counts) >= 2:
            assert torch.equal(both, kept.visible)

    @pytest.mark.parametrize("method", VARYING)
    def test_a_clip_does_not_depend_on_its_batch(self, method: SelectionMethod) -> None:
        clips, settings = moving(1, 5, 16), config(method)
        together = select(clips, settings, "finetune")
        alone = [select(clip[None], settings, "finetune") for clip in clips]
        assert together.counts == tuple(selection.counts[0] for selection in alone)
        places = torch.cat([selection.visible for selection in alone], dim=1)
        assert torch.equal(together.places(together.visible), places)

    @pytest.mark.parametrize("method", VARYING)
    def test_only_the_sharing_out_is_random(self, method: SelectionMethod) -> None:
        clips, settings = moving(4, 16), config(method)
        first, again, other = (select(clips, settings, "pretrain", seed) for seed in (5, 5, 6))
        assert torch.equal(first.visible, again.visible)
        assert not torch.equal(first.visible, other.visible)
        kept = [torch.cat([s.visible, s.target], dim=1).sort(dim=1).values for s in (first, other)]
        assert torch.equal(*kept)

    @pytest.mark.parametrize("task", TASKS)
    @pytest.mark.parametrize("method", VARYING)
    def test_no_clip_keeps_more_than_is_told(self, method: SelectionMethod, task: Task) -> None:
        most = count_tokens(GRID, config(method), task)
        counts = select(moving(0, 16), config(method), task).counts
        assert all(count.num_visible <= most.num_visible and sum(count) <= sum(most) for count in counts)

    def test_embeddings_are_those_of_the_visible_tokens(self) -> None:
        torch.manual_seed(1)
        body, patches = encoder(final_norm=True), cut(moving(2, 9), GRID, MEAN, STD)
        selection = body.select(patches, config("adaptive"), "finetune")
        assert selection.embedded is not None
        assert isinstance(patches, Tubelets)
        expected = body.patch_embed(patches.take(selection.visible))
        torch.testing.assert_close(selection.embedded, expected, atol=1e-4, rtol=1e-4)

    def test_bytes_choose_what_their_values_choose(self) -> None:
        clips = moving(3, 9)
        values = (clips / 255 - torch.tensor(MEAN).reshape(3, 1, 1, 1)) / torch.tensor(STD).reshape(3, 1, 1, 1)
        for method in ("rlt", "k_centered"):
            by_bytes, by_values = (select(c, config(method), "finetune") for c in (clips, values))  # type: ignore[arg-type]
            assert torch.equal(by_bytes.visible, by_values.visible)


class TestKCentered:
    @pytest.mark.parametrize("task", TASKS)
    def test_keeps_the_centres_of_each_clip(self, task: Task) -> None:
        clips = moving(4, 16)
        patches = cut(clips, GRID, MEAN, STD)
        assert isinstance(patches, Tubelets)
        selection = select(clips, config("k_centered"), task)
        assert (selection.visible.shape[1], selection.target.shape[1]) == count_tokens(GRID, config("k_centered"), task)
        for clip in range(2):
            kept = {*selection.visible[clip].tolist(), *selection.target[clip].tolist()}
            num = 32 if task == "pretrain" else selection.visible.shape[1]
            assert kept == set(k_centers(patches.normalize(patches.pixels[clip]), num).tolist())


def test_adaptive_needs_scores() -> None:
    with pytest.raises(SelectionError, match="needs the scores"):
        choose_tokens(torch.rand(1, 64, GRID.num_pixels), GRID, config("adaptive"), "finetune")


def test_limits_that_cross_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"min_keep_ratio \(0.6\) cannot exceed keep_ratio \(0.5\)"):
        config("adaptive", min_keep_ratio=0.6)
