"""What the annotation files of a data set say, before a single video is looked for."""

import csv
import io
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from everest.datasets.rows import Problems, read_text
from everest.datasets.tree import Tree
from everest.errors import ManifestError

NUM_FOLDS = 3
Span = tuple[float, float]  # seconds, the end exclusive


@dataclass(frozen=True)
class Entry:
    """One annotated clip.

    Attributes:
        names: Names that its file may have, without extension; the first one is the official one.
        label: Index into the class names; None where the annotations keep it secret.
        split: ``train``, ``val`` or ``test``.
        spans: Where the clip lies in the file of each name; None for a file that is the clip. Empty: all are.
    """

    names: tuple[str, ...]
    label: int | None
    split: str
    spans: tuple[Span | None, ...] = ()


@dataclass(frozen=True)
class Annotations:
    """All annotated clips of a data set.

    Attributes:
        class_names: In the official order.
        entries: In the order of the files.
        unused: Names of videos that are annotated but belong to no split of this fold.
        notes: What a person should know.
        ignores_case: Whether names of files are compared without regard to case.
        may_be_cut: Whether a file with a span may hold nothing but that span.
    """

    class_names: tuple[str, ...]
    entries: tuple[Entry, ...]
    unused: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()
    ignores_case: bool = False
    may_be_cut: bool = False


def find_one(tree: Tree, *patterns: str) -> Path:
    """Find an annotation file anywhere below a folder.

    Args:
        tree: Where to look.
        patterns: Names with ``*``, in the order of preference.

    Raises:
        ManifestError: There is none, or two files could be meant.
    """
    found = find_any(tree, *patterns)
    if found is None:
        raise no_file(tree, *patterns)
    return found


def find_any(tree: Tree, *patterns: str, accepts: Callable[[Path], bool] = Path.is_file) -> Path | None:
    """Find an annotation file that need not be there.

    Args:
        tree: Where to look.
        patterns: Names with ``*``, in the order of preference.
        accepts: Looks into a file and says whether it can be meant.

    Raises:
        ManifestError: Two files could be meant.
    """
    found = tree.find(*patterns, accepts=accepts)
    if len(found) > 1:
        raise ManifestError(
            f"{tree.root}: {found[0]} and {found[1]} could both be meant; name one folder with --annotations"
        )
    return found[0] if found else None


def no_file(tree: Tree, *patterns: str) -> ManifestError:
    """Say what was looked for."""
    return ManifestError(
        f"{tree.root}: no file {' or '.join(patterns)} there or below; name its folder with --annotations"
    )


def say_absent(splits: dict[str, str], found: set[str]) -> tuple[str, ...]:
    """Note the splits that have no annotation file.

    Args:
        splits: Name of the file by split.
        found: The splits that have one.
    """
    return tuple(f"no {file}: nothing in the split {split}" for split, file in splits.items() if split not in found)


def say_classes(num_classes: int, *official: int) -> tuple[str, ...]:
    """Note that the number of classes is not the official one: then labels do not mean what they mean elsewhere."""
    if num_classes in official:
        return ()
    return (f"{num_classes} classes, where the data set has {' or '.join(map(str, official))}",)


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
    except (ValueError, RecursionError) as error:  # also numbers of thousands of digits
        raise ManifestError(f"{path}: not JSON: {error}") from None


def read_table(path: Path, *required: str) -> Iterator[tuple[int, dict[str, str]]]:
    """Give the rows of a CSV file with a header, with their line numbers.

    Raises:
        ManifestError: A column that is required is missing, or it is no CSV file.
    """
    reader = csv.reader(io.StringIO(read_text(path), newline=""), skipinitialspace=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        missing = [name for name in required if name not in header]
        if missing:
            raise ManifestError(f"{path}: no column {', '.join(missing)}; it has {', '.join(header) or 'none'}")
        for row in reader:
            if any(row):
                yield reader.line_num, dict(zip(header, row + [""] * (len(header) - len(row)), strict=False))
    except csv.Error as error:
        raise ManifestError(f"{path}: line {reader.line_num}: {error}") from None


def parse_records(
    path: Path, records: Any, problems: Problems, **fields: Callable[[Any], Any]
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Give the objects of a JSON list that have the wanted fields, with their numbers from 1.

    Args:
        path: For messages.
        records: Should be a list of objects.
        problems: Takes what is wrong with single objects; those are left out.
        fields: What brings each field that is required to its type, such as :func:`as_name`.

    Raises:
        ManifestError: It is no list.
    """
    if not isinstance(records, list):
        raise ManifestError(f"{path}: a list of clips is expected, not {type(records).__name__}")
    for number, record in enumerate(records, 1):
        try:
            yield number, record | {name: convert(record[name]) for name, convert in fields.items()}
        except (KeyError, TypeError, ValueError, OverflowError):
            wanted = ", ".join(f"{name} ({convert.__name__.removeprefix('as_')})" for name, convert in fields.items())
            problems.add(number, f"needs {wanted}")


def as_name(value: Any) -> str:
    """Accept a text that is not empty, or an integer, as a name."""
    if isinstance(value, bool) or not isinstance(value, str | int) or not str(value).strip():
        raise TypeError
    return str(value).strip()


def as_seconds(value: Any) -> float:
    """Accept a finite number as a time, also where it is written as text."""
    if isinstance(value, bool) or not isinstance(value, str | int | float) or not math.isfinite(float(value)):
        raise TypeError
    return float(value)
