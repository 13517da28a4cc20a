"""The numbers of a run: one JSON line per logged step, TensorBoard, and what trackers there are."""

import json
import math
import os
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TextIO

from everest.config import TrackerName
from everest.errors import RunError
from everest.links import append_text
from everest.training.files import atomic_write, writing
from everest.training.rundir import RunFolder
from everest.training.trackers import Trackers

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class MetricsLog:
    """Appends to ``metrics.jsonl`` and, if asked for, writes TensorBoard events and sends the same to trackers.

    A line is on its way to the disk when :meth:`write` returns. What a killed process left of a line is removed.
    """

    def __init__(self, folder: RunFolder, *, tensorboard: bool, trackers: Sequence[TrackerName] = ()) -> None:
        """Open the log of a run for appending.

        Args:
            folder: The folder of the run.
            tensorboard: Write events as well.
            trackers: Send the lines there as well.
        """
        self._path = folder.metrics
        self._events_folder = folder.tensorboard if tensorboard else None
        self._events: SummaryWriter | None = None
        self._purge_step: int | None = None
        self._thread_hook = threading.excepthook
        self._sent: set[tuple[int, frozenset[str]]] = set()  # by an earlier start
        self._file = self._open()
        self._trackers = Trackers(folder, trackers)

    def truncate_from(self, step: int) -> None:
        """Drop what an earlier start wrote at this step and later, before the run does these steps again.

        A line that cannot be read is left out with a warning: it is no reason not to train.

        Args:
            step: The first step that will be done again.
        """
        with writing(self._path):
            self._file.close()
        lines = read_metrics(self._path, leave_out=_warn)
        kept = [line for line in lines if line["step"] < step]
        self._sent = {_what_it_says(line) for line in lines if line["step"] >= step}
        with atomic_write(self._path) as file:
            file.writelines((json.dumps(line) + "\n").encode() for line in kept)
        self._file = self._open()
        self._purge_step = step

    def write(self, step: int, epoch: float, **scalars: float | None) -> None:
        """Append one line.

        Args:
            step: The optimiser step that the numbers belong to.
            epoch: Epochs done at that step, with their fraction.
            **scalars: Named numbers; 0-d tensors too. JSON has no NaN and no infinity, they become null; TensorBoard
                gets them as they are. None is left out there.

        Raises:
            RunError: The line cannot be written.
        """
        values = {name: None if value is None else float(value) for name, value in scalars.items()}
        line: dict[str, Any] = {"step": step, "epoch": round(epoch, 6), "time": round(time.time(), 3)}
        line |= {n: v if v is not None and math.isfinite(v) else None for n, v in values.items()}
        with writing(self._path):
            self._file.write(json.dumps(line) + "\n")
            self._file.flush()
        if self._events_folder is not None:
            with writing(self._events_folder):
                events = self._open_events(self._events_folder)
                for name, value in values.items():
                    if value is not None:
                        events.add_scalar(name, value, step)
        if _what_it_says(line) not in self._sent:  # a tracker keeps what an earlier start told it
            numbers = {n: v for n, v in line.items() if v is not None and n not in {"step", "time"}}
            self._trackers.write(step, numbers)

    def holds_evaluation(self, step: int) -> bool:
        """Whether there is a line of this step that is not of training."""
        found = (line for line in read_metrics(self._path) if line["step"] == step)
        return any(not {"loss", "grad_norm"} & line.keys() for line in found)

    def sync(self) -> None:
        """Put everything on the disk: a run that goes on from here does not write these lines again.

        Raises:
            RunError: It cannot be written.
        """
        with writing(self._path):
            os.fsync(self._file.fileno())
        if self._events is not None and self._events_folder is not None:
            with writing(self._events_folder):
                self._events.flush()

    def close(self, *, failed: bool = False) -> None:
        """Close the files; events are on the disk afterwards.

        Args:
            failed: Whether the run ended before its end, which trackers show.

        Raises:
            RunError: What is left cannot be written.
        """
        self._trackers.close(failed=failed)
        try:
            with writing(self._path):
                self._file.close()
        finally:
            if self._events is not None and self._events_folder is not None:
                try:
                    with writing(self._events_folder):
                        self._events.close()
                finally:
                    threading.excepthook = self._thread_hook

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close(failed=error is not None)
        except RunError:
            if error is None:
                raise  # else it is what went wrong in the first place that has to be said

    def _open(self) -> TextIO:
        """Open the file of lines after its last whole one."""
        with writing(self._path):
            _drop_partial_line(self._path)
            return append_text(self._path)

    def _open_events(self, folder: Path) -> "SummaryWriter":
        """Open the events at the first write, when it is known which earlier ones no longer count."""
        if self._events is None:
            from torch.utils.tensorboard import SummaryWriter

            self._thread_hook, threading.excepthook = threading.excepthook, self._hear
            self._events = SummaryWriter(str(folder), purge_step=self._purge_step)
        return self._events

    def _hear(self, args: threading.ExceptHookArgs) -> None:
        """Leave out what TensorBoard's thread says of a file that cannot be written: the next write says it."""
        is_tensorboard = type(args.thread).__module__.startswith("tensorboard.")
        if not (is_tensorboard and isinstance(args.exc_value, OSError)):
            self._thread_hook(args)


def read_metrics(path: Path, leave_out: Callable[[str], None] | None = None) -> list[dict[str, Any]]:
    """Read the lines of a run, also while it is going on.

    Args:
        path: A ``metrics.jsonl`` file.
        leave_out: Told of each line that is not one of a run's, which is left out then; None: such a line is refused.

    Returns:
        One dict per line with ``step``, ``epoch``, ``time`` (seconds since 1970, where known) and the numbers logged
        there. A last line without its end, which is still being written or was cut off, is left out.

    Raises:
        RunError: The file is missing or a line is not one of a run's.
    """
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise RunError(f"{path} cannot be read: {error.strerror}") from error
    lines = []
    for number, line in enumerate(text.split("\n")[:-1], start=1):  # what follows the last line end is not whole
        try:
            values = json.loads(line)
        except ValueError:
            values = None
        if not isinstance(values, dict) or not isinstance(values.get("step"), int):
            problem = f"{path}, line {number}: expected a JSON object with a step, not {line[:60]!r}"
            if leave_out is None:
                raise RunError(f"{problem}; delete that line (a run that goes on leaves it out by itself)")
            leave_out(problem)
            continue
        lines.append(values)
    return lines


def _warn(problem: str) -> None:
    warnings.warn(f"{problem}; the line is left out", stacklevel=3)


def _what_it_says(line: dict[str, Any]) -> tuple[int, frozenset[str]]:
    """Step and names of a line: there may be two of one step, as where an epoch is evaluated."""
    return line["step"], frozenset(line) - {"time"}


def _drop_partial_line(path: Path) -> None:
    if not path.exists():
        return
    whole, end, partial = path.read_bytes().rpartition(b"\n")
    if partial:
        with atomic_write(path) as file:
            file.write(whole + end)
