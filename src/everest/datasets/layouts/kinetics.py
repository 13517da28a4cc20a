"""Kinetics-400, -600 and -700: clips of ten seconds from web videos.

``train.csv``, ``val.csv`` (or ``validate.csv``) and ``test.csv`` have the columns label, youtube_id, time_start,
time_end and split; the labels of the test set are missing in some editions. Files are called ``ID_000010_000020.mp4``
and hold that clip, or ``ID.mp4``; they lie in class folders, split folders, or side by side. The classes have no
official numbers; as everywhere else they are numbered in the order of their names.
"""

from pathlib import Path

from everest.datasets.layouts.annotations import (
    Annotations,
    Entry,
    Span,
    find_any,
    no_file,
    read_table,
    say_absent,
    say_classes,
)
from everest.datasets.rows import Problems
from everest.datasets.tree import Tree

_NUM_CLASSES = (400, 600, 700)
_NAMES = {split: f"{split}.csv with a column youtube_id" for split in ("train", "val", "test")}
_FILES = {
    "train": ("train.csv", "*_train.csv"),
    "val": ("val.csv", "validate.csv", "*_val.csv", "*_validate.csv"),
    "test": ("test.csv", "*_test.csv"),
}


def read_kinetics(tree: Tree, fold: int = 1) -> Annotations:
    """Read the annotations of all splits that are there.

    Args:
        tree: Has the CSV files somewhere.
        fold: Not used: there is one official split.

    Raises:
        ManifestError: No file is there, or a line cannot be read.
    """
    del fold
    rows: list[tuple[str, str, str, Span]] = []
    found = set()
    for split, patterns in _FILES.items():
        path = find_any(tree, *patterns, accepts=_has_identifiers)
        if path is not None:
            rows += [(split, *row) for row in _read_rows(path)]
            found.add(split)
    if not found:
        raise no_file(tree, *_NAMES.values())
    class_names = tuple(sorted({label for _, label, _, _ in rows if label}))
    index_of = {name: index for index, name in enumerate(class_names)}
    entries = tuple(
        Entry((f"{video}_{span[0]:06.0f}_{span[1]:06.0f}", video), index_of.get(label), split, (None, span))
        for split, label, video, span in rows
    )
    notes = say_absent(_NAMES, found) + say_classes(len(class_names), *_NUM_CLASSES)
    return Annotations(class_names, entries, notes=notes, may_be_cut=True)


def is_kinetics(tree: Tree) -> bool:
    """Whether annotations of Kinetics are there."""
    return any(tree.find(*patterns, accepts=_has_identifiers) for patterns in _FILES.values())


def _has_identifiers(path: Path) -> bool:
    """Look at the header: other lists are called ``train.csv`` as well."""
    try:
        with path.open("rb") as file:
            return b"youtube_id" in file.readline(1000)
    except OSError:
        return False


def _read_rows(path: Path) -> list[tuple[str, str, Span]]:
    """Read label, identifier and times of every clip."""
    problems = Problems(path)
    rows: list[tuple[str, str, Span]] = []
    for line, row in read_table(path, "youtube_id", "time_start", "time_end"):
        video, times = row["youtube_id"].strip(), (row["time_start"], row["time_end"])
        try:
            start, end = (round(float(text)) for text in times)
        except (ValueError, OverflowError):
            start, end = 0, 0
        if not video:
            problems.add(line, "youtube_id is empty")
        elif not 0 <= start < end:
            problems.add(
                line, f"time_start and time_end must be seconds, one after the other, not {times[0]!r}, {times[1]!r}"
            )
        else:
            rows.append((row.get("label", "").strip(), video, (start, end)))
    problems.raise_any()
    return rows
