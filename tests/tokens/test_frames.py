"""Laws of frame selection: how many candidates, how they are counted, and how they are drawn.

Shapes: B clips, T frames, N tokens, n candidate pairs, k chosen pairs.
"""

from itertools import permutations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from everest.config import FrameSelectionConfig, num_candidate_pairs
from everest.errors import ConfigError, SelectionError
from everest.settings import parse
from everest.tokens import (
    FrameSelection,
    TokenGrid,
    count_per_pair,
    num_tokens,
    rank_by_score,
    select_pairs,
    take_pairs,
)

CANDIDATES = TokenGrid(num_slots=12, num_rows=3, num_columns=4, tubelet_size=2, patch_size=8)
laws = settings(max_examples=40, deadline=None, derandomize=True)


def uniform(shape: tuple[int, int], seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def shares(pairs: Tensor, num_candidates: int) -> Tensor:
    """How often each pair was chosen."""
    return pairs.flatten().bincount(minlength=num_candidates) / len(pairs)


class TestCandidates:
    @pytest.mark.parametrize(
        ("alpha", "wanted", "candidates"), [(1.5, 8, 12), (2.0, 8, 16), (1.3, 8, 10), (1.5, 5, 7), (3.0, 4, 12)]
    )
    def test_are_the_floor_of_alpha_times_the_pairs(self, alpha: float, wanted: int, candidates: int) -> None:
        assert num_candidate_pairs(wanted, FrameSelectionConfig(enabled=True, alpha=alpha)) == candidates

    def test_are_just_the_pairs_where_frames_are_not_selected(self) -> None:
        assert num_candidate_pairs(8, FrameSelectionConfig(enabled=False, alpha=1.5)) == 8

    def test_of_an_alpha_just_above_one_are_the_pairs_themselves(self) -> None:
        num_candidates = num_candidate_pairs(8, FrameSelectionConfig(enabled=True, alpha=1.000001))
        assert num_candidates == 8
        chosen = select_pairs(torch.randint(0, 9, (5, 8)), 8, uniform((5, 8)))
        assert torch.equal(chosen.pairs, torch.arange(8).expand(5, -1))

    @pytest.mark.parametrize("alpha", [1.0, 0.5])
    def test_are_more_than_the_pairs(self, alpha: float) -> None:
        with pytest.raises(ConfigError, match="greater than 1"):
            parse(FrameSelectionConfig, {"enabled": True, "alpha": alpha})

    def test_are_counted_exactly(self) -> None:
        assert int(1.4 * 45) == 62  # truncated floating point loses one of 63
        assert num_candidate_pairs(45, FrameSelectionConfig(enabled=True, alpha=1.4)) == 63


class TestCounts:
    @laws
    @given(st.integers(0, 10**6), st.sampled_from([0.1, 0.3, 0.6, 1.0]))
    def test_add_up_to_the_selected_tokens_that_change(self, seed: int, keep_ratio: float) -> None:
        scores = (uniform((3, CANDIDATES.num_tokens), seed) - 0.5).clamp(min=0)  # half of the tokens stand still
        counts = count_per_pair(scores, CANDIDATES, keep_ratio)
        assert counts.shape == (3, 12)
        assert counts.dtype == torch.int64
        kept = rank_by_score(scores)[:, : num_tokens(keep_ratio, CANDIDATES.num_tokens)]
        for clip in range(3):
            changing = [token for token in kept[clip].tolist() if scores[clip, token] > 0]
            expected = [sum(token // 12 == pair for token in changing) for pair in range(12)]
            assert counts[clip].tolist() == expected

    def test_of_a_still_clip_are_zero(self) -> None:
        assert torch.count_nonzero(count_per_pair(torch.zeros(2, CANDIDATES.num_tokens), CANDIDATES, 0.3)) == 0

    def test_of_motion_in_one_pair_fall_into_it(self) -> None:
        scores = torch.zeros(1, CANDIDATES.num_tokens)
        scores[0, 7 * 12 : 7 * 12 + 5] = 1.0
        assert count_per_pair(scores, CANDIDATES, 0.3).tolist() == [[0] * 7 + [5] + [0] * 4]


class TestDrawing:
    @laws
    @given(st.integers(0, 10**6), st.integers(1, 12), st.sampled_from([0, 1, 2, 40]))
    def test_takes_no_pair_twice_and_keeps_their_order(self, seed: int, wanted: int, largest: int) -> None:
        counts = uniform((4, 12), seed).mul(largest + 1).long()
        for noise in (uniform((4, 12), seed + 1), None):
            chosen = select_pairs(counts, wanted, noise)
            assert chosen.pairs.shape == (4, wanted)
            assert (chosen.pairs.diff(dim=1) > 0).all()
            assert chosen.pairs.min() >= 0
            assert chosen.pairs.max() < 12
            assert chosen.counts is counts

    @laws
    @given(st.integers(0, 10**6), st.sets(st.integers(0, 11), max_size=8))
    def test_takes_all_pairs_that_have_a_count_where_they_are_few(self, seed: int, moving: set[int]) -> None:
        counts = torch.zeros(6, 12, dtype=torch.int64)
        counts[:, sorted(moving)] = 1 + torch.arange(len(moving))
        for noise in (uniform((6, 12), seed), None):
            for pairs in select_pairs(counts, 8, noise).pairs.tolist():
                assert moving <= set(pairs)

    def test_fills_up_uniformly_from_pairs_without_a_count(self) -> None:
        batch = 20_000
        counts = torch.tensor([[9, 0, 0, 1, 0, 0]]).expand(batch, -1)
        share = shares(select_pairs(counts, 3, uniform((batch, 6))).pairs, 6)
        assert share[[0, 3]].tolist() == [1.0, 1.0]
        assert (share[[1, 2, 4, 5]] - 0.25).abs().max() < 4.5 * (0.25 * 0.75 / batch) ** 0.5

    def test_of_a_still_clip_is_uniform(self) -> None:
        batch, wanted = 20_000, 8
        pairs = select_pairs(torch.zeros(batch, 12, dtype=torch.int64), wanted, uniform((batch, 12))).pairs
        expected = wanted / 12
        deviation = (expected * (1 - expected) / batch) ** 0.5
        assert (shares(pairs, 12) - expected).abs().max() < 4.5 * deviation

    def test_has_the_probabilities_of_drawing_one_after_the_other(self) -> None:
        batch, counts, wanted = 100_000, [1, 2, 3, 6], 2
        exact: dict[tuple[int, ...], float] = {}
        for order in permutations(range(4), wanted):  # one after the other, each by its share of what is left
            probability, left = 1.0, sum(counts)
            for pair in order:
                probability *= counts[pair] / left
                left -= counts[pair]
            drawn = tuple(sorted(order))
            exact[drawn] = exact.get(drawn, 0.0) + probability
        assert sum(exact.values()) == pytest.approx(1.0)
        pairs = select_pairs(torch.tensor([counts]).expand(batch, -1), wanted, uniform((batch, 4))).pairs
        code = (4 * pairs[:, 0] + pairs[:, 1]).bincount(minlength=16) / batch
        for (first, second), probability in exact.items():
            deviation = (probability * (1 - probability) / batch) ** 0.5
            assert float(code[4 * first + second]) == pytest.approx(probability, abs=4.5 * deviation)

    def test_survives_the_ends_of_the_noise(self) -> None:
        noise = torch.tensor([[0.0, 1 - 2**-24, 0.5, 0.0]])
        pairs = select_pairs(torch.tensor([[1, 1, 0, 0]]), 3, noise).pairs
        assert pairs.tolist() == [[0, 1, 3]]


class TestChoosingWithoutRandomness:
    def test_takes_the_largest_counts(self) -> None:
        chosen = select_pairs(torch.tensor([[3, 0, 9, 1, 5]]), 3)
        assert chosen.pairs.tolist() == [[0, 2, 4]]

    def test_takes_the_earlier_of_equal_counts(self) -> None:
        chosen = select_pairs(torch.tensor([[2, 7, 2, 2, 2], [1, 0, 0, 0, 0]]), 3)
        assert chosen.pairs.tolist() == [[0, 1, 2], [0, 1, 2]]

    @pytest.mark.parametrize(
        ("candidates", "wanted", "even"),
        [
            (12, 8, [0, 1, 3, 4, 6, 7, 9, 10]),
            (16, 8, [0, 2, 4, 6, 8, 10, 12, 14]),
            (5, 5, [0, 1, 2, 3, 4]),
            (7, 1, [0]),
        ],
    )
    def test_takes_evenly_spaced_pairs_of_a_still_clip(self, candidates: int, wanted: int, even: list[int]) -> None:
        counts = torch.zeros(2, candidates, dtype=torch.int64)
        counts[1, candidates - wanted :] = 1  # the neighbour in the batch moves
        pairs = select_pairs(counts, wanted).pairs
        assert pairs[0].tolist() == even
        assert pairs[1].tolist() == list(range(candidates - wanted, candidates))


@pytest.mark.parametrize("wanted", [0, -1, 6])
def test_more_pairs_than_there_are_cannot_be_chosen(wanted: int) -> None:
    with pytest.raises(SelectionError, match=f"cannot choose {wanted} of 5 pairs"):
        select_pairs(torch.ones(1, 5, dtype=torch.int64), wanted)


@pytest.mark.parametrize("tubelet_size", [1, 2, 4])
def test_pairs_are_taken_whole_and_in_order(tubelet_size: int) -> None:
    clips = torch.arange(2 * 3 * 6 * tubelet_size * 2 * 5).reshape(2, 3, 6 * tubelet_size, 2, 5)
    chosen = [[0, 2, 5], [1, 3, 4]]
    taken = take_pairs(clips, torch.tensor(chosen), tubelet_size)
    for clip, source, pairs in zip(taken, clips, chosen, strict=True):
        frames = [pair * tubelet_size + frame for pair in pairs for frame in range(tubelet_size)]
        assert torch.equal(clip, source[:, frames])


def test_a_frame_selection_shows_its_shapes() -> None:
    chosen = FrameSelection(torch.zeros(3, 8, dtype=torch.int64), torch.zeros(3, 12, dtype=torch.int64))
    assert repr(chosen) == "FrameSelection(8 of 12 pairs, 3 clips)"
