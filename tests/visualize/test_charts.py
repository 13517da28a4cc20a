"""Charts are PNG files that say what they should."""

import io

import pytest
import torch
from PIL import Image

from everest.visualize import accuracy_bars, confusion, curves


def size(png: bytes) -> tuple[int, int]:
    image = Image.open(io.BytesIO(png))
    image.load()
    assert image.format == "PNG"
    return image.size


def test_curves_with_and_without_points() -> None:
    assert size(curves({"a": [(0, 1.0), (1, 0.5)], "b": []}, "t", "x", "y")) == size(curves({}, "t", "x", "y"))


@pytest.mark.parametrize("num_classes", [1, 5, 30, 101])
def test_confusion_of_any_number_of_classes(num_classes: int) -> None:
    matrix = torch.randint(0, 9, (num_classes, num_classes), generator=torch.Generator().manual_seed(0))
    width, height = size(confusion(matrix, [f"class <{i}>" for i in range(num_classes)]))
    assert min(width, height) > 300


def test_a_class_without_clips_is_no_division_by_zero() -> None:
    assert size(confusion([[0, 0], [1, 2]], ["empty", "full"]))[0] > 300


def test_bars_with_and_without_a_reference() -> None:
    rows = [("ours", 0.5, (0.3, 0.7)), ("theirs", 0.4, (0.2, 0.6))]
    assert size(accuracy_bars(rows, ("always one class", 0.3)))[1] >= size(accuracy_bars(rows[:1]))[1]
