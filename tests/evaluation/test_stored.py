"""An evaluation that is read back is the one that was written; anything else is refused in a line."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from everest.errors import DataError
from everest.evaluation import (
    ClassAccuracy,
    ClipFailure,
    ClipResult,
    Evaluation,
    find_evaluations,
    hardest,
    most_probable,
    read_evaluation,
)


def an_evaluation(*of_first: float) -> Evaluation:
    """Clips of the first of two classes, given so much probability of it."""
    results = tuple(
        ClipResult(n, Path(f"clip {n}.mp4"), 0.5 * n, None, 0, torch.tensor([share, 1 - share], dtype=torch.float64))
        for n, share in enumerate(of_first)
    )
    right = sum(share >= 0.5 for share in of_first)
    return Evaluation(
        num_clips=len(results),
        num_views=3,
        top1=right / len(results),
        top1_interval=(0.25, 0.75),
        top5=None,
        majority=1.0,
        per_class=(ClassAccuracy("a", len(results), right / len(results)), ClassAccuracy("b", 0, None)),
        confusion=torch.tensor([[right, len(results) - right], [0, 0]]),
        predictions=results,
        failures=(ClipFailure(9, Path("torn.mp4"), "it is torn"),),
        class_names=("a", "b"),
        manifest_digest="m",
        part_digest="p",
        note="a note",
        seconds=1.5,
    )


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    given = an_evaluation(0.25, 0.75, 0.5)
    path = tmp_path / "evaluation.json"
    path.write_text(json.dumps(given.to_dict()))
    assert read_evaluation(path).to_dict() == given.to_dict()
    path.write_text(json.dumps(given.to_dict(predictions=False)))
    assert read_evaluation(path).predictions == ()


def test_the_hardest_come_first(tmp_path: Path) -> None:
    found = hardest(an_evaluation(0.4, 0.01, 0.9, 0.01, 0.5), 4)
    assert [each.record_index for each in found] == [1, 3, 0, 4]
    assert [most_probable(each) for each in found] == [1, 1, 1, 0]  # of equal ones the first class


@pytest.mark.parametrize(
    "change",
    [
        {"top1": 1.5},
        {"top1": float("nan")},
        {"num_clips": 0},
        {"class_names": ["a"]},
        {"class_names": []},
        {"confusion": [[1, 2]]},
        {"confusion": [[1], [2]]},
        {"confusion": [[-1, 0], [0, 0]]},
        {"predictions": [{"record_index": 0}]},
        {"top1_interval": [0.5]},
        {"per_class": None},
    ],
)
def test_anything_else_is_refused(change: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "evaluation.json"
    path.write_text(json.dumps(an_evaluation(0.5).to_dict() | change))
    with pytest.raises(DataError, match=r"does not hold an evaluation: \S") as caught:
        read_evaluation(path)
    assert "\n" not in str(caught.value)


def test_labels_and_probabilities_fit_the_classes(tmp_path: Path) -> None:
    path = tmp_path / "evaluation.json"
    for key, value in (("label", 2), ("probabilities", [1.0])):
        values = an_evaluation(0.5).to_dict()
        values["predictions"][0][key] = value
        path.write_text(json.dumps(values))
        with pytest.raises(DataError, match="class"):
            read_evaluation(path)
    with pytest.raises(DataError, match="cannot be read"):
        read_evaluation(tmp_path / "none.json")


def test_the_newest_is_found_first(tmp_path: Path) -> None:
    paths = [tmp_path / "evaluation.json", tmp_path / "a" / "evaluation.json", tmp_path / "b" / "evaluation.json"]
    for path, seconds in zip(paths, (20, 30, 10), strict=True):
        path.parent.mkdir(exist_ok=True)
        path.write_text("{}")
        os.utime(path, (seconds, seconds))
    assert find_evaluations(tmp_path) == [paths[1], paths[0], paths[2]]
    assert find_evaluations(tmp_path / "none") == []
