"""Sections about accuracies: readable for two classes and for hundreds."""

import io

import pytest
import torch
from PIL import Image

from everest.evaluation import ClassAccuracy, Evaluation
from everest.visualize import HardClip, Report, evaluation_section, hardest_section, training_section


def an_evaluation(num_classes: int) -> Evaluation:
    """Ten clips of each class; the higher its number the more of them are recognised, and one is another class."""
    names = tuple(f"Putting something on something number {number}" for number in range(num_classes))
    confusion = torch.zeros(num_classes, num_classes, dtype=torch.int64)
    for number in range(num_classes):
        right = 10 * number // num_classes
        confusion[number, number] = right
        confusion[number, (number + 1) % num_classes] += 10 - right
    shares = (confusion.diagonal() / 10).tolist()
    return Evaluation(
        num_clips=10 * num_classes,
        num_views=15,
        top1=sum(shares) / num_classes,
        top1_interval=(0.25, 0.75),
        top5=None if num_classes <= 5 else 0.9,
        majority=1 / num_classes,
        per_class=tuple(ClassAccuracy(name, 10, share) for name, share in zip(names, shares, strict=True)),
        confusion=confusion,
        predictions=(),
        failures=(),
        class_names=names,
        manifest_digest="",
        part_digest="",
        note="",
        seconds=1.0,
    )


@pytest.mark.parametrize("num_classes", [2, 21, 174])
def test_any_number_of_classes_is_readable(num_classes: int) -> None:
    section = evaluation_section({"this run": an_evaluation(num_classes)})
    picture = Image.open(io.BytesIO(section.figures[-1].image))
    assert picture.width <= 1600
    assert picture.height / picture.width == pytest.approx(0.9, abs=0.3)  # names leave the matrix its room
    assert sum(len(table.rows) for table in section.tables) <= 25
    folded = [len(each.tables[0].rows) for each in section.folded]
    assert folded == ([] if num_classes <= 20 else [num_classes])


def test_of_many_classes_the_worst_are_named() -> None:
    section = evaluation_section({"this run": an_evaluation(50)})
    _, worst, mistaken = section.tables
    assert [row[2] for row in worst.rows] == ["0%"] * 5 + ["10%"] * 5
    assert mistaken.rows[0] == (*(f"Putting something on something number {n}" for n in (0, 1)), "10")


def test_only_mistakes_are_called_mistakes() -> None:
    wrong = HardClip("a", ("fall", 0.004), ("lie", 0.91), b"RIFF")
    right = HardClip("b", ("fall", 0.6), ("fall", 0.6))
    section = hardest_section([wrong, right], 40)
    assert section.figures[0].caption == "a. True: fall (under 1\u00a0%). Predicted: lie (91\u00a0%)."
    assert section.figures[0].data_uri.startswith("data:image/webp;")
    assert section.notes == ()
    assert section.folded[0].tables[0].rows == (("b", "fall", "60\u00a0%", "fall", "60\u00a0%"),)
    assert "least certain" in hardest_section([right], 40).notes[0]


def test_a_run_without_steps_has_nothing_to_draw() -> None:
    section = training_section({})
    assert "No step" in section.paragraphs[0]
    assert section.figures == ()
    points = [(step, 1.0) for step in range(300)]
    drawn = training_section({"loss": points, "skipped_steps": points, "tokens_per_clip": points})
    assert len(drawn.figures) == 1  # what never changes is a number, no curve
    assert '<figure class="half">' in Report("a", "b", (drawn,)).render()
