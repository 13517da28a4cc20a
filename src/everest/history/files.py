"""Files of run folders, read as they are: half written, of other versions, damaged. Nothing here needs torch.

What a file does not say, or says wrongly, is left out and named in a list of problems; nothing is raised.
"""

import json
import math
import os
from pathlib import Path
from typing import Any

CONFIG, STARTS, METRICS, LOG = "config.json", "environment.json", "metrics.jsonl", "log.txt"
DATA, EVALUATION, TRACKERS, INTERRUPTION = "data.json", "evaluation.json", "trackers.json", "interrupted.json"
TASKS = ("pretrain", "finetune")
_TAIL_BYTES = 1 << 16  # enough for the last lines of metrics and of the log
_PART_BYTES = 1 << 16
_NO_STEP = 1 << 53  # from here on floats, such as those of epochs, cannot count


def read_json(path: Path, problems: list[str]) -> Any:
    """Read a JSON file; None where there is none, or a damaged one, which is a problem."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        problems.append(f"{path.name} cannot be read: {_reason(error)}")
        return None


def read_object(path: Path, problems: list[str]) -> dict[str, Any]:
    """Read a JSON file that holds an object; an empty one where there is none."""
    values = read_json(path, problems)
    if isinstance(values, dict):
        return values
    if values is not None:
        problems.append(f"{path.name} holds a {type(values).__name__} instead of an object")
    return {}


def read_before(path: Path, key: str, problems: list[str]) -> dict[str, Any]:
    """Read what stands in a JSON object before one of its keys: an evaluation may hold 100 MB of predictions after it.

    Args:
        path: A file that was written with an indentation of two.
        key: Where to end.
        problems: Takes what is wrong.
    """
    mark = f'\n  "{key}": '.encode()
    content = b""
    try:
        with path.open("rb") as file:
            while mark not in content[-_PART_BYTES - len(mark) :]:
                part = file.read(_PART_BYTES)
                content += part
                if not part:
                    return read_object(path, problems)  # laid out in another way
        return dict(json.loads(content[: content.index(mark)].rstrip().removesuffix(b",") + b"}"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, RecursionError) as error:
        problems.append(f"{path.name} cannot be read: {_reason(error)}")
        return {}


def read_lines(path: Path, problems: list[str], *, tail: bool = False) -> list[dict[str, Any]]:
    """Read lines of metrics, also of a run that goes on.

    Args:
        path: A ``metrics.jsonl`` file.
        problems: Takes what is wrong.
        tail: Read the last lines only.

    Returns:
        The lines that can be used; each has a whole number ``step``.
    """
    try:
        with path.open("rb") as file:
            first = max(0, path.stat().st_size - _TAIL_BYTES) if tail else 0
            file.seek(first)
            whole = file.read().split(b"\n")[:-1]  # what follows the last line end is still being written
    except FileNotFoundError:
        return []
    except OSError as error:
        problems.append(f"{path.name} cannot be read: {_reason(error)}")
        return []
    lines, num_damaged = [], 0
    for content in whole[1:] if first else whole:
        try:
            line = json.loads(content)
        except (ValueError, RecursionError):
            line = None
        if isinstance(line, dict) and _is_step(line.get("step")):
            lines.append(line)
        else:
            num_damaged += 1
    if num_damaged:
        problems.append(f"{num_damaged} lines of {path.name} cannot be read")
    return lines


def read_log(path: Path, problems: list[str], *, tail: bool = False) -> list[str]:
    """Read the lines of a log, or the last ones of it."""
    try:
        with path.open("rb") as file:
            first = max(0, path.stat().st_size - _TAIL_BYTES) if tail else 0
            file.seek(first)
            return file.read().decode("utf-8", errors="replace").splitlines()[1 if first else 0 :]
    except FileNotFoundError:
        return []
    except OSError as error:
        problems.append(f"{path.name} cannot be read: {_reason(error)}")
        return []


def flatten(values: Any, prefix: str = "") -> dict[str, Any]:
    """List the settings of a ``config.json`` by dotted key, those that this version does not know among them."""
    if not isinstance(values, dict):
        return {}
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def number(value: Any) -> float | None:
    """Take a finite number out of what anybody may have written; None where there is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return value if math.isfinite(value) else None
    except OverflowError:  # a whole number that is larger than any float
        return None


def _is_step(value: Any) -> bool:
    return type(value) is int and abs(value) < _NO_STEP


def size_of(folder: Path) -> int:
    """Add up the bytes of all files below a folder; links are not followed."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                total += Path(place, name).lstat().st_size
            except OSError:  # gone since, as old checkpoints of a run that goes on
                continue
    return total


def changed_at(folder: Path) -> float | None:
    """Say when a run last wrote something, in seconds since 1970; None where it wrote nothing."""
    times = []
    for path in (folder / METRICS, folder / LOG, folder / STARTS, folder / EVALUATION, folder / "checkpoints"):
        try:
            times.append(path.stat().st_mtime)
        except OSError:
            continue
    return max(times, default=None)


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)
