import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from everest.errors import DataError
from everest.evaluation import (
    confusion_matrix,
    majority_accuracy,
    per_class_accuracy,
    sign_test,
    top_k_accuracy,
    wilson_interval,
)
from everest.evaluation.metrics import rank_classes

PROBABILITIES = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7], [0.2, 0.5, 0.3], [0.4, 0.35, 0.25]])
LABELS = torch.tensor([0, 1, 0, 0])  # first, second, third and first choice


def test_top_k_counts_the_clips_whose_class_is_among_the_first() -> None:
    assert [top_k_accuracy(PROBABILITIES, LABELS, k) for k in (1, 2, 3, 9)] == [0.5, 0.75, 1.0, 1.0]


def test_equally_probable_classes_rank_by_index() -> None:
    same = torch.full((2, 40), 1 / 40)
    assert rank_classes(same).tolist() == [list(range(40))] * 2
    assert top_k_accuracy(same, torch.tensor([4, 5]), 5) == 0.5


def test_confusion_has_true_classes_in_rows() -> None:
    predicted, labels = torch.tensor([0, 2, 1, 1, 2]), torch.tensor([0, 2, 2, 1, 2])
    confusion = confusion_matrix(predicted, labels, 4)
    assert confusion.dtype == torch.int64
    assert confusion.tolist() == [[1, 0, 0, 0], [0, 1, 0, 0], [0, 1, 2, 0], [0, 0, 0, 0]]
    assert per_class_accuracy(confusion) == [1.0, 1.0, pytest.approx(2 / 3), None]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=60))
def test_confusion_holds_every_clip_once(pairs: list[tuple[int, int]]) -> None:
    predicted, labels = (torch.tensor(values) for values in zip(*pairs, strict=True))
    confusion = confusion_matrix(predicted, labels, 7)
    assert int(confusion.sum()) == len(pairs)
    assert all(int(confusion[t, p]) == pairs.count((p, t)) for p, t in pairs)
    one_hot = torch.nn.functional.one_hot(predicted, 7).float()
    assert top_k_accuracy(one_hot, labels, 1) == pytest.approx(int(confusion.diagonal().sum()) / len(pairs))


def test_majority_is_the_share_of_the_largest_class() -> None:
    assert majority_accuracy(torch.tensor([3, 1, 3, 0, 3])) == 0.6


@pytest.mark.parametrize(
    ("right", "total", "low", "high"),
    [  # newcombe 1998, table I, method 3 (95 %)
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_interval_has_the_published_values(right: int, total: int, low: float, high: float) -> None:
    assert wilson_interval(right, total) == pytest.approx((low, high), abs=5e-5)


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 3000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_interval_holds_the_share_and_mirrors(counts: tuple[int, int]) -> None:
    right, total = counts
    low, high = wilson_interval(right, total)
    assert 0 <= low <= right / total <= high <= 1
    assert low < high
    assert wilson_interval(total - right, total) == pytest.approx((1 - high, 1 - low), abs=1e-12)


def test_the_sign_test_has_the_known_values() -> None:
    assert sign_test(0, 0) == 1
    assert sign_test(5, 0) == sign_test(0, 5) == 2 / 32
    assert sign_test(9, 4) == pytest.approx(0.2668, abs=1e-4)
    assert sign_test(7, 7) == 1


def test_many_clips_are_tested_as_few_are() -> None:
    for fewer in (420, 450, 480, 500):
        exact, near = sign_test(fewer, 1000 - fewer), sign_test(fewer, 1001 - fewer)
        assert near == pytest.approx(exact, abs=0.03)
        assert 0 <= near <= 1


def test_numbers_need_clips() -> None:
    none = torch.empty(0, dtype=torch.int64)
    for call in (
        lambda: top_k_accuracy(torch.empty(0, 3), none),
        lambda: majority_accuracy(none),
        lambda: wilson_interval(0, 0),
    ):
        with pytest.raises(DataError, match="at least one clip"):
            call()
    with pytest.raises(DataError, match="from 0 to 5, given: 6"):
        wilson_interval(6, 5)
