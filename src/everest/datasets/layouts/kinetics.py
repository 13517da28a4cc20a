"""Kinetics-400, -600 and -700: clips of ten seconds from web videos.

``train.csv``, ``val.csv`` (or ``validate.csv``) and ``test.csv`` have the columns label, youtube_id, time_start,
time_end and split; the labels of the test set are missing in some editions. Files are called ``ID_000010_000020.mp4``
or ``ID.mp4`` and hold that clip only; they lie in class folders, split folders, or side by side.
"""

from pathlib import Path

from everest.datasets.layouts.annotations import Annotations, Entry, find_files, read_table
from everest.datasets.rows import Problems
from everest.errors import ManifestError

_FILES = {"train": ("train.csv", "*_train.csv"), "val": ("val*.csv", "*_val*.csv"), "test": ("test.csv", "*_test.csv")}


def read_kinetics(folder: Path, fold: int = 1) -> Annotations:
    """Read the annotations of all splits that are there.

    Args:
        folder: Holds the CSV files, there or in a folder below.
        fold: Not used: there is one official split.

    Raises:
        ManifestError: No file is there, or a line cannot be read.
    """
    del fold
    rows: list[tuple[str, str, tuple[str, ...]]] = []  # label, split, names
    for split, patterns in _FILES.items():
        for path in find_files(folder, *patterns)[:1]:
            rows += [(label, split, names) for label, names in _read_rows(path)]
    if not rows:
        raise ManifestError(
            f"{folder}: no train.csv, val.csv or test.csv there or below; name their folder with --annotations"
        )
    class_names = tuple(sorted({label for label, _, _ in rows if label}))
    index_of = {name: index for index, name in enumerate(class_names)}
    return Annotations(class_names, tuple(Entry(names, index_of.get(label), split) for label, split, names in rows))


def _read_rows(path: Path) -> list[tuple[str, tuple[str, ...]]]:
    """Read the class and the possible file names of every clip."""
    problems = Problems(path)
    rows: list[tuple[str, tuple[str, ...]]] = []
    for line, row in read_table(path, "youtube_id", "time_start", "time_end"):
        video = row["youtube_id"].strip()
        try:
            start, end = (round(float(row[name])) for name in ("time_start", "time_end"))
        except ValueError:
            problems.add(
                line, f"time_start and time_end must be seconds, not {row['time_start']!r}, {row['time_end']!r}"
            )
            continue
        if not video:
            problems.add(line, "youtube_id is empty")
            continue
        rows.append((row.get("label", "").strip(), (f"{video}_{start:06d}_{end:06d}", video)))
    problems.raise_any()
    return rows
