"""The names that `import everest` offers."""

import subprocess
import sys

import pytest

import everest


def test_all_names_exist_and_are_sorted() -> None:
    assert everest.__all__ == sorted(everest.__all__)
    assert set(everest._HOMES) | {"__version__"} == set(everest.__all__)
    for name in everest.__all__:
        assert getattr(everest, name) is not None
    assert dir(everest) == everest.__all__


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="pretrian"):
        everest.pretrian  # noqa: B018


def test_importing_everest_is_light() -> None:
    code = "import sys, everest, everest.cli; print('torch' in sys.modules)"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
        == "False"
    )
