"""Between two optimiser steps: whether the state is saved now, and whether the run stops. All processes agree."""

import time
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import distributed

from everest.config import RunConfig
from everest.training.stopping import SIGNALS, asked_to_stop, stop_if_asked


class Answer(NamedTuple):
    """What all processes do at a boundary.

    Attributes:
        save: It is time to save.
        asked: Name of the signal by which any of them was asked to stop; empty where none was.
        was_abandoned: One of them has left something unfinished because of it.
    """

    save: bool
    asked: str
    was_abandoned: bool


class Boundary:
    """Decides at the end of each step.

    Clocks differ and signals come to single processes, so time is what the main process says, and a signal to one is
    a signal to all. They agree by one exchange of three numbers on the CPU, which waits for no GPU.

    Args:
        run: How often to save.
        rank: Number of this process.
        world_size: Number of processes; all make their boundaries together.
        clock: Seconds from any fixed moment; monotonic, so that setting the machine's clock changes nothing.
    """

    def __init__(self, run: RunConfig, rank: int, world_size: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._run, self._is_main, self._clock = run, rank == 0, clock
        self._is_alone = world_size == 1
        self._saved_at = clock()
        self._group: distributed.ProcessGroup | None = None
        if not self._is_alone and distributed.get_backend() != "gloo":
            self._group = distributed.new_group(backend="gloo")

    def ask(self, step: int, *, was_abandoned: bool = False) -> Answer:
        """Find out what is to be done; every process must call it at the same boundaries.

        Args:
            step: Optimiser steps done.
            was_abandoned: This process has left something unfinished because it was asked to stop.
        """
        minutes, steps = self._run.save_every_minutes, self._run.save_every_steps
        is_time = self._is_main and minutes is not None and self._clock() - self._saved_at >= 60 * minutes
        name = asked_to_stop()
        urgency = SIGNALS.index(name) + 1 if name else 0
        urgency, save, abandoned = self.largest(urgency, int(is_time), int(was_abandoned))
        is_step = steps is not None and step % steps == 0
        return Answer(bool(save) or is_step, SIGNALS[urgency - 1] if urgency else "", bool(abandoned))

    def saved(self) -> None:
        """Start the time to the next save."""
        self._saved_at = self._clock()

    def before_pass(self) -> None:
        """Give up an unfinished step where a process was asked to stop; every process must call it before each pass.

        Some may have waited for a batch in vain, and must not be waited for in the middle of the pass.

        Raises:
            RunInterruptedError: A process was asked.
        """
        name = asked_to_stop()
        (urgency,) = self.largest(SIGNALS.index(name) + 1 if name else 0)
        if urgency:
            stop_if_asked(SIGNALS[urgency - 1])

    def largest(self, *values: int) -> list[int]:
        """Give the largest of each value over all processes; every process must call it."""
        if self._is_alone:
            return list(values)
        numbers = torch.tensor(values)
        distributed.all_reduce(numbers, distributed.ReduceOp.MAX, group=self._group)
        found: list[int] = numbers.tolist()
        return found
