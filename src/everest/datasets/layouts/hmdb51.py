"""HMDB51: 51 actions in 6,766 videos, three official splits.

``CLASS_test_splitN.txt`` has a line ``video.avi MARK`` for every video of a class: 1 for training, 2 for testing, 0 for
neither, so that each split has 70 videos of a class for training and 30 for testing.
"""

from pathlib import Path

from everest.datasets.layouts.annotations import (
    NUM_FOLDS,
    Annotations,
    Entry,
    check_fold,
    no_file,
    read_lines,
    say_classes,
)
from everest.datasets.rows import Problems
from everest.datasets.tree import Tree
from everest.errors import ManifestError

_NUM_CLASSES = 51
_SPLITS = {"1": "train", "2": "test"}


def read_hmdb51(tree: Tree, fold: int = 1) -> Annotations:
    """Read one of the official splits.

    Args:
        tree: Has the ``*_test_split*.txt`` files somewhere.
        fold: 1, 2 or 3.

    Raises:
        ManifestError: The files are missing, or a line cannot be read.
    """
    check_fold(fold)
    path_of = _find_lists(tree, fold)
    class_names = tuple(sorted(path_of))
    entries: list[Entry] = []
    unused: list[str] = []
    for label, name in enumerate(class_names):
        problems = Problems(path_of[name])
        for line, text in read_lines(path_of[name]):
            video, _, mark = text.rpartition(" ")
            stem = video.strip().removesuffix(".avi")
            if not stem or mark not in {"0", "1", "2"}:
                problems.add(line, f"expected a video and 0, 1 or 2, not {text!r}")
            elif mark == "0":
                unused.append(stem)
            else:
                entries.append(Entry((stem,), label, _SPLITS[mark]))
        problems.raise_any()
    left_out = f"{len(unused)} annotated videos belong to neither side of split {fold}"
    notes = ((left_out,) if unused else ()) + say_classes(len(class_names), _NUM_CLASSES)
    return Annotations(class_names, tuple(entries), frozenset(unused), notes)


def is_hmdb51(tree: Tree) -> bool:
    """Whether the annotations of HMDB51 are there."""
    return any(name.endswith("_test_split1.txt") for name in tree.texts)


def _find_lists(tree: Tree, fold: int) -> dict[str, Path]:
    """Find the list of every class.

    Raises:
        ManifestError: There is none, a class has two, or a class has lists for other folds only.
    """
    path_of: dict[str, Path] = {}
    ending = f"_test_split{fold}.txt"
    for path in tree.find(f"*{ending}"):
        other = path_of.setdefault(path.name.removesuffix(ending), path)
        if other != path:
            raise ManifestError(
                f"{tree.root}: {other} and {path} could both be meant; name one folder with --annotations"
            )
    if not path_of:
        raise no_file(tree, f"CLASS{ending}")
    for number in range(1, NUM_FOLDS + 1):  # a class left out would move the labels of those after it
        for name in sorted(tree.texts):
            class_name = name.removesuffix(f"_test_split{number}.txt")
            if class_name not in {name, *path_of}:
                raise ManifestError(f"{tree.texts[name][0]} is there, but {class_name}{ending} is not")
    return path_of
