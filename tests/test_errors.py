"""The error tree and the hint that ends a message about a misspelt name."""

import inspect
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everest import errors
from everest.errors import EverestError, nearest

CLASSES = [member for _, member in inspect.getmembers(errors, inspect.isclass) if member.__module__ == errors.__name__]


@pytest.mark.parametrize("kind", CLASSES)
def test_every_error_can_be_caught_at_once(kind: type[Exception]) -> None:
    assert issubclass(kind, EverestError)
    assert str(kind("one line")) == "one line"


def test_the_drawn_tree_is_the_real_one() -> None:
    drawn = re.findall(r"[A-Z]\w+Error", inspect.getdoc(errors) or "")
    assert sorted(drawn) == sorted(kind.__name__ for kind in CLASSES)


def test_video_and_manifest_errors_are_data_errors() -> None:
    assert issubclass(errors.VideoError, errors.DataError)
    assert issubclass(errors.ManifestError, errors.DataError)
    assert not issubclass(errors.WeightsError, errors.DataError)


@pytest.mark.parametrize(
    ("given_name", "hint"),
    [
        ("optim.epoch", "did you mean 'optim.epochs'?"),
        ("epochs", "did you mean 'optim.epochs'?"),
        ("data.strde", "did you mean 'clip.stride'?"),
        ("xyz", "accepted: clip.stride, optim.epochs"),
        ("", "accepted: clip.stride, optim.epochs"),
    ],
)
def test_the_nearest_name_is_named(given_name: str, hint: str) -> None:
    assert nearest(given_name, ["optim.epochs", "clip.stride"]) == hint


@given(st.lists(st.text("abc.", min_size=1), min_size=1, unique=True))
def test_a_right_name_is_nearest_to_itself(names: list[str]) -> None:
    assert nearest(names[0], names) == f"did you mean {names[0]!r}?"
