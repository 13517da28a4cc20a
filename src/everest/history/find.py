"""All runs below a folder."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from everest.errors import RunError
from everest.history.files import CONFIG, METRICS
from everest.history.run import Run, read_run, tell_seconds
from everest.texts import printable

_HEADER = ("run", "task", "model", "tokens", "data", "steps", "loss", "top-1", "state", "started (UTC)", "took")


@dataclass(frozen=True)
class RunList:
    """What was found below a folder.

    Attributes:
        folder: Where was looked.
        runs: The runs, the first started first.
        problems: Folders that hold something else or something damaged, and what.
    """

    folder: Path
    runs: tuple[Run, ...]
    problems: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Give everything as plain values that JSON can hold."""
        return {"folder": str(self.folder), "runs": [row_of(r) for r in self.runs], "problems": list(self.problems)}

    def __str__(self) -> str:
        if not self.runs:
            return f"no runs in {self.folder}"
        rows = [_HEADER, *(self._cells(run) for run in self.runs)]
        return layout(rows)

    def _cells(self, run: Run) -> tuple[str, ...]:
        row = row_of(run)
        name = os.path.relpath(run.path, self.folder)
        steps = f"{row['num_done']:,}/{'?' if row['num_steps'] is None else format(row['num_steps'], ',')}"
        cells = (
            run.path.absolute().name if name == "." else name,
            run.task,
            run.model_name,
            run.selection,
            run.data_name,
            steps,
            "" if row["loss"] is None else f"{row['loss']:.4f}",
            "" if row["top1"] is None else f"{row['top1']:.1%}",
            row["state"],
            (row["started"] or "?")[:16].replace("T", " "),
            "?" if row["seconds"] is None else tell_seconds(row["seconds"]),
        )
        return tuple(map(printable, cells))  # whoever wrote the folder may have written anything


def find_runs(folder: Path) -> RunList:
    """Look for run folders in a folder and below it.

    Links and folders whose names begin with a dot are left out; what lies inside the folder of a run is not looked at.

    Args:
        folder: A folder of runs, or the folder of one.

    Raises:
        RunError: There is no such folder.
    """
    if not folder.is_dir():
        raise RunError(f"{folder}: no such folder; name one that holds runs")
    runs: list[Run] = []
    problems: list[str] = []
    for place in _candidates(folder, problems):
        try:
            run = read_run(place, quick=True)
        except RunError as error:
            problems.append(str(error))
            continue
        runs.append(run)
        problems += [f"{place}: {problem}" for problem in run.problems]
    runs.sort(key=lambda run: (run.started or "", str(run.path)))
    return RunList(folder, tuple(runs), tuple(printable(problem) for problem in problems))


def row_of(run: Run) -> dict[str, Any]:
    """Describe a run in one row, as plain values."""
    top1 = run.top1
    state, reason = run.judge()
    return {
        "path": str(run.path),
        "task": run.task,
        "model": run.model_name,
        "selection": run.selection,
        "data": run.data_name,
        "num_done": run.num_done,
        "num_steps": run.num_steps,
        "loss": run.last("loss"),
        "top1": None if top1 is None else top1[0],
        "top1_interval": None if top1 is None or top1[1] is None else list(top1[1]),
        "state": state,
        "reason": reason,
        "started": run.started,
        "seconds": run.seconds,
    }


def layout(rows: Sequence[Sequence[str]], gap: str = "  ") -> str:
    """Put rows into columns; numbers are to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    to_the_right = [all(_is_number(row[i]) for row in rows[1:]) for i in range(len(rows[0]))]
    lines = (
        gap.join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, to_the_right, strict=True)
        ).rstrip()
        for row in rows
    )
    return "\n".join(lines)


def _candidates(folder: Path, problems: list[str]) -> Iterable[Path]:
    """Give the folders that look like those of runs, sorted, from above to below."""

    def note(error: OSError) -> None:
        problems.append(f"{error.filename}: cannot be read: {error.strerror}")

    for place, folders, names in os.walk(folder, onerror=note):
        if CONFIG in names or METRICS in names:
            folders.clear()
            yield Path(place)
            continue
        folders[:] = sorted(name for name in folders if not name.startswith("."))


def _is_number(text: str) -> bool:
    return not text or text[0].isdigit() or text == "?"
