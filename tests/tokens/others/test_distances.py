"""Distances are those of their names, and exactly 0 where nothing changes."""

import pytest
import torch
from torch import Tensor

from everest.errors import SelectionError
from everest.tokens.others.distances import cosine_scores, l1_scores


def tokens(dtype: torch.dtype = torch.float32) -> Tensor:
    """Tokens of two clips with four slots of six, shape [2, 4, 6, 192]; half of those of slot 2 repeat."""
    values = torch.randn(2, 4, 6, 192, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype)
    values[:, 2, ::2] = values[:, 1, ::2]
    return values


def test_l1_is_the_sum_of_absolute_changes() -> None:
    changes = tokens().diff(dim=1)
    expected = changes.abs().sum(dim=-1)
    scores = l1_scores(changes).reshape(2, 4, 6)
    torch.testing.assert_close(scores[:, 1:], expected)
    assert torch.equal(scores[:, 0], scores[:, 1])


def test_cosine_is_that_of_neighbouring_slots() -> None:
    values = tokens(torch.float64)
    expected = 1 - torch.cosine_similarity(values[:, 1:], values[:, :-1], dim=-1)
    scores = cosine_scores(values[:, 1:], values.diff(dim=1)).reshape(2, 4, 6)
    torch.testing.assert_close(scores[:, 1:], expected)
    assert torch.equal(scores[:, 0], scores[:, 1])


def test_what_is_still_scores_exactly_nothing_and_nothing_else_does() -> None:
    values = tokens()
    for scores in (l1_scores(values.diff(dim=1)), cosine_scores(values[:, 1:], values.diff(dim=1))):
        still = scores.reshape(2, 4, 6) == 0
        assert still[:, 2, ::2].all()
        assert still.sum() == 2 * 3


def test_cosine_keeps_its_digits_where_the_angle_is_small() -> None:
    values = tokens()[:, :2]
    changes = 1e-5 * values[:, 1:].roll(1, dims=-1)
    exact = cosine_scores(values[:, 1:].double(), changes.double())
    torch.testing.assert_close(cosine_scores(values[:, 1:], changes).double(), exact, rtol=0.02, atol=0)


def test_cosine_does_not_see_what_only_grows() -> None:
    values = tokens()[:, 1:]
    assert cosine_scores(values, values / 2).max() < 1e-6
    torch.testing.assert_close(cosine_scores(values, 2 * values), torch.full((2, 24), 2.0))  # turned round
    torch.testing.assert_close(cosine_scores(values, values), torch.full((2, 24), 0.5))  # from nothing


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_scores_are_in_float32_at_least(dtype: torch.dtype) -> None:
    values = tokens(dtype)
    assert l1_scores(values.diff(dim=1)).dtype == torch.promote_types(dtype, torch.float32)


def test_one_slot_is_refused() -> None:
    none = torch.zeros(1, 0, 6, 8)
    with pytest.raises(SelectionError, match="at least two"):
        l1_scores(none)
    with pytest.raises(SelectionError, match="at least two"):
        cosine_scores(none, none)
