"""Worker processes for many independent tasks, where one that hangs or dies costs its own result and no other.

Executors of the standard library cannot stop one task, and give all of them up when one process dies. Here each process
has a pipe of its own and one task at a time, so it is known who does what since when.
"""

import gc
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import Any, Generic, Literal, Self, TypeVar

from everest.datasets.pool_worker import Kind, steps_of, work
from everest.errors import DataError, EverestError

Item = TypeVar("Item")
Result = TypeVar("Result")

LOOK_AHEAD = 8  # items per process that may be begun or done before one that is not done
START_SECONDS = 120.0  # for a new process to report that it runs; importing torch takes some of them
_STOP_SECONDS = 2.0  # for an idle process to end by itself


@dataclass(frozen=True)
class Lost:
    """There is no result for an item.

    Attributes:
        reason: Why, in one line.
        error: What the task raised; None where its process was stopped or died.
        has_died: The process died by itself.
        was_stopped: It took too long.
    """

    reason: str
    error: EverestError | None = None
    has_died: bool = False
    was_stopped: bool = False


def run_parallel(
    function: Callable[[Item], Result | Generator[None, None, Result]],
    items: Iterable[Item],
    *,
    num_workers: int,
    time_limit_seconds: float | None,
    on_done: Callable[[int, Result | Lost], None] | None = None,
    look_ahead: int | None = None,
) -> Iterator[tuple[int, Result | Lost]]:
    """Apply a function to items in worker processes.

    Nothing starts before the first result is asked for. When the caller stops early, or is interrupted, the processes
    are killed as soon as the iterator is closed or dropped.

    Args:
        function: The task. It may be a generator function: every ``yield`` says that it gets on and starts the time
            limit anew, and what it returns is the result. Function, items and results must be picklable.
        items: Taken a few at a time, see ``look_ahead``.
        num_workers: Processes; 0 does the work in this one, where nothing can be cut off.
        time_limit_seconds: For one item, or one step of it. What takes longer is killed. None: no limit.
        on_done: Called in this process with index and outcome as soon as an item is done, in the order in which they
            are; for what must be kept even if an earlier item takes for ever.
        look_ahead: Items that may be begun or done before one that is not done; with more of them a slow item keeps
            fewer processes waiting, and more results wait in memory. None: :data:`LOOK_AHEAD` per process.

    Yields:
        Index and outcome of every item, in the order of the items: what the function returned, or :class:`Lost` where
        it raised an :class:`~everest.errors.EverestError` (kept as ``error``), ran out of memory, took too long, or
        its process died.

    Raises:
        RuntimeError: The function raised anything else, in a worker process; the message ends with its traceback. In
            this process the exception comes as it is.
        DataError: No process can be started.
    """
    if num_workers == 0:
        for index, item in enumerate(items):
            outcome = _run_here(function, item)
            if on_done is not None:
                on_done(index, outcome)
            yield index, outcome
        return
    tasks = iter(enumerate(items))
    window = max(num_workers, LOOK_AHEAD * num_workers if look_ahead is None else look_ahead)
    done: dict[int, Result | Lost] = {}
    num_begun = num_yielded = 0
    pool: _Pool[Item, Result] = _Pool(function, num_workers, time_limit_seconds)
    with pool:
        while True:
            while pool.has_room and num_begun - num_yielded < window:
                task = next(tasks, None)
                if task is None:
                    break
                pool.begin(*task)
                num_begun += 1
            if num_yielded == num_begun:
                return
            for index, outcome in pool.collect(wait_for_one=num_yielded not in done):
                done[index] = outcome
                if on_done is not None:
                    on_done(index, outcome)
            if num_yielded in done:
                yield num_yielded, done.pop(num_yielded)
                num_yielded += 1


@dataclass(eq=False)
class _Worker:
    """A process, the pipe to it, and what it does."""

    process: BaseProcess
    connection: Connection
    deadline: float  # of the start or of the task
    is_ready: bool = False
    index: int | None = None  # the item that it works on

    def stop(self) -> None:
        """End the process: tell it to where it waits, else by force."""
        if self.index is None and self.is_ready:
            with suppress(OSError):
                self.connection.send(None)
            self.process.join(_STOP_SECONDS)
        self.process.kill()  # nothing happens where it has ended
        self.process.join()
        self.connection.close()


class _Pool(Generic[Item, Result]):
    """Processes that do one task each. Use it in a ``with`` statement."""

    def __init__(self, function: Callable[[Item], Any], num_workers: int, time_limit_seconds: float | None) -> None:
        self._function = function
        self._num_workers = num_workers
        self._limit = float("inf") if time_limit_seconds is None else time_limit_seconds
        self._context = multiprocessing.get_context(_start_method())
        self._workers: list[_Worker] = []

    @property
    def has_room(self) -> bool:
        """Whether a task can begin at once."""
        return sum(worker.index is not None for worker in self._workers) < self._num_workers

    def begin(self, index: int, item: Item) -> None:
        """Give an item to an idle process, or to a new one."""
        worker = next((w for w in self._workers if w.index is None), None)
        if worker is not None and not worker.process.is_alive():
            self._remove(worker)
            worker = None
        worker = worker or self._start()
        worker.index = index
        if worker.is_ready:
            worker.deadline = time.monotonic() + self._limit
        with suppress(BrokenPipeError, ConnectionResetError):  # it died just now, which collect() notices
            worker.connection.send((item,))

    def collect(self, wait_for_one: bool) -> list[tuple[int, Result | Lost]]:
        """Take what has been done, or died, or is over its time."""
        busy = [worker for worker in self._workers if worker.index is not None]
        timeout: float | None = 0.0
        if wait_for_one:
            timeout = max(0.0, min(worker.deadline for worker in busy) - time.monotonic())
        signs = [w.connection for w in busy] + [w.process.sentinel for w in busy]
        ready = wait(signs, None if timeout == float("inf") else timeout)
        outcomes = []
        for worker in busy:
            index = worker.index
            if worker.connection in ready:
                outcome = self._receive(worker)
            elif worker.process.sentinel in ready:
                outcome = (self._bury(worker),)
            elif time.monotonic() > worker.deadline:
                outcome = (self._bury(worker, is_late=True),)
            else:
                continue
            if index is not None:
                outcomes += [(index, each) for each in outcome]
        return outcomes

    def _receive(self, worker: _Worker) -> tuple[Result | Lost, ...]:
        """Read one message; empty where it is not the end of the task."""
        kind: Kind
        try:
            kind, content = worker.connection.recv()
        except (EOFError, ConnectionResetError):
            return (self._bury(worker),)
        worker.deadline = time.monotonic() + self._limit
        if kind == "ready":
            worker.is_ready = True
        if kind in {"ready", "alive"}:
            return ()
        if kind == "failure":
            raise RuntimeError(f"a task failed in a worker process:\n{content}")
        worker.index = None
        return (_lost(content) if kind == "error" else content,)

    def _bury(self, worker: _Worker, is_late: bool = False) -> Lost:
        """Remove a process that died, or that has to."""
        if is_late:
            worker.process.kill()
        worker.process.join()
        code = worker.process.exitcode or 0
        was_ready = worker.is_ready
        self._remove(worker)
        if not was_ready:
            raise DataError(
                f"a worker process could not start ({_fate(code)}): a script must start work under "
                "`if __name__ == '__main__':`; or use 0 workers"
            )
        if is_late:
            return Lost(f"took longer than {self._limit:g} s and was stopped", was_stopped=True)
        return Lost(f"its process {_fate(code)}", has_died=True)

    def _start(self) -> _Worker:
        # A decoded frame that waits for the garbage collector may own threads, which a forked process does not have.
        gc.collect()
        ours, theirs = self._context.Pipe()
        # Of the classes that a context may have, the types know only their common base, without a constructor.
        make: Any = self._context
        process: BaseProcess = make.Process(target=work, args=(self._function, theirs), daemon=True)
        try:
            process.start()
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        worker = _Worker(process, ours, time.monotonic() + START_SECONDS)
        self._workers.append(worker)
        return worker

    def _remove(self, worker: _Worker) -> None:
        self._workers.remove(worker)
        worker.index = None
        worker.stop()
        worker.process.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self._workers:  # all at once, before any is waited for
            if worker.index is not None:
                worker.process.kill()
        for worker in [*self._workers]:
            worker.stop()
            worker.process.close()
        self._workers.clear()


def _run_here(function: Callable[[Item], Any], item: Item) -> Any:
    steps = steps_of(function, item)
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            return stop.value
        except (EverestError, MemoryError) as error:
            return _lost(error)


def _lost(error: EverestError | MemoryError) -> Lost:
    if isinstance(error, EverestError):
        return Lost(str(error), error)
    return Lost("memory ran out")


def _fate(code: int) -> str:
    """Say how a process ended."""
    if code >= 0:
        return f"ended with exit code {code}"
    name = next((s.name for s in signal.Signals if s.value == -code), f"signal {-code}")
    return f"was killed by {name}" + (", probably because memory ran out" if name == "SIGKILL" else "")


def num_cores() -> int:
    """Count the cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)  # not on macOS and Windows
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _start_method() -> Literal["fork", "spawn"]:
    """Forking is quick, but only safe on Linux."""
    return "fork" if sys.platform == "linux" else "spawn"
