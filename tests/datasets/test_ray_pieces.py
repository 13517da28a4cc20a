"""The pieces of the Ray engine that need no cluster: what comes back is counted and put in order."""

import pytest

from everest.datasets.ray_engine import _in_order
from everest.errors import DataError


@pytest.mark.parametrize("first", [0, 40000])
def test_what_never_came_is_counted_in_every_window(first: int) -> None:
    window = [(first + number, "item") for number in range(10)]
    outcomes = iter([(first + number, number) for number in (1, 0, 5, 7)])
    found = []
    with pytest.raises(DataError, match="no result for 6 tasks"):
        found.extend(_in_order(window, outcomes, None, has_files=False))
    assert found == [(first, 0), (first + 1, 1)]
    found = list(_in_order(window, iter([(index, index) for index, _ in reversed(window)]), None, has_files=False))
    assert found == [(index, index) for index, _ in window]
