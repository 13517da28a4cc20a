"""Laws of choosing tokens: how many, which, in what order, and what is random.

Shapes: B clips, N tokens, L tokens of a slot, K kept tokens, V visible, M targets.
"""

from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from everest.config import SelectionConfig, SelectionMethod, Task
from everest.errors import ConfigError, SelectionError
from everest.settings import parse
from everest.tokens import TokenGrid, TokenSelection, count_tokens, num_tokens, rank_by_score, select_tokens, split_kept

PAPER = TokenGrid(8, 14, 14, 2, 16)
ODD = TokenGrid(3, 3, 5, 1, 8)
FEW = TokenGrid(4, 4, 4, 2, 8)
GRIDS = (PAPER, ODD, FEW, TokenGrid(12, 6, 8, 2, 16), TokenGrid(2, 5, 4, 4, 8))
BY_CONTENT = ("adaptive", "rlt", "k_centered")  # tests/models/test_choosing.py
METHODS: tuple[SelectionMethod, ...] = tuple(m for m in get_args(SelectionMethod) if m not in BY_CONTENT)
laws = settings(max_examples=30, deadline=None, derandomize=True)


def config(method: SelectionMethod = "rero", keep: float = 0.3, encode: float = 0.1) -> SelectionConfig:
    return SelectionConfig(method=method, keep_ratio=keep, encode_ratio=encode)


def random_scores(grid: TokenGrid, batch: int = 2, seed: int = 0) -> Tensor:
    return torch.rand(batch, grid.num_tokens, generator=torch.Generator().manual_seed(seed))


def select(
    settings: SelectionConfig,
    task: Task,
    grid: TokenGrid,
    *,
    scores: Tensor | None = None,
    batch: int = 2,
    seed: int = 0,
) -> TokenSelection:
    scores = random_scores(grid, batch) if scores is None else scores
    generator = torch.Generator().manual_seed(seed)
    return select_tokens(settings, task, grid, len(scores), scores=scores, generator=generator)


class TestCounts:
    def test_the_paper_and_the_release_keep_these_many(self) -> None:
        assert num_tokens(0.3, 1568) == 470
        assert count_tokens(PAPER, config(), "pretrain") == (156, 314)
        assert count_tokens(PAPER, config(keep=0.6), "finetune") == (940, 0)

    def test_a_tube_keeps_as_many_as_videomae(self) -> None:
        assert count_tokens(PAPER, config("tube"), "pretrain") == (160, 1408)

    def test_whole_clips_and_random_shares(self) -> None:
        assert count_tokens(PAPER, config("random"), "pretrain") == (156, 1412)
        assert count_tokens(PAPER, config("all"), "finetune") == (1568, 0)

    def test_products_are_exact(self) -> None:
        assert int((1 - 0.9) * 800) == 79  # what truncation of floating point makes of a tenth of 800
        assert num_tokens(0.1, 800) == 80
        assert num_tokens(0.29, 100) == 29
        assert int(0.29 * 100) == 28

    @laws
    @given(st.integers(1, 1000), st.integers(1, 5000))
    def test_a_count_is_the_ratio_rounded_down_and_at_least_one(self, thousandths: int, total: int) -> None:
        assert num_tokens(thousandths / 1000, total) == max(1, thousandths * total // 1000)

    @pytest.mark.parametrize("ratio", [0.0, -0.1, 1.001, float("nan")])
    def test_a_ratio_out_of_range_is_refused(self, ratio: float) -> None:
        with pytest.raises(SelectionError, match="above 0 and up to 1"):
            num_tokens(ratio, 100)

    @pytest.mark.parametrize("grid", GRIDS)
    @pytest.mark.parametrize("method", ["random_equal", "running_cell"])
    def test_the_controls_keep_as_many_as_rero(self, method: SelectionMethod, grid: TokenGrid) -> None:
        for task, keep in (("pretrain", 0.3), ("finetune", 0.6)):
            equal = count_tokens(grid, config(method, keep), task)
            assert equal == count_tokens(grid, config("rero", keep), task)

    @pytest.mark.parametrize("method", get_args(SelectionMethod))
    def test_pretraining_with_nothing_to_predict_is_refused(self, method: SelectionMethod) -> None:
        with pytest.raises(SelectionError, match="no token is left to predict"):
            count_tokens(FEW, config(method, 1.0, 1.0), "pretrain")

    @pytest.mark.parametrize("method", ["rero", "random_equal", "running_cell"])
    def test_encoding_more_than_is_kept_is_refused(self, method: SelectionMethod) -> None:
        with pytest.raises(ConfigError, match=r"encode_ratio \(0.4\) .* keep_ratio \(0.3\)"):
            parse(SelectionConfig, {"method": method, "keep_ratio": 0.3, "encode_ratio": 0.4})


class TestEverySelection:
    @pytest.mark.parametrize("grid", GRIDS)
    @pytest.mark.parametrize("task", ["pretrain", "finetune"])
    @pytest.mark.parametrize("method", METHODS)
    def test_is_ascending_unique_disjoint_and_of_the_size_that_is_told(
        self, method: SelectionMethod, task: Task, grid: TokenGrid
    ) -> None:
        settings = config(method, 0.6 if task == "finetune" else 0.3)
        selection = select(settings, task, grid, batch=3)
        num_visible, num_target = count_tokens(grid, settings, task)
        assert selection.visible.shape == (3, num_visible)
        assert selection.target.shape == (3, num_target)
        assert (num_target == 0) == (task == "finetune")
        for visible, target in zip(selection.visible.tolist(), selection.target.tolist(), strict=True):
            assert visible == sorted(visible)
            assert target == sorted(target)
            assert len({*visible, *target}) == num_visible + num_target
            assert {*visible, *target} <= set(range(grid.num_tokens))

    @pytest.mark.parametrize("task", ["pretrain", "finetune"])
    @pytest.mark.parametrize("method", METHODS)
    def test_follows_from_the_seed(self, method: SelectionMethod, task: Task) -> None:
        first, again, other = (select(config(method), task, FEW, seed=seed) for seed in (5, 5, 6))
        assert torch.equal(first.visible, again.visible)
        assert torch.equal(first.target, again.target)
        is_random = not (task == "finetune" and method in {"rero", "all"})
        assert torch.equal(first.visible, other.visible) is not is_random

    @pytest.mark.parametrize("method", [method for method in METHODS if method != "rero"])
    def test_but_rero_looks_at_no_scores(self, method: SelectionMethod) -> None:
        selection = select_tokens(config(method), "pretrain", FEW, 2)
        assert selection.scores is None
        assert len(selection.visible) == 2

    @pytest.mark.parametrize("method", BY_CONTENT)
    def test_without_clips_there_is_no_choice_by_content(self, method: SelectionMethod) -> None:
        with pytest.raises(SelectionError, match=f"{method} looks at the clips"):
            select(config(method), "pretrain", FEW)

    @pytest.mark.parametrize("method", ["tube", "random", "random_equal", "running_cell", "all"])
    def test_drawn_at_random_differs_from_clip_to_clip(self, method: SelectionMethod) -> None:
        first, second = select(config(method), "pretrain", FEW).visible
        assert not torch.equal(first, second)


class TestRero:
    def test_keeps_the_tokens_that_change_most(self) -> None:
        scores = random_scores(PAPER)
        visible = select(config(keep=0.6), "finetune", PAPER, scores=scores).visible
        for kept, clip_scores in zip(visible, scores, strict=True):
            dropped = torch.ones(PAPER.num_tokens).scatter(0, kept, 0).nonzero()[:, 0]
            assert clip_scores[kept].min() > clip_scores[dropped].max()

    def test_shares_out_what_it_keeps_in_pretraining(self) -> None:
        scores = random_scores(PAPER)
        selection = select(config(), "pretrain", PAPER, scores=scores)
        together = torch.cat([selection.visible, selection.target], dim=1).sort(dim=1).values
        assert torch.equal(together, scores.topk(470, dim=1).indices.sort(dim=1).values)

    @pytest.mark.parametrize("grid", GRIDS)
    def test_keeping_all_is_no_selection(self, grid: TokenGrid) -> None:
        kept = select(config(keep=1.0), "finetune", grid)
        everything = select(config("all", keep=1.0), "finetune", grid)
        assert torch.equal(kept.visible, everything.visible)
        assert torch.equal(kept.visible, torch.arange(grid.num_tokens).expand(2, -1))

    def test_equal_scores_go_to_the_lower_number(self) -> None:
        num_kept = num_tokens(0.3, PAPER.num_tokens)
        same = torch.ones(2, PAPER.num_tokens)
        assert torch.equal(select(config(), "finetune", PAPER, scores=same).visible[1], torch.arange(num_kept))

    def test_a_tie_at_the_cut_goes_to_the_lower_number(self) -> None:
        scores = torch.zeros(1, FEW.num_tokens)
        scores[0, [9, 40]] = 2.0
        scores[0, [60, 3, 31]] = 1.0
        kept = select(config(keep=4 / FEW.num_tokens, encode=0.01), "finetune", FEW, scores=scores).visible
        assert kept.tolist() == [[3, 9, 31, 40]]
        assert rank_by_score(scores)[0, :6].tolist() == [9, 40, 3, 31, 60, 0]

    @laws
    @given(st.integers(0, 10**6), st.permutations(range(4)))
    def test_clips_do_not_see_each_other(self, seed: int, order: list[int]) -> None:
        scores = random_scores(ODD, batch=4, seed=seed).mul(8).round()  # with many ties
        visible = select(config(keep=0.5), "finetune", ODD, scores=scores).visible
        assert torch.equal(select(config(keep=0.5), "finetune", ODD, scores=scores[order]).visible, visible[order])

    def test_the_share_that_is_encoded_is_uniform_over_ranks(self) -> None:
        batch, (num_visible, num_target) = 4000, count_tokens(FEW, config(keep=0.5, encode=0.2), "pretrain")
        scores = torch.arange(FEW.num_tokens, 0, -1.0).expand(batch, -1)  # token n has rank n
        visible = select(config(keep=0.5, encode=0.2), "pretrain", FEW, scores=scores).visible
        num_kept = num_visible + num_target
        share = visible.flatten().bincount(minlength=num_kept) / batch
        expected = num_visible / num_kept
        assert share.shape == (num_kept,)
        deviation = (expected * (1 - expected) / batch) ** 0.5
        assert (share - expected).abs().max() < 4.5 * deviation  # of 32 ranks, about 1 in 5,000 seeds goes beyond

    def test_keeps_its_scores(self) -> None:
        scores = random_scores(FEW)
        assert select(config(), "pretrain", FEW, scores=scores).scores is scores

    @pytest.mark.parametrize("shape", [None, (2, 63), (1, 64), (2, 4, 16)])
    def test_scores_of_another_shape_are_refused(self, shape: tuple[int, ...] | None) -> None:
        scores = None if shape is None else torch.zeros(shape)
        with pytest.raises(SelectionError, match=r"scores of shape \[2, 64\], given: "):
            select_tokens(config(), "pretrain", FEW, 2, scores=scores)

    def test_the_smallest_noise_is_encoded(self) -> None:
        kept = torch.tensor([[7, 2, 9, 4, 0]])
        noise = torch.tensor([[0.5, 0.1, 0.9, 0.1, 0.3]])
        visible, target = split_kept(kept, 3, noise)
        assert visible.tolist() == [[0, 2, 4]]
        assert target.tolist() == [[7, 9]]


class TestControls:
    @pytest.mark.parametrize("grid", GRIDS)
    @pytest.mark.parametrize("task", ["pretrain", "finetune"])
    def test_a_tube_takes_the_same_places_in_every_slot(self, task: Task, grid: TokenGrid) -> None:
        selection = select(config("tube"), task, grid)
        for index in (selection.visible, selection.target):
            places = (index % grid.tokens_per_slot).unflatten(1, (grid.num_slots, -1))  # [B, t, K / t]
            assert torch.equal(places, places[:, :1].expand_as(places))
            assert torch.equal(index // grid.tokens_per_slot, index.sort(dim=1).values // grid.tokens_per_slot)

    def test_a_tube_encodes_or_predicts_every_token(self) -> None:
        selection = select(config("tube"), "pretrain", PAPER)
        together = torch.cat([selection.visible, selection.target], dim=1).sort(dim=1).values
        assert torch.equal(together, torch.arange(PAPER.num_tokens).expand(2, -1))

    @pytest.mark.parametrize("method", ["random", "random_equal"])
    def test_random_tokens_are_uniform(self, method: SelectionMethod) -> None:
        batch = 4000
        visible = select(config(method, 0.25, 0.1), "finetune", FEW, batch=batch).visible
        share = visible.flatten().bincount(minlength=FEW.num_tokens) / batch
        deviation = (0.25 * 0.75 / batch) ** 0.5
        assert (share - 0.25).abs().max() < 4.5 * deviation

    @pytest.mark.parametrize("grid", [FEW, TokenGrid(8, 6, 4, 1, 8)])
    def test_in_four_slots_the_running_cell_visits_every_place_once(self, grid: TokenGrid) -> None:
        visible = select(config("running_cell", 0.25, 0.1), "finetune", grid).visible
        for clip in visible:
            kept = torch.zeros(grid.num_tokens).scatter(0, clip, 1).reshape(grid.shape)
            cells = kept.unfold(1, 2, 2).unfold(2, 2, 2)  # [t, h / 2, w / 2, 2, 2]
            assert torch.equal(cells.sum(dim=(-2, -1)), torch.ones(cells.shape[:3]))  # one place per cell and slot
            for start in range(grid.num_slots - 3):
                assert torch.equal(kept[start : start + 4].sum(dim=0), torch.ones(grid.shape[1:]))

    def test_the_running_cell_runs_clockwise(self) -> None:
        visible = select(config("running_cell", 0.25, 0.1), "finetune", FEW, batch=1).visible[0]
        kept = torch.zeros(FEW.num_tokens).scatter(0, visible, 1).reshape(FEW.shape)
        corner = [divmod(int(slot.flatten().argmax()), 2) for slot in kept[:, :2, :2]]
        assert corner == [(0, 0), (0, 1), (1, 1), (1, 0)]


class TestTokenSelection:
    @pytest.mark.parametrize(
        ("visible", "target", "message"),
        [
            (torch.zeros(2, 3), torch.zeros(2, 1, dtype=torch.int64), "visible takes .* given: torch.float32"),
            (torch.zeros(3, dtype=torch.int64), torch.zeros(2, 1, dtype=torch.int64), r"visible takes .*int64 \[3\]"),
            (torch.zeros(2, 3, dtype=torch.int64), torch.zeros(2, 1, dtype=torch.int32), "target takes .*int32"),
            (torch.zeros(2, 3, dtype=torch.int64), torch.zeros(1, 1, dtype=torch.int64), r"target takes .*\[1, 1\]"),
            (torch.zeros(2, 0, dtype=torch.int64), torch.zeros(2, 1, dtype=torch.int64), "0 visible .* do not fit"),
            (torch.zeros(2, 60, dtype=torch.int64), torch.zeros(2, 5, dtype=torch.int64), "60 visible and 5 target"),
        ],
    )
    def test_what_is_no_selection_is_refused(self, visible: Tensor, target: Tensor, message: str) -> None:
        with pytest.raises(SelectionError, match=message) as caught:
            TokenSelection(visible, target, FEW)
        assert "\n" not in str(caught.value)

    def test_shows_its_shapes_and_no_values(self) -> None:
        selection = select(config(), "pretrain", PAPER)
        assert repr(selection) == "TokenSelection(visible [2, 156], target [2, 314], of 1568 tokens)"


@pytest.mark.parametrize("method", ["tube", "random", "random_equal", "all", "running_cell", "rero"])
def test_ties_in_the_noise_go_to_the_lower_number(method: SelectionMethod, monkeypatch: pytest.MonkeyPatch) -> None:
    """Noise of 24 bits ties in one of some thirty clips, and sorting must not depend on the machine then."""
    grid = TokenGrid.of_clip(8, 64, 64, 2, 16)
    monkeypatch.setattr(torch, "rand", lambda *size, **_: torch.zeros(*size))
    config = SelectionConfig(method=method, keep_ratio=0.5, encode_ratio=0.25)
    scores = torch.ones(3, grid.num_tokens) if method == "rero" else None
    found = select_tokens(config, "pretrain", grid, 3, scores=scores)
    if method == "tube":
        places = [slot * 16 + place for slot in range(4) for place in range(4)]
    elif method == "running_cell":  # the first of the four phases, clockwise through 2 x 2 cells
        cell = [(0, 0), (0, 1), (1, 1), (1, 0)]
        places = [
            slot * 16 + row * 4 + column
            for slot in range(4)
            for row in range(4)
            for column in range(4)
            if (row % 2, column % 2) == cell[slot % 4]
        ]
    else:
        places = list(range(16))
    assert found.visible.tolist() == [places] * 3
