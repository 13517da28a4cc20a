"""UCF101: 101 actions in 13,320 videos ``v_ClassName_g01_c01.avi``, three official splits.

``classInd.txt`` numbers the classes from 1; ``trainlist0N.txt`` has ``Class/video.avi label``, ``testlist0N.txt`` the
path only.
"""

from pathlib import Path, PurePosixPath

from everest.datasets.layouts.annotations import Annotations, Entry, check_fold, find_file, read_lines
from everest.datasets.rows import Problems


def read_ucf101(folder: Path, fold: int = 1) -> Annotations:
    """Read the class index and one of the official splits.

    Args:
        folder: Holds ``classInd.txt`` and the lists, there or in a folder below.
        fold: 1, 2 or 3.

    Raises:
        ManifestError: A file is missing, or a line cannot be read.
    """
    check_fold(fold)
    index_of = _read_classes(find_file(folder, "classInd.txt"))
    entries = []
    for split in ("train", "test"):
        path = find_file(folder, f"{split}list{fold:02d}.txt")
        problems = Problems(path)
        for line, text in read_lines(path):
            video, _, number = text.partition(" ")
            parts = PurePosixPath(video).parts
            label = index_of.get(parts[0]) if len(parts) == 2 else None
            if label is None:
                problems.add(line, f"expected Class/video.avi with a class of classInd.txt, not {text!r}")
            elif number and number.strip() != str(label + 1):
                problems.add(line, f"label {number.strip()} of {video} is {label + 1} in classInd.txt")
            else:
                entries.append(Entry((PurePosixPath(video).stem,), label, split))
        problems.raise_any()
    return Annotations(tuple(index_of), tuple(entries))


def _read_classes(path: Path) -> dict[str, int]:
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
    problems.raise_any()
    return {numbered[number]: number - 1 for number in sorted(numbered)}
