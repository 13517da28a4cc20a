"""What the annotation files of a data set say, before a single video is looked for."""

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from everest.datasets.rows import Problems, read_text
from everest.errors import ManifestError

NUM_FOLDS = 3


@dataclass(frozen=True)
class Entry:
    """One annotated clip.

    Attributes:
        names: Names that its file may have, without extension; the first one is the official one.
        label: Index into the class names; None where the annotations keep it secret.
        split: ``train``, ``val`` or ``test``.
        start_seconds: Where the clip begins in its file; None: at the start.
        end_seconds: Where it ends; None: at the end.
    """

    names: tuple[str, ...]
    label: int | None
    split: str
    start_seconds: float | None = None
    end_seconds: float | None = None


@dataclass(frozen=True)
class Annotations:
    """All annotated clips of a data set.

    Attributes:
        class_names: In the official order.
        entries: In the order of the files.
        unused: Names of videos that are annotated but belong to no split of this fold.
        note: What a person should know; may be empty.
    """

    class_names: tuple[str, ...]
    entries: tuple[Entry, ...]
    unused: frozenset[str] = frozenset()
    note: str = ""


def find_file(folder: Path, *patterns: str) -> Path:
    """Find an annotation file anywhere below a folder.

    Args:
        folder: Where to look.
        patterns: Names with ``*``, in the order of preference.

    Raises:
        ManifestError: There is none, or two files have the name.
    """
    found = find_files(folder, *patterns)
    if not found:
        raise ManifestError(
            f"{folder}: no file {' or '.join(patterns)} there or below; name its folder with --annotations"
        )
    if len(found) > 1:
        raise ManifestError(
            f"{folder}: {found[0]} and {found[1]} could both be meant; name one folder with --annotations"
        )
    return found[0]


def find_files(folder: Path, *patterns: str) -> list[Path]:
    """List the files that match the first pattern that any file matches, sorted; hidden folders are left out."""
    if not folder.is_dir():
        raise ManifestError(f"{folder}: not a folder")
    for pattern in patterns:
        for depth in ("", "*/", "*/*/"):  # not deeper: below that are hundreds of thousands of videos
            found = sorted(p for p in folder.glob(depth + pattern) if p.is_file() and "/." not in p.as_posix())
            if found:
                return found
    return []


def check_fold(fold: int) -> None:
    """Refuse a fold other than the three official ones.

    Raises:
        ManifestError: It is another number.
    """
    if not 1 <= fold <= NUM_FOLDS:
        raise ManifestError(f"fold {fold}: the official splits are 1, 2 and 3")


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Give the lines that hold something, with their numbers."""
    for number, line in enumerate(read_text(path).splitlines(), 1):
        if line.strip():
            yield number, line.strip()


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        ManifestError: It is none.
    """
    try:
        return json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise ManifestError(f"{path}: not JSON: {error}") from None


def read_table(path: Path, *required: str) -> Iterator[tuple[int, dict[str, str]]]:
    """Give the rows of a CSV file with a header, with their line numbers.

    Raises:
        ManifestError: A column that is required is missing.
    """
    reader = csv.DictReader(io.StringIO(read_text(path), newline=""), skipinitialspace=True)
    missing = [name for name in required if name not in (reader.fieldnames or ())]
    if missing:
        raise ManifestError(
            f"{path}: no column {', '.join(missing)}; it has {', '.join(reader.fieldnames or ('none',))}"
        )
    for row in reader:
        yield reader.line_num, {name: value or "" for name, value in row.items() if isinstance(name, str)}


def parse_records(path: Path, records: Any, **kinds: type) -> Iterator[dict[str, Any]]:
    """Give the objects of a JSON list that have the wanted fields.

    Args:
        path: For messages.
        records: Should be a list of objects.
        kinds: Type by name of each field that is required; numbers may be written as text.

    Raises:
        ManifestError: It is no such list; five wrong objects are named.
    """
    if not isinstance(records, list):
        raise ManifestError(f"{path}: a list of clips is expected, not {type(records).__name__}")
    problems = Problems(path)
    for number, record in enumerate(records, 1):
        try:
            yield record | {name: kind(record[name]) for name, kind in kinds.items()}
        except (KeyError, TypeError, ValueError):
            expected = ", ".join(f"{name} ({kind.__name__})" for name, kind in kinds.items())
            problems.add(number, f"clip {number} of the list needs {expected}")
    problems.raise_any()
