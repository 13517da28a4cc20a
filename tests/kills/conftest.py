"""The server that starts runs, and a line about what was survived at the end of the output."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from small_runs import write_data
from starts import Starts

LINES = pytest.StashKey[list[str]]()


@pytest.fixture(scope="package")
def starts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Starts]:
    """Starts the program in processes that can be killed."""
    server = Starts(tmp_path_factory.mktemp("starts"))
    yield server
    server.close()


@pytest.fixture(scope="package")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The manifest that all runs learn from."""
    return write_data(tmp_path_factory.mktemp("data") / "data.csv")


@pytest.fixture
def report_line(pytestconfig: pytest.Config) -> Callable[[str], None]:
    """A function that puts a line at the end of the output, whatever its options."""
    return pytestconfig.stash.setdefault(LINES, []).append


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for line in config.stash.get(LINES, []):
        terminalreporter.write_line(line)
