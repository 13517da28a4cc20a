"""A packed selection lists the tokens of clips one after another, and is checked like any other.

Shapes: B clips, N tokens, V visible, M targets.
"""

import pytest
import torch

from everest.errors import SelectionError
from everest.tokens import TokenCounts, TokenGrid, TokenSelection, gather_tokens
from everest.tokens.others.packed import pack_selection

GRID = TokenGrid(2, 2, 2, 2, 4)  # 8 tokens


def masks(*clips: tuple[set[int], set[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    visible, target = (torch.tensor([[n in clip[i] for n in range(8)] for clip in clips]) for i in (0, 1))
    return visible, target


def test_lists_each_clip_after_the_other() -> None:
    selection = pack_selection(*masks(({1, 5}, {0}), ({7}, {2, 3, 4})), GRID)
    assert selection.visible.tolist() == [[1, 5, 8 + 7]]
    assert selection.target.tolist() == [[0, 8 + 2, 8 + 3, 8 + 4]]
    assert selection.counts == (TokenCounts(2, 1), TokenCounts(1, 3))
    assert selection.num_clips == 2
    assert selection.places(selection.visible).tolist() == [[1, 5, 7]]
    assert repr(selection) == "TokenSelection(visible [1, 3], target [1, 4] of 2 clips, of 8 tokens)"


def test_tokens_are_taken_from_their_clips() -> None:
    selection = pack_selection(*masks(({1, 5}, set()), ({7}, set())), GRID)
    values = torch.arange(2 * 8 * 3).reshape(2, 8, 3)
    taken = gather_tokens(values, selection.visible)
    assert torch.equal(taken, torch.stack([values[0, 1], values[0, 5], values[1, 7]])[None])


def test_equal_clips_are_what_a_selection_of_rows_is() -> None:
    visible, target = masks(({1, 5}, {0, 2}), ({3, 7}, {4, 6}))
    packed = pack_selection(visible, target, GRID)
    rows = TokenSelection(torch.tensor([[1, 5], [3, 7]]), torch.tensor([[0, 2], [4, 6]]), GRID)
    values = torch.rand(2, 8, 3)
    assert torch.equal(gather_tokens(values, packed.target).reshape(2, 2, 3), gather_tokens(values, rows.target))
    assert rows.num_clips == packed.num_clips == 2
    assert rows.places(rows.visible) is rows.visible


@pytest.mark.parametrize(
    "counts",
    [
        (TokenCounts(2, 1), TokenCounts(2, 3)),  # one more visible than there are
        (TokenCounts(3, 4), TokenCounts(0, 0)),  # a clip without a token
        (TokenCounts(1, 3), TokenCounts(2, 0)),  # fewer targets
    ],
)
def test_counts_that_do_not_fit_are_refused(counts: tuple[TokenCounts, ...]) -> None:
    visible, target = torch.tensor([[1, 5, 15]]), torch.tensor([[0, 10, 11, 12]])
    with pytest.raises(SelectionError, match="do not fit"):
        TokenSelection(visible, target, GRID, counts=counts)


def test_more_tokens_than_a_clip_has_are_refused() -> None:
    with pytest.raises(SelectionError, match="do not fit"):
        TokenSelection(
            torch.zeros(1, 9, dtype=torch.int64),
            torch.zeros(1, 1, dtype=torch.int64),
            GRID,
            counts=(TokenCounts(8, 1), TokenCounts(1, 0)),
        )
