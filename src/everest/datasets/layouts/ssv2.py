"""Something-Something v2: 174 movements with things, 220,847 videos ``ID.webm``.

``labels.json`` numbers the class names; the lists of training and validation have an ``id`` and a ``template``, which
is the class name with the placeholders in square brackets; the list of the test set has ids only, and
``test-answers.csv``, where it is there, ``id;class name``.
"""

from pathlib import Path

from everest.datasets.layouts.annotations import (
    Annotations,
    Entry,
    as_name,
    find_any,
    find_one,
    no_file,
    parse_records,
    read_json,
    read_lines,
    say_absent,
    say_classes,
)
from everest.datasets.rows import Problems
from everest.datasets.tree import Tree
from everest.errors import ManifestError, nearest

_NUM_CLASSES = 174
_OLD = "something-something-v2-"  # how the names of the files began
_FILES = {"train": "train.json", "val": "validation.json", "test": "test.json"}


def read_ssv2(tree: Tree, fold: int = 1) -> Annotations:
    """Read the class list and the annotations of all splits that are there.

    Args:
        tree: Has the JSON files somewhere.
        fold: Not used: there is one official split.

    Raises:
        ManifestError: A file is missing or is not what it should be.
    """
    del fold
    index_of = _read_labels(find_one(tree, "labels.json", f"{_OLD}labels.json"))
    path_of = {split: find_any(tree, name, _OLD + name) for split, name in _FILES.items()}
    found = {split: path for split, path in path_of.items() if path is not None}
    if not found:
        raise no_file(tree, *_FILES.values())
    answers = _read_answers(tree, index_of) if "test" in found else {}
    entries: list[Entry] = []
    for split, path in found.items():
        entries += _read_entries(path, split, answers if split == "test" else None, index_of)
    notes = say_absent(_FILES, set(found)) + say_classes(len(index_of), _NUM_CLASSES)
    return Annotations(tuple(index_of), tuple(entries), notes=notes)


def is_ssv2(tree: Tree) -> bool:
    """Whether the annotations of Something-Something v2 are there."""
    return any({f"{old}labels.json", f"{old}train.json"} <= set(tree.texts) for old in ("", _OLD))


def _read_entries(path: Path, split: str, answers: dict[str, int] | None, index_of: dict[str, int]) -> list[Entry]:
    """Read one list; the labels come from ``answers`` where those are given, else from the templates."""
    problems = Problems(path, "clip")
    entries = []
    fields = {"id": as_name} if answers is not None else {"id": as_name, "template": as_name}
    for number, record in parse_records(path, read_json(path), problems, **fields):
        if answers is not None:
            entries.append(Entry((record["id"],), answers.get(record["id"]), split))
            continue
        name = _plain(record["template"])
        if name in index_of:
            entries.append(Entry((record["id"],), index_of[name], split))
        else:
            problems.add(number, f"class {name!r} is not in labels.json{_guess(name, index_of)}")
    problems.raise_any()
    return entries


def _plain(template: str) -> str:
    return template.replace("[", "").replace("]", "").strip()


def _guess(name: str, index_of: dict[str, int]) -> str:
    guess = nearest(name, index_of)
    return f": {guess}" if guess.startswith("did you mean") else ""  # else it lists all 174


def _read_labels(path: Path) -> dict[str, int]:
    """Read the classes in the order of their numbers."""
    values = read_json(path)
    try:
        numbered = sorted((int(number), str(name)) for name, number in values.items())
    except (AttributeError, TypeError, ValueError, OverflowError):
        raise ManifestError(f"{path}: expected names with numbers, such as {{'Holding something': '42'}}") from None
    if not numbered or [number for number, _ in numbered] != list(range(len(numbered))):
        raise ManifestError(f"{path}: classes must be numbered from 0 to {max(len(numbered), 1) - 1} without gaps")
    return {name: number for number, name in numbered}


def _read_answers(tree: Tree, index_of: dict[str, int]) -> dict[str, int]:
    """Read the labels of the test set where they are there."""
    path = find_any(tree, "test-answers.csv", f"{_OLD}test-answers.csv")
    if path is None:
        return {}
    answers = {}
    problems = Problems(path)
    for line, text in read_lines(path):
        video, _, class_name = text.partition(";")
        if _plain(class_name) in index_of:
            answers[video.strip()] = index_of[_plain(class_name)]
        else:
            problems.add(line, f"expected an id and a class of labels.json, not {text!r}")
    problems.raise_any()
    return answers
