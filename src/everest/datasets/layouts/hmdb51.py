"""HMDB51: 51 actions in 6,766 videos, three official splits.

``CLASS_test_splitN.txt`` has a line ``video.avi MARK`` for every video of a class: 1 for training, 2 for testing, 0 for
neither, so that each split has 70 videos of a class for training and 30 for testing.
"""

from pathlib import Path

from everest.datasets.layouts.annotations import Annotations, Entry, check_fold, find_files, read_lines
from everest.datasets.rows import Problems
from everest.errors import ManifestError

_SPLITS = {"1": "train", "2": "test"}


def read_hmdb51(folder: Path, fold: int = 1) -> Annotations:
    """Read one of the official splits.

    Args:
        folder: Holds the ``*_test_split*.txt`` files, there or in a folder below.
        fold: 1, 2 or 3.

    Raises:
        ManifestError: The files are missing, or a line cannot be read.
    """
    check_fold(fold)
    ending = f"_test_split{fold}.txt"
    paths = find_files(folder, f"*{ending}")
    if not paths:
        raise ManifestError(f"{folder}: no files CLASS{ending} there or below; name their folder with --annotations")
    class_names = tuple(sorted(path.name.removesuffix(ending) for path in paths))
    entries, unused = [], set()
    for path in paths:
        problems = Problems(path)
        label = class_names.index(path.name.removesuffix(ending))
        for line, text in read_lines(path):
            video, _, mark = text.rpartition(" ")
            name = video.strip().removesuffix(".avi")
            if not name or mark not in {"0", "1", "2"}:
                problems.add(line, f"expected a video and 0, 1 or 2, not {text!r}")
            elif mark == "0":
                unused.add(name)
            else:
                entries.append(Entry((name,), label, _SPLITS[mark]))
        problems.raise_any()
    note = f"{len(unused)} annotated videos belong to neither side of split {fold}"
    return Annotations(class_names, tuple(entries), frozenset(unused), note)
