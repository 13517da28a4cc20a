"""The pieces of the Ray engine that need no cluster: the order of results, and who kills its worker is found."""

import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from everest.datasets import ray_worker
from everest.datasets.pool import Lost
from everest.datasets.ray_engine import _in_order
from everest.datasets.ray_worker import NUM_ATTEMPTS, FinishBlock, Job, Ledger, Parcel, Then, do_block
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


class WorkerLostError(BaseException):
    """The worker is gone: nothing of it goes on."""


def remote(ledger: Ledger) -> Any:
    """A ledger as those see it who are elsewhere."""
    names = ("begin", "begin_all", "end")
    return SimpleNamespace(**{name: SimpleNamespace(remote=getattr(ledger, name)) for name in names})


class Model:
    """Memory runs out with some items, or with too many at once."""

    def __init__(self, killers: set[int], at_once: int, device: str) -> None:
        self._killers, self._at_once = killers, at_once

    def __call__(self, results: list[Any]) -> list[Any]:
        good = [result for result in results if not isinstance(result, Lost)]
        if self._killers & {*good} or len(good) > self._at_once:
            raise WorkerLostError
        return [result if isinstance(result, Lost) else 10 * result for result in results]


Stage = Callable[[dict[str, Any], Job, Any, list[Any]], dict[str, Any]]


def on_a_gpu(block: dict[str, Any], job: Job, ledger: Any, then: list[Any]) -> dict[str, Any]:
    return FinishBlock(job, ledger, then)(block)


@pytest.mark.parametrize("stage", [do_block, on_a_gpu])
@pytest.mark.parametrize(
    ("killers", "at_once", "num_lost"), [({2}, 9, 3), ({0, 4}, 9, 5), (set(), 3, 1), (set(), 9, 0)]
)
def test_what_kills_its_worker_in_the_model_is_given_up_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, stage: Stage, killers: set[int], at_once: int, num_lost: int
) -> None:
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(get=lambda value: value))
    monkeypatch.setattr(ray_worker, "_finish", None)
    monkeypatch.setattr(ray_worker, "_guard_for", lambda job: SimpleNamespace(do=lambda item: item))
    ledger, job = Ledger(), Job("job", abs, None, False, "")
    column = np.empty(5, dtype=object)
    column[:] = [Parcel(number) for number in range(5)]
    block = {"index": np.arange(100, 105), "parcel": column}
    found, lost = None, 0
    while found is None:
        try:
            found = stage(block, job, remote(ledger), [Then(Model, (killers, at_once), 5)])
        except WorkerLostError:  # Ray begins anew
            lost += 1
            assert lost < 20, "it goes round for ever"
    results = [parcel.content for parcel in found["parcel"]]
    assert [number for number, result in enumerate(results) if isinstance(result, Lost)] == sorted(killers)
    assert all(result == 10 * number for number, result in enumerate(results) if number not in killers)
    assert all(f"{NUM_ATTEMPTS} workers were lost" in results[number].reason for number in killers)
    assert lost == num_lost
    assert {index - 100 for _, index in +ledger._counts} == killers  # nothing else counts as begun
