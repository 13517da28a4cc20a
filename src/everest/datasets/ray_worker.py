"""What a worker of a Ray cluster does: tasks in a process of their own, so that what hangs or dies is a result.

Ray begins anew what a lost worker was doing. Who has begun what how often is kept by :class:`Ledger`, so that a file
that takes its worker with it ends as one that cannot be read instead of going round for ever.
"""

import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from everest.datasets.pool import Lost, run_parallel
from everest.errors import ConfigError, EverestError
from everest.video.backends import describe_decoder

NUM_ATTEMPTS = 3  # workers that may be lost while they have the same item

Block = dict[str, NDArray[Any]]  # columns of what travels through Ray: numbers "index", parcels "parcel"
Finish = Callable[[list[Any]], list[Any]]  # results to results; what is lost stays as it is


@dataclass(frozen=True)
class Parcel:
    """An item or an outcome on its way: Ray Data takes tuples and texts for columns of its own, and changes them."""

    content: Any


@dataclass(frozen=True)
class Job:
    """What all workers have to know of one use of the engine.

    Attributes:
        name: Differs from one use to the next.
        function: The task.
        time_limit_seconds: For an item, or one step of it.
        has_files: Items have a ``target``, whose content travels with the result.
        software: What the program runs with, to compare.
    """

    name: str
    function: Callable[[Any], Any]
    time_limit_seconds: float | None
    has_files: bool
    software: str


@dataclass(frozen=True)
class Then:
    """What is done with the results of a block at once, by something that is made once in each worker: a model.

    Attributes:
        make: Called with ``arguments`` and the name of the device, ``cuda`` or ``cpu``.
        arguments: Kept in Ray's object store, from where a worker takes them once.
        block_size: Items whose results are handed over together.
    """

    make: Callable[..., Finish]
    arguments: tuple[Any, ...]
    block_size: int


class Ledger:
    """Counts how often each item was begun and not ended. Runs as an actor on the machine of the program."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, int]] = Counter()  # by name of the job and index of the item

    def begin(self, job: str, index: int) -> int:
        """Note that a worker begins with an item, and say how many did so before and were lost."""
        self._counts[job, index] += 1
        return self._counts[job, index] - 1

    def begin_all(self, job: str, indices: list[int]) -> bool:
        """Note that a worker begins with items together, unless one of them was begun before and not ended.

        Returns:
            Whether it is noted; else nothing is.
        """
        if any(self._counts[job, index] for index in indices):
            return False
        self._counts.update((job, index) for index in indices)
        return True

    def end(self, job: str, index: int) -> None:
        """Note that a worker has come to the end of an item."""
        del self._counts[job, index]


class Guard:
    """A process that does one task after the other, and is replaced when it hangs or dies."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self._items: list[Any] = []
        limit = job.time_limit_seconds
        self._outcomes = run_parallel(
            job.function, self._given(), num_workers=1, time_limit_seconds=limit, look_ahead=1
        )

    def _given(self) -> Iterator[Any]:
        while self._items:
            yield self._items.pop()

    def do(self, item: Any) -> Any:
        """Do one task; what hangs or dies is :class:`~everest.datasets.pool.Lost`."""
        self._items.append(item)
        _, outcome = next(self._outcomes)
        return outcome

    def close(self) -> None:
        """End the process."""
        self._outcomes.close()  # type: ignore[attr-defined]


_guard: Guard | None = None  # of this worker, kept from one block to the next
_finish: tuple[str, Finish] | None = None  # name of the job, and what was made for it


def do_block(block: Block, job: Job, ledger: Any, then: list[Any]) -> Block:
    """Do the tasks of a block; ``then`` holds a reference to what comes after them, or nothing."""
    torch.set_num_threads(1)  # a worker has one core

    def outcomes(items: list[Any]) -> list[Any]:
        indices = block["index"].tolist()
        found = [_do(job, ledger, index, item) for index, item in zip(indices, items, strict=True)]
        return _finish_block(job, ledger, indices, found, _finisher(job, then[0])) if then else found

    return _with_values(block, outcomes)


class FinishBlock:
    """The second half of :func:`do_block`, for an actor that has a GPU."""

    def __init__(self, job: Job, ledger: Any, then: list[Any]) -> None:
        self._job, self._ledger = job, ledger
        self._finish = _make(then[0], "cuda" if torch.cuda.is_available() else "cpu")

    def __call__(self, block: Block) -> Block:
        """Finish the results of a block."""
        indices = block["index"].tolist()

        def outcomes(results: list[Any]) -> list[Any]:
            return _finish_block(self._job, self._ledger, indices, results, self._finish)

        return _with_values(block, outcomes)


def _finish_block(job: Job, ledger: Any, indices: list[int], results: list[Any], finish: Finish) -> list[Any]:
    """Finish the results of a block at once; one by one where a worker was lost with them, to find out with which."""
    import ray

    name = f"{job.name} then"  # counted apart from the tasks
    if ray.get(ledger.begin_all.remote(name, indices)):
        found = finish(results)
        for index in indices:
            ledger.end.remote(name, index)
        return found
    found = []
    for index, result in zip(indices, results, strict=True):
        given_up = _begin(ledger, name, index)
        found += finish([given_up or result])
        if given_up is None:
            ledger.end.remote(name, index)
    return found


def _begin(ledger: Any, name: str, index: int) -> Lost | None:
    """Note that this worker begins with an item, unless it is given up: that is never ended, so that it stays so."""
    import ray

    if ray.get(ledger.begin.remote(name, index)) < NUM_ATTEMPTS:
        return None
    return Lost(f"{NUM_ATTEMPTS} workers were lost while they had it: memory ran out, or machines failed", None, True)


def _with_values(block: Block, function: Finish) -> Block:
    """Make a block of new values from one of old ones; an error that a user can mend takes the place of each."""
    values = [parcel.content for parcel in block["parcel"]]
    if not any(isinstance(value, EverestError) for value in values):
        try:
            values = function(values)
        except EverestError as error:  # as Ray would hand it on, it could not be told from others
            values = [error] * len(values)
    column = np.empty(len(values), dtype=object)
    for place, value in enumerate(values):
        column[place] = Parcel(value)
    return {"index": block["index"], "parcel": column}


def describe_software() -> str:
    """Name what results depend on."""
    return f"everest {version('everest-video')}, {describe_decoder()}"


def _do(job: Job, ledger: Any, index: int, item: Any) -> Any:
    given_up = _begin(ledger, job.name, index)
    if given_up is not None:
        return given_up
    outcome = _do_guarded(job, item)
    ledger.end.remote(job.name, index)  # it is not waited for
    return outcome


def _do_guarded(job: Job, item: Any) -> Any:
    guard = _guard_for(job)
    if not job.has_files:
        return guard.do(item)
    with tempfile.TemporaryDirectory(prefix="everest-") as folder:
        here = Path(folder) / item.target.name
        outcome = guard.do(replace(item, target=here))
        return outcome, here.read_bytes() if here.is_file() and not isinstance(outcome, Lost) else None


def _guard_for(job: Job) -> Guard:
    global _guard  # noqa: PLW0603 - a task of Ray has nothing else that lasts
    if _guard is None or _guard.job.name != job.name:
        if _guard is not None:
            _guard.close()
        if job.software != describe_software():
            raise ConfigError(
                f"a machine of the cluster has {describe_software()}, this one {job.software}: install the same"
            )
        _guard = Guard(job)
    return _guard


def _finisher(job: Job, reference: Any) -> Finish:
    global _finish  # noqa: PLW0603
    if _finish is None or _finish[0] != job.name:
        _finish = job.name, _make(reference, "cpu")
    return _finish[1]


def _make(reference: Any, device: str) -> Finish:
    import ray

    then: Then = ray.get(reference)
    return then.make(*then.arguments, device)
