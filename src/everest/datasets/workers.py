"""Worker processes that survive what they read: one that hangs or dies costs a file, not the run."""

import gc
import inspect
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset
from torch.utils.data._utils import signal_handling

from everest.datasets.handover import PREFETCH_FACTOR, Taker
from everest.datasets.pool_worker import end_with_parent
from everest.datasets.watch import DIED, DeadWorker, Watch, Watched, say_stopped
from everest.errors import DataError

MAX_AUTO_WORKERS = 8
MAX_SILENT_DEATHS = 3  # of workers that were not reading anything, one after the other
# What a worker takes from its parent only, where the system says who sends a signal (Linux does).
_HEARD = {signal.SIGTERM, signal.SIGUSR1} if hasattr(signal, "sigwaitinfo") else set()

_LOG = logging.getLogger("everest")


class Workers:
    """Reads items of a data set in worker processes, in the order that a sampler gives.

    A worker that reads one record for longer than the limit is killed. When a worker is gone, for that or another
    reason, the record that it was reading is marked as unreadable and reading goes on, with new workers, at the first
    item that was not handed over. So the items that come out are the same, but for that record.

    Args:
        dataset: Gives the items. What it reads are the records of ``watched``.
        watched: Notes what it reads; mostly the same object.
        num_workers: Processes; 0 reads in this one, where nothing can be cut off.
        time_limit_seconds: For one record.
        pin_memory: Hand over pinned memory.
        persistent: Keep the processes from one use to the next.
    """

    def __init__(
        self,
        dataset: Dataset[Any],
        watched: Watched,
        *,
        num_workers: int,
        time_limit_seconds: float,
        pin_memory: bool = False,
        persistent: bool = False,
    ) -> None:
        self.num_workers = num_workers
        self._dataset = dataset
        self._watched = watched
        self._time_limit_seconds = time_limit_seconds
        self._pin_memory = pin_memory
        self._persistent = persistent
        self._kept: DataLoader[Any] | None = None
        self._watch = Watch(num_workers, time_limit_seconds)
        watched.watch = self._watch if num_workers else None

    def read(self, remaining: Callable[[int], Iterable[Any]]) -> Iterator[Any]:
        """Read items.

        Args:
            remaining: Gives the sampler for what is left after a number of items; the same object every time where
                the processes are kept.

        Raises:
            DataError: Workers die again and again without reading anything.
        """
        num_done = num_silent = 0
        while True:
            loader = self._kept or self._make(remaining(num_done))
            if self._kept is not None:
                remaining(num_done)  # the sampler that the kept loader has is told where to go on
            dead: DeadWorker | None = None
            with self._watch.guard() if self.num_workers else nullcontext():
                items: Iterator[Any] | None = None
                taker = Taker(self.num_workers)
                while dead is None:
                    try:
                        if items is None:  # here, for kept workers may have died since they were last asked
                            items = _iterate(loader)
                        item = next(items)
                    except StopIteration:
                        return
                    except (RuntimeError, OSError, EOFError) as error:  # the latter two: in the middle of handing over
                        self._kept = None
                        dead = self._watch.find_dead(str(error))
                        if dead is None:
                            raise
                        break
                    except BaseException:  # who waits has given up; what a worker is busy with may take minutes
                        self._kept = None
                        self._watch.end()
                        raise
                    yield taker.take(item)
                    num_done += 1
                    num_silent = 0
            del items, loader
            num_silent = num_silent + 1 if dead.record_index is None else 0
            if num_silent >= MAX_SILENT_DEATHS:
                raise DataError(
                    f"worker processes were killed {num_silent} times while they read nothing: memory has probably run "
                    "out; lower data.num_workers or data.batch_size"
                )
            self._blame(dead)

    def _make(self, sampler: Iterable[Any]) -> DataLoader[Any]:
        self._watch.clear()
        workers = self.num_workers
        loader: DataLoader[Any] = DataLoader(
            self._dataset,
            batch_size=None,  # items are whole batches
            sampler=sampler,
            num_workers=workers,
            collate_fn=_as_is,
            pin_memory=self._pin_memory,
            worker_init_fn=partial(_start_worker, self._watch),
            persistent_workers=self._persistent and workers > 0,
            prefetch_factor=PREFETCH_FACTOR if workers > 0 else None,
            generator=torch.Generator(),  # its own: drawing from the global one would change the training's randomness
        )
        if self._persistent:
            self._kept = loader
        return loader

    def _blame(self, dead: DeadWorker) -> None:
        if dead.record_index is None:
            _LOG.warning("a worker process died while it read nothing; it is replaced")
            return
        reason = say_stopped(self._time_limit_seconds) if dead.was_stopped else DIED
        self._watched.mark_unreadable(dead.record_index, reason)


def resolve_num_workers(num_workers: int) -> int:
    """Replace -1 by one process per spare core, at least one and at most eight.

    Processes that share the machine share its cores. One there is always: what hangs or crashes in it can be stopped.
    """
    if num_workers >= 0:
        return num_workers
    affinity = getattr(os, "sched_getaffinity", None)  # not on macOS and Windows
    num_cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    num_local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # set by torchrun
    return min(max(1, num_cores // num_local - 1), MAX_AUTO_WORKERS)


def _iterate(loader: DataLoader[Any]) -> Iterator[Any]:
    """Start the worker processes, if they are not running.

    torch installs a handler that raises the death of a worker wherever the main thread stands, in the middle of an
    optimiser step for one. It is taken out again, also where another loader of the program brought it: a loader finds
    out by itself when it waits for that worker.
    """
    if loader.num_workers > 0:
        # A decoded frame that waits for the garbage collector may own threads, which a forked process does not have;
        # a worker that collects it waits for them for ever.
        gc.collect()
    is_main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGCHLD) if is_main and hasattr(signal, "SIGCHLD") else None
    items = iter(loader)
    if before is not None:
        signal.signal(signal.SIGCHLD, _without_torch(before))
    return items


def _without_torch(handler: Any) -> Any:
    """The handler that torch's own wraps, where this one is torch's."""
    if getattr(handler, "__module__", None) != signal_handling.__name__:
        return handler
    return inspect.getclosurevars(handler).nonlocals.get("previous_handler") or signal.SIG_DFL


def _as_is(item: Any) -> Any:
    return item


def _start_worker(watch: Watch, number: int) -> None:
    watch.enter(number)
    torch.set_num_threads(1)
    if _HEARD:
        signal.pthread_sigmask(signal.SIG_BLOCK, _HEARD)  # in the threads that are started from here on, too
        threading.Thread(target=_end_if_parent_says_so, daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C stops the program, which stops its workers
    threading.Thread(target=end_with_parent, daemon=True).start()


def _end_if_parent_says_so() -> None:
    """Listen to the signals of the program only, in a process whose other threads do not hear them.

    Launchers and schedulers signal whole groups of processes. The program decides what that means: a run reads on until
    its step is done. Without its workers it would take other videos for those that they were reading.
    """
    while signal.sigwaitinfo(_HEARD).si_pid != os.getppid():
        pass
    os._exit(1)
