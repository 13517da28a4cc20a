"""Says at the end of the output how many damaged files were survived."""

from collections.abc import Callable

import pytest

LINES = pytest.StashKey[list[str]]()


@pytest.fixture
def report_line(pytestconfig: pytest.Config) -> Callable[[str], None]:
    """A function that puts a line at the end of the output, whatever its options."""
    return pytestconfig.stash.setdefault(LINES, []).append


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for line in config.stash.get(LINES, []):
        terminalreporter.write_line(line)
