"""Which file each worker process reads, so that one that hangs can be stopped and one that dies can be named."""

import multiprocessing
import os
import re
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Protocol

from torch.utils.data import get_worker_info

from everest.datasets.records import ClipRecord

_FIELDS = 3  # of a worker: its process, the record that it reads or -1, and since when in nanoseconds
_PIDS = re.compile(r"pid(?:\(s\))?:? ([0-9, ]+)")
_LOOK_SECONDS = 0.2  # between two looks at the workers
_DEATH_SECONDS = 1.0  # in which a process that has closed its connections counts as ended
GRACE = 1.25  # a reader notices by itself that its time is up, unless it hangs: only then it is stopped from outside


DIED = "the process that read it died: the decoder crashed, or memory ran out"


def say_stopped(limit_seconds: float) -> str:
    """Say that reading was stopped from outside."""
    return f"reading took longer than {limit_seconds:g} s and was stopped"


@dataclass(frozen=True)
class DeadWorker:
    """A worker process that ended before its time.

    Attributes:
        record_index: What it was reading; None where it was between two files.
        was_stopped: It was over the time limit.
    """

    record_index: int | None
    was_stopped: bool


class Watch:
    """A table in shared memory, one row for each worker process. Made in the parent, inherited by the workers.

    Args:
        num_workers: Rows.
        time_limit_seconds: A worker that reads one record for longer is killed (by :meth:`guard`).
    """

    def __init__(self, num_workers: int, time_limit_seconds: float) -> None:
        self.num_workers = num_workers
        self.time_limit_seconds = time_limit_seconds
        self._table = multiprocessing.RawArray("q", [0, -1, 0] * max(num_workers, 1))
        self._stopped: set[int] = set()

    def enter(self, number: int) -> None:
        """Note in a worker which process it is."""
        self._table[number * _FIELDS] = os.getpid()

    @contextmanager
    def reading(self, record_index: int) -> Iterator[None]:
        """Note in a worker what it reads; in the parent process nothing is noted."""
        worker = get_worker_info()
        if worker is None:
            yield
            return
        row = worker.id * _FIELDS
        self._table[row + 2] = time.monotonic_ns()
        self._table[row + 1] = record_index
        try:
            yield
        finally:
            self._table[row + 1] = -1

    @contextmanager
    def guard(self) -> Iterator[None]:
        """Kill workers that are over the limit for as long as the block lasts. For the parent process."""
        over = threading.Event()
        thread = threading.Thread(target=self._look, args=(over,), name="everest-watch", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _look(self, over: threading.Event) -> None:
        limit = int(self.time_limit_seconds * GRACE * 1e9)
        while not over.wait(min(_LOOK_SECONDS, self.time_limit_seconds / 4)):
            for row in range(0, len(self._table), _FIELDS):
                pid, record_index, since = self._table[row : row + _FIELDS]
                if record_index >= 0 and time.monotonic_ns() - since > limit and _is_running(pid):
                    self._stopped.add(pid)
                    _kill(pid)

    def end(self) -> None:
        """Kill all workers, whatever they are doing."""
        for pid in self._table[::_FIELDS]:
            if pid and _is_running(pid):
                _kill(pid)

    def find_dead(self, message: str) -> DeadWorker | None:
        """Find out who died when a loader fails; None where all live.

        The loader may name some of the dead in its message, or none: the thread that pins memory, or an item that was
        on its way, may fail first, a little before the process counts as ended.

        Args:
            message: What the loader says.
        """
        match = _PIDS.search(message) if "worker" in message else None
        named = set() if match is None else {int(pid) for pid in match[1].replace(",", " ").split()}
        deadline = time.monotonic() + (0.0 if named else _DEATH_SECONDS)
        while True:
            rows = [self._table[row : row + _FIELDS] for row in range(0, len(self._table), _FIELDS)]
            rows = [row for row in rows if row[0] and (row[0] in named or not _is_running(row[0]))]
            if named or rows or time.monotonic() >= deadline:
                break
            time.sleep(_DEATH_SECONDS / 20)
        if not named and not rows:
            return None
        first = min((row for row in rows if row[1] >= 0), key=lambda row: row[2], default=None)
        if first is None:
            return DeadWorker(None, False)
        return DeadWorker(first[1], first[0] in self._stopped)

    def clear(self) -> None:
        """Forget everything, for new workers."""
        self._table[:] = [0, -1, 0] * (len(self._table) // _FIELDS)
        self._stopped.clear()


def _is_running(pid: int) -> bool:
    """Whether a process of ours has not ended; what it left behind is not collected, which is its owner's task."""
    if not hasattr(os, "waitid"):
        return True
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
    except ChildProcessError:
        return False


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):  # it has ended in the meantime
        os.kill(pid, signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)


class Watched(Protocol):
    """A data set that notes what it reads, and can be told what not to read any more."""

    watch: Watch | None

    @property
    def records(self) -> Sequence[ClipRecord]:
        """What it reads from."""

    def mark_unreadable(self, record_index: int, reason: str) -> None:
        """Treat a record as one that cannot be read, for this reason, from now on."""
