"""One run, from its folder: what was started, how far it is, what came out, and how it goes on."""

import statistics
import time
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from everest.errors import RunError
from everest.history.files import (
    CONFIG,
    DATA,
    EVALUATION,
    INTERRUPTION,
    LOG,
    METRICS,
    STARTS,
    TASKS,
    changed_at,
    flatten,
    number,
    read_before,
    read_json,
    read_lines,
    read_log,
    read_object,
)
from everest.process import is_alive

State = Literal["finished", "going on", "stopped"]
BUNDLED_LIST = ("assets", "falls", "windows.csv")  # the end of the path of the bundled clips
SILENT_SECONDS = 300.0  # a run whose process cannot be looked at counts as stopped after this, or after
SILENT_LINES = 20  # so many times the time between two of its lines
_STOPPED = "stopped: "  # how the log says why


@dataclass(frozen=True, repr=False)
class Run:
    """A run, as its folder tells it.

    Attributes:
        path: The folder.
        task: ``pretrain`` or ``finetune``.
        settings: All settings by dotted key, as the run was first started.
        data: What ``data.json`` says of the data and of the weights that it started from.
        starts: What each start ran on, the first one first.
        lines: Lines of metrics; of a quick look the last ones only.
        log: Lines of the log; of a quick look the last ones only.
        evaluation: What ``evaluation.json`` says, without the predictions.
        interruption: What it said when it was asked to stop and did; empty where it was not, or goes on again.
        problems: What is damaged.
        changed: When something was last written, in seconds since 1970.
        now: When it was looked at.
    """

    path: Path
    task: str
    settings: dict[str, Any]
    data: dict[str, Any]
    starts: list[dict[str, Any]]
    lines: list[dict[str, Any]]
    log: list[str]
    evaluation: dict[str, Any]
    interruption: str = ""
    problems: list[str] = field(default_factory=list)
    changed: float | None = None
    now: float = 0.0

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r}, {self.task}, {self.num_done} steps, {self.state})"

    @property
    def num_done(self) -> int:
        """Optimiser steps done, as far as they were logged."""
        steps: list[int] = [line["step"] for line in self.lines]
        return max(steps, default=-1) + 1

    @property
    def steps_per_epoch(self) -> int | None:
        """Optimiser steps of an epoch; None where nothing tells."""
        for line in reversed(self.lines):
            epoch = number(line.get("epoch"))
            if epoch is not None and epoch > 0:
                found: float = (line["step"] + 1) / epoch
                if found * 1e-6 < 0.4 * epoch:  # epochs have six digits
                    return round(found)
        batch, clips = number(self.settings.get("optim.global_batch_size")), number(self.data.get("num_clips"))
        each = number(self.settings.get("data.clips_per_video")) or 1
        return None if not batch or not clips else max(1, int(clips // max(1, batch // each)))

    @property
    def num_steps(self) -> int | None:
        """Optimiser steps of the whole run; None where nothing tells."""
        epochs, each = number(self.settings.get("optim.epochs")), self.steps_per_epoch
        return None if not epochs or each is None else int(epochs) * each

    @property
    def state(self) -> State:
        """Whether it has done all its steps, does some now, or has stopped before its end."""
        return self.judge()[0]

    def judge(self) -> tuple[State, str]:
        """Give the state, and what it was told by."""
        if self.is_trained and not self.interruption and not self._lacks_evaluation:
            return "finished", ""
        reason = next((line.removeprefix(_STOPPED) for line in self.log[-1:] if line.startswith(_STOPPED)), "")
        reason = self.interruption or reason
        alive = is_alive(self.starts[-1].get("process")) if self.starts else None
        if alive is True and not reason:
            return "going on", "its process lives"
        if alive is False or reason:
            return "stopped", reason or f"its process is gone{', in the closing evaluation' * self.is_trained}"
        silent = None if self.changed is None else self.now - self.changed
        if silent is None:
            return "stopped", "nothing was written"
        limit = max(SILENT_SECONDS, SILENT_LINES * (self.seconds_per_line or 0.0))
        return "going on" if silent < limit else "stopped", f"last written {tell_seconds(silent)} ago"

    @property
    def is_trained(self) -> bool:
        """Whether all its steps are done; the evaluation that closes it may not be."""
        return self.num_steps is not None and self.num_done >= self.num_steps

    @property
    def _lacks_evaluation(self) -> bool:
        """Whether an evaluation was to close it, and has not. Folders of earlier versions do not tell."""
        return self.data.get("closing_evaluation") is True and not self.evaluation

    @property
    def seconds_per_line(self) -> float | None:
        """Usual time between the last lines of metrics; None where they do not tell."""
        times = [t for t in (number(line.get("time")) for line in self.lines[-20:]) if t is not None]
        gaps = [later - earlier for earlier, later in pairwise(times) if later > earlier]
        return statistics.median(gaps) if gaps else None

    @property
    def started(self) -> str | None:
        """When it was first started, in UTC as ISO 8601."""
        date = self.starts[0].get("date") if self.starts else None
        return date if isinstance(date, str) and seconds_of(date) is not None else None

    @property
    def seconds(self) -> float | None:
        """From the first start to what was last written, pauses included."""
        begun = seconds_of(self.started) if self.started else None
        return None if begun is None or self.changed is None else max(0.0, self.changed - begun)

    @property
    def data_name(self) -> str:
        """The list or folder of clips, in a word."""
        source = self.data.get("source")
        if not isinstance(source, str) or not source:
            return "?"
        path = Path(source)
        return "bundled" if path.parts[-3:] == BUNDLED_LIST else path.name

    @property
    def model_name(self) -> str:
        """The network, in a word."""
        arch, size = self.settings.get("model.arch", "vit"), self.settings.get("model.size", "?")
        return f"{arch}-{size}" if arch == "vit" else str(arch)

    @property
    def selection(self) -> str:
        """Which tokens are computed, in a few words."""
        method, keep = self.settings.get("selection.method", "?"), number(self.settings.get("selection.keep_ratio"))
        if method == "all" or keep is None:
            return str(method)
        encode = number(self.settings.get("selection.encode_ratio"))
        both = f"/{encode:g}" if self.task == "pretrain" and encode is not None else ""
        return f"{method} {keep:g}{both}"

    def last(self, name: str) -> float | None:
        """Give the last value of a metric; None where there is none."""
        values = (number(line.get(name)) for line in reversed(self.lines))
        return next((value for value in values if value is not None), None)

    @property
    def top1(self) -> tuple[float, tuple[float, float] | None] | None:
        """Accuracy of the evaluation that closed the run, and its interval; else of the last one on the way."""
        value = number(self.evaluation.get("top1"))
        if value is None:
            value = self.last("top1")
            return None if value is None else (value, None)
        ends = self.evaluation.get("top1_interval")
        pair = [number(end) for end in ends] if isinstance(ends, list) else []
        return value, (pair[0], pair[1]) if len(pair) == 2 and None not in pair else None  # type: ignore[return-value]


def read_run(path: Path, *, quick: bool = False) -> Run:
    """Read the folder of a run, which may go on meanwhile.

    Args:
        path: The folder.
        quick: Read the end of the metrics and of the log only.

    Raises:
        RunError: It is not the folder of a run. What is merely damaged is among the ``problems`` of the result.
    """
    problems: list[str] = []
    config = read_json(path / CONFIG, problems)
    task = config.get("task") if isinstance(config, dict) else None
    if task not in TASKS:
        why = problems[0] if problems else "names no training task" if config is not None else f"has no {CONFIG}"
        raise RunError(f"{path} is not the folder of a run: {'it ' if not problems else ''}{why}")
    starts = read_json(path / STARTS, problems)
    until = "class_names" if quick else "predictions"
    return Run(
        path=path,
        task=task,
        settings=flatten(config),
        data=read_object(path / DATA, problems),
        starts=[start for start in starts if isinstance(start, dict)] if isinstance(starts, list) else [],
        lines=read_lines(path / METRICS, problems, tail=quick),
        log=read_log(path / LOG, problems, tail=quick),
        evaluation=read_before(path / EVALUATION, until, problems),
        interruption=" ".join(str(read_object(path / INTERRUPTION, problems).get("message", "")).split()),
        problems=problems,
        changed=changed_at(path),
        now=time.time(),
    )


def seconds_of(date: str) -> float | None:
    """Turn a date as ISO 8601 into seconds since 1970; None where it is none."""
    try:
        return datetime.fromisoformat(date).timestamp()
    except (ValueError, OverflowError, OSError):
        return None


def tell_seconds(seconds: float) -> str:
    """Say a time in its two largest units: 3 d 4 h, 2 h 5 min, 1 min 10 s, 12 s."""
    whole = round(seconds)
    for size, unit, next_size, next_unit in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            rest = whole % size // next_size
            return f"{whole // size} {unit}" + (f" {rest} {next_unit}" if rest else "")
    return f"{whole} s"
