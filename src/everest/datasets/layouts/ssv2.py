"""Something-Something v2: 174 movements with things, 220,847 videos ``ID.webm``.

``labels.json`` numbers the class names; the lists of training and validation have an ``id`` and a ``template``, which
is the class name with the placeholders in square brackets; the list of the test set has ids only, and
``test-answers.csv``, where it is there, ``id;class name``.
"""

from pathlib import Path

from everest.datasets.layouts.annotations import (
    Annotations,
    Entry,
    find_file,
    find_files,
    parse_records,
    read_json,
    read_lines,
)
from everest.datasets.rows import Problems
from everest.errors import ManifestError, nearest

_OLD = "something-something-v2-"


def read_ssv2(folder: Path, fold: int = 1) -> Annotations:
    """Read the class list and the annotations of all splits that are there.

    Args:
        folder: Holds the JSON files, there or in a folder below.
        fold: Not used: there is one official split.

    Raises:
        ManifestError: A file is missing or is not what it should be.
    """
    del fold
    index_of = _read_labels(find_file(folder, "labels.json", f"{_OLD}labels.json"))
    entries: list[Entry] = []
    for split, name in (("train", "train.json"), ("val", "validation.json")):
        path = find_file(folder, name, _OLD + name)
        problems = Problems(path)
        records = parse_records(path, read_json(path), id=str, template=str)
        for number, record in enumerate(records, 1):
            class_name = _plain(record["template"])
            if class_name in index_of:
                entries.append(Entry((record["id"],), index_of[class_name], split))
            else:
                problems.add(number, f"class {class_name!r} is not in labels.json: {nearest(class_name, index_of)}")
        problems.raise_any()
    for path in find_files(folder, "test.json", f"{_OLD}test.json"):
        answers = _read_answers(folder, index_of)
        for record in parse_records(path, read_json(path), id=str):
            entries.append(Entry((record["id"],), answers.get(record["id"]), "test"))
    return Annotations(tuple(index_of), tuple(entries))


def _plain(template: str) -> str:
    return template.replace("[", "").replace("]", "")


def _read_labels(path: Path) -> dict[str, int]:
    """Read the classes in the order of their numbers."""
    values = read_json(path)
    try:
        numbered = sorted((int(number), str(name)) for name, number in values.items())
    except (AttributeError, ValueError):
        raise ManifestError(f"{path}: expected names with numbers, such as {{'Holding something': '42'}}") from None
    if [number for number, _ in numbered] != list(range(len(numbered))):
        raise ManifestError(f"{path}: classes must be numbered from 0 to {len(numbered) - 1} without gaps")
    return {name: number for number, name in numbered}


def _read_answers(folder: Path, index_of: dict[str, int]) -> dict[str, int]:
    """Read the labels of the test set where they are there."""
    answers = {}
    for path in find_files(folder, "test-answers.csv"):
        problems = Problems(path)
        for line, text in read_lines(path):
            video, _, class_name = text.partition(";")
            if _plain(class_name) in index_of:
                answers[video.strip()] = index_of[_plain(class_name)]
            else:
                problems.add(line, f"expected an id and a class of labels.json, not {text!r}")
        problems.raise_any()
    return answers
