"""The slow files come first, and Ray last, whatever is asked for."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

TESTS = Path(__file__).parent


@pytest.fixture
def conftest(pytestconfig: pytest.Config) -> Any:
    plugins = pytestconfig.pluginmanager.get_plugins()
    return next(found for found in plugins if getattr(found, "__file__", "") == str(TESTS / "conftest.py"))


def test_the_slow_files_are_there(conftest: Any) -> None:
    assert set(conftest.SLOW_FILES) <= {path.stem for path in TESTS.rglob("test_*.py")}


def test_slow_files_come_first_and_ray_last(conftest: Any) -> None:
    names = ("test_on_ray", "test_grid", "test_array", conftest.SLOW_FILES[1], "test_scores", conftest.SLOW_FILES[0])
    items = [SimpleNamespace(path=Path(f"{name}.py")) for name in names]
    conftest.pytest_collection_modifyitems(items)
    order = [item.path.stem for item in items]
    assert order == [*conftest.SLOW_FILES[:2], "test_grid", "test_array", "test_scores", "test_on_ray"]
