"""UCF101: 101 actions in 13,320 videos ``v_ClassName_g01_c01.avi``, three official splits.

``classInd.txt`` numbers the classes from 1; ``trainlist0N.txt`` has ``Class/video.avi label``, ``testlist0N.txt`` the
path only. Some editions write ``HandStandPushups`` in one place and ``HandstandPushups`` in another.
"""

from pathlib import Path, PurePosixPath

from everest.datasets.layouts.annotations import Annotations, Entry, check_fold, find_one, read_lines, say_classes
from everest.datasets.rows import Problems
from everest.datasets.tree import Tree

_NUM_CLASSES = 101


def read_ucf101(tree: Tree, fold: int = 1) -> Annotations:
    """Read the class index and one of the official splits.

    Args:
        tree: Has ``classInd.txt`` and the lists somewhere.
        fold: 1, 2 or 3.

    Raises:
        ManifestError: A file is missing, or a line cannot be read.
    """
    check_fold(fold)
    class_names = _read_classes(find_one(tree, "classInd.txt"))
    index_of = {name.lower(): index for index, name in enumerate(class_names)}
    entries = []
    for split in ("train", "test"):
        path = find_one(tree, f"{split}list{fold:02d}.txt")
        problems = Problems(path)
        for line, text in read_lines(path):
            video, _, number = text.partition(" ")
            parts = PurePosixPath(video).parts
            label = index_of.get(parts[0].lower()) if len(parts) == 2 else None
            if label is None:
                problems.add(line, f"expected Class/video.avi with a class of classInd.txt, not {text!r}")
            elif number and number.strip() != str(label + 1):
                problems.add(line, f"label {number.strip()} of {video} is {label + 1} in classInd.txt")
            else:
                entries.append(Entry((PurePosixPath(video).stem,), label, split))
        problems.raise_any()
    return Annotations(
        class_names, tuple(entries), notes=say_classes(len(class_names), _NUM_CLASSES), ignores_case=True
    )


def is_ucf101(tree: Tree) -> bool:
    """Whether the annotations of UCF101 are there."""
    return "classInd.txt" in tree.texts


def _read_classes(path: Path) -> tuple[str, ...]:
    problems = Problems(path)
    numbered: dict[int, str] = {}
    for line, text in read_lines(path):
        number, _, name = text.partition(" ")
        if number.isdecimal() and name.strip() and int(number) not in numbered:
            numbered[int(number)] = name.strip()
        else:
            problems.add(line, f"expected a new number and a class name, not {text!r}")
    if sorted(numbered) != list(range(1, len(numbered) + 1)):
        problems.add(1, f"classes must be numbered from 1 to {len(numbered)} without gaps")
    names = tuple(numbered[number] for number in sorted(numbered))
    if len({name.lower() for name in names}) < len(names):
        problems.add(1, "a class name occurs twice")
    problems.raise_any()
    return names
