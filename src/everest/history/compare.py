"""Several runs side by side: the settings that differ, and the results."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from everest.errors import RunError
from everest.history.files import number
from everest.history.find import layout, row_of
from everest.history.run import Run, read_run, tell_seconds
from everest.history.show import hours_of, summarize, training_seconds
from everest.texts import printable

Axis = Literal["steps", "epochs", "hours"]
"""What runs are drawn over."""
MAX_WIDTH = 30  # of a value in a table
_NEVER_COMPARED = ("task",)


@dataclass(frozen=True)
class RunComparison:
    """Runs side by side.

    Attributes:
        runs: The runs, as they were given.
        names: Of the runs, each its own.
        differing: Values by key, in the order of the runs, where they differ; None where a run does not have the key.
        problems: What could not be read.
    """

    runs: tuple[Run, ...]
    names: tuple[str, ...]
    differing: dict[str, tuple[Any, ...]]
    problems: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Give everything as plain values that JSON can hold."""
        rows = [
            row_of(run)
            | {"name": name, "metrics": summarize(run), "training_seconds": training_seconds(run)}
            | {"evaluation": {k: v for k, v in run.evaluation.items() if k in _BRIEF}}
            for name, run in zip(self.names, self.runs, strict=True)
        ]
        return {
            "runs": rows,
            "differing": {key: list(values) for key, values in self.differing.items()},
            "problems": list(self.problems),
        }

    def __str__(self) -> str:
        rows = [("", *map(_short, self.names))]
        rows += [(key, *(_short(_say(value)) for value in values)) for key, values in self.differing.items()]
        if not self.differing:
            rows.append(("settings", *("the same" for _ in self.runs)))
        return layout([*rows, *self.results()])

    def results(self) -> list[tuple[str, ...]]:
        """Give what came out, in rows: a name, and what is said of each run."""
        rows = [(name, *(tell(run) for run in self.runs)) for name, tell in _RESULTS]
        return [row for row in rows if any(row[1:])]


def compare_runs(paths: Sequence[Path]) -> RunComparison:
    """Read runs and find where they differ.

    Args:
        paths: Folders of runs. What is no such folder is among the ``problems`` of the result.

    Raises:
        RunError: None of them is the folder of a run.
    """
    runs: list[Run] = []
    problems: list[str] = []
    for path in dict.fromkeys(paths):
        try:
            runs.append(read_run(path))
        except RunError as error:
            problems.append(str(error))
    if not runs:
        raise RunError("; ".join(problems) or "no runs to compare")
    problems += [f"{run.path}: {problem}" for run in runs for problem in run.problems]
    described = [_describe(run) for run in runs]
    differing = {}
    for key in dict.fromkeys(key for values in described for key in values):
        values = tuple(each.get(key) for each in described)
        if any(value != values[0] for value in values):
            differing[key] = values
    return RunComparison(tuple(runs), _names(runs), differing, tuple(map(printable, problems)))


def points_of(run: Run, name: str, axis: Axis) -> list[tuple[float, float]]:
    """Give a metric as points over steps, epochs or hours of training.

    Args:
        run: The run, read completely.
        name: Of the metric, such as ``loss`` or ``top1``.
        axis: What to lay them over.
    """
    places = _places(run, axis)
    values = (number(line.get(name)) for line in run.lines)
    return [(x, y) for x, y in zip(places, values, strict=True) if x is not None and y is not None]


def end_of(run: Run, axis: Axis) -> float | None:
    """Where a run ends on an axis; None where it has not begun."""
    return next((place for place in reversed(_places(run, axis)) if place is not None), None)


def _places(run: Run, axis: Axis) -> list[float | None]:
    if axis == "hours":
        return list(hours_of(run))
    if axis == "epochs":
        return [number(line.get("epoch")) for line in run.lines]
    return [line["step"] + 1 for line in run.lines]


def _describe(run: Run) -> dict[str, Any]:
    """What may differ from one run to another: settings, data, the weights that it began with, versions."""
    packages = run.starts[-1].get("packages") if run.starts else None
    versions = packages if isinstance(packages, dict) else {}
    start = run.data.get("start")
    return {
        "task": run.task,
        **{key: value for key, value in run.settings.items() if key not in _NEVER_COMPARED},
        "data": run.data_name,
        "data digest": str(run.data.get("part_digest", "?"))[:12],
        "weights from": start.get("checkpoint") if isinstance(start, dict) else None,
        "everest": versions.get("everest"),
        "torch": versions.get("torch"),
    }


def _names(runs: Sequence[Run]) -> tuple[str, ...]:
    """Name each run by the end of its path that no other one has."""
    parts = [run.path.absolute().parts for run in runs]
    for length in range(1, max(map(len, parts)) + 1):
        names = [str(Path(*each[-length:])) for each in parts]
        if len(set(names)) == len(names):
            return tuple(map(printable, names))
    return tuple(printable(str(run.path)) for run in runs)


def _say(value: Any) -> str:
    return "" if value is None else value if isinstance(value, str) else json.dumps(value)


def _short(text: str) -> str:
    text = printable(text)
    return text if len(text) <= MAX_WIDTH else f"...{text[3 - MAX_WIDTH :]}"


def _steps(run: Run) -> str:
    return f"{run.num_done:,}/{'?' if run.num_steps is None else format(run.num_steps, ',')}"


def _top1(run: Run) -> str:
    if run.top1 is None:
        return ""
    value, interval = run.top1
    return f"{value:.1%}" + (f" ({interval[0]:.0%} to {interval[1]:.0%})" if interval else " on the way")


def _of_metrics(name: str, form: str) -> Callable[[Run], str]:
    def tell(run: Run) -> str:
        value = summarize(run)[name]
        return "" if value is None else form.format(value)

    return tell


def _top5(run: Run) -> str:
    value = number(run.evaluation.get("top5"))
    return "" if value is None else f"{value:.1%}"


def _took(run: Run) -> str:
    seconds = training_seconds(run)
    return "" if seconds is None else tell_seconds(seconds)


_BRIEF = ("num_clips", "num_views", "num_failures", "top1", "top1_interval", "top5", "majority", "part_digest")
_RESULTS: tuple[tuple[str, Callable[[Run], str]], ...] = (
    ("state", lambda run: run.state),
    ("steps", _steps),
    ("last loss", _of_metrics("last_loss", "{:.4f}")),
    ("lowest loss", _of_metrics("best_loss", "{:.4f}")),
    ("top-1", _top1),
    ("top-5", _top5),
    ("clips/s", _of_metrics("median_clips_per_second", "{:.1f}")),
    ("gradient", _of_metrics("median_grad_norm", "{:.3g}")),
    ("skipped steps", _of_metrics("skipped_steps", "{:g}")),
    ("training", _took),
)
