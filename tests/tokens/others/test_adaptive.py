"""Laws of adaptive counts: enough tokens for the share that is asked for, never more than needed, within limits.

Shapes: B clips, N tokens.
"""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from everest.errors import SelectionError
from everest.tokens import rank_by_score
from everest.tokens.others.adaptive import count_by_coverage, split_by_count

laws = settings(max_examples=50, deadline=None, derandomize=True)


def random_scores(batch: int = 3, num: int = 40, seed: int = 0) -> Tensor:
    return torch.rand(batch, num, generator=torch.Generator().manual_seed(seed)) ** 4


class TestCounts:
    @laws
    @given(st.integers(1, 999), st.integers(0, 1000))
    def test_as_few_as_cover_the_share(self, thousandths: int, seed: int) -> None:
        coverage, scores = thousandths / 1000, random_scores(seed=seed)
        counts = count_by_coverage(scores, coverage, 1, 40)
        for clip, count in zip(scores.double(), counts.tolist(), strict=True):
            largest = clip.sort(descending=True).values
            assert float(largest[:count].sum()) >= coverage * float(clip.sum()) * (1 - 1e-9)
            assert float(largest[: count - 1].sum()) < coverage * float(clip.sum())

    def test_known_counts(self) -> None:
        scores = torch.tensor([[8.0, 1, 0.5, 0.5], [1, 1, 1, 1]])
        assert count_by_coverage(scores, 0.8, 1, 4).tolist() == [1, 4]
        assert count_by_coverage(scores, 0.9, 1, 4).tolist() == [2, 4]
        assert count_by_coverage(scores, 0.5, 1, 4).tolist() == [1, 2]  # exactly half is half
        assert count_by_coverage(scores, 1.0, 1, 4).tolist() == [4, 4]

    def test_a_still_clip_keeps_the_least(self) -> None:
        assert count_by_coverage(torch.zeros(2, 10), 0.8, 3, 9).tolist() == [3, 3]

    def test_limits_hold(self) -> None:
        counts = count_by_coverage(random_scores(64), 0.7, 9, 11)
        assert set(counts.tolist()) <= {9, 10, 11}
        assert len(set(counts.tolist())) > 1

    def test_where_all_change_counts_nothing_that_is_still(self) -> None:
        scores = torch.tensor([[3.0, 0, 2, 0, 0, 1]])
        assert count_by_coverage(scores, 1.0, 1, 6).tolist() == [3]

    def test_a_clip_does_not_depend_on_its_batch(self) -> None:
        scores = random_scores(8)
        together = count_by_coverage(scores, 0.8, 1, 40)
        assert together.tolist() == [int(count_by_coverage(clip[None], 0.8, 1, 40)) for clip in scores]

    @pytest.mark.parametrize(
        ("coverage", "least", "most"), [(0, 1, 5), (1.1, 1, 5), (0.5, 0, 5), (0.5, 6, 5), (1, 1, 41)]
    )
    def test_what_is_out_of_range_is_refused(self, coverage: float, least: int, most: int) -> None:
        with pytest.raises(SelectionError, match=r"least <= most <= 40.*given"):
            count_by_coverage(random_scores(), coverage, least, most)


class TestSplit:
    def test_keeps_the_first_of_each_clip_and_shares_them_out(self) -> None:
        ranked = rank_by_score(random_scores())
        kept, encoded = torch.tensor([5, 40, 2]), torch.tensor([2, 10, 1])
        noise = torch.rand(ranked.shape, generator=torch.Generator().manual_seed(1))
        visible, target = split_by_count(ranked, kept, encoded, noise)
        assert not bool((visible & target).any())
        assert visible.sum(dim=1).tolist() == [2, 10, 1]
        for clip in range(3):
            both = (visible | target)[clip].nonzero().squeeze(1).tolist()
            assert sorted(both) == sorted(ranked[clip, : kept[clip]].tolist())

    def test_noise_decides_which_are_encoded(self) -> None:
        ranked, count = torch.tensor([[3, 1, 0, 2]]), torch.tensor([3])
        visible, target = split_by_count(ranked, count, torch.tensor([1]), torch.tensor([[0.9, 0.2, 0.5, 0.0]]))
        assert visible.tolist() == [[False, True, False, False]]  # the kept one with the smallest noise
        assert target.tolist() == [[True, False, False, True]]
