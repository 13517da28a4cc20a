"""The log of a run, ``log.txt``: what was said to people, warnings and the end of it among them."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from everest.links import append_text


def append_line(path: Path, line: str) -> None:
    """Add a line to a log; where that fails, as on a full disk, the run has other troubles than its log."""
    try:
        with append_text(path) as log:
            log.write(line + "\n")
    except OSError:
        return


@contextmanager
def warnings_kept(keep: Callable[[str], None]) -> Iterator[None]:
    """Have warnings written down as well as shown.

    Args:
        keep: Takes a line for each.
    """
    show = warnings.showwarning

    def show_and_keep(  # noqa: PLR0917 - as Python calls it
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        keep(f"warning: {' '.join(str(message).split())}")
        show(message, category, filename, lineno, file, line)

    warnings.showwarning = show_and_keep
    try:
        yield
    finally:
        if warnings.showwarning is show_and_keep:
            warnings.showwarning = show
