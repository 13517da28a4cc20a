"""What ``everest runs`` does with its options; see :mod:`everest.commands`."""

import sys
from argparse import Namespace
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from everest.commands import EXIT_OK, print_result
from everest.errors import ConfigError

if TYPE_CHECKING:
    from everest.history import Axis, RunComparison


def runs_list(options: Namespace) -> int:
    """List the runs below a folder."""
    from everest.history import find_runs

    found = find_runs(options.folder)
    print_result(options, found.to_dict(), str(found))
    _warn(found.problems)
    return EXIT_OK


def runs_show(options: Namespace) -> int:
    """Show one run."""
    from everest.history import show_run

    shown = show_run(options.run)
    print_result(options, shown.to_dict(), str(shown))
    return EXIT_OK


def runs_compare(options: Namespace) -> int:
    """Put runs side by side."""
    from everest.history import compare_runs

    compared = compare_runs(options.runs)
    values, text = compared.to_dict(), str(compared)
    if options.plot is not None:
        _write(options.plot, _draw(compared, options.over))
        values["plot"] = str(options.plot)
        text += f"\nwritten: {options.plot}"
    print_result(options, values, text)
    _warn(compared.problems)
    return EXIT_OK


def _draw(compared: "RunComparison", axis: "Axis") -> bytes:
    from everest.reports.curves import AXIS_LABELS, curves_of
    from everest.visualize import draw_runs

    curves = [curves_of(run, name, axis) for run, name in zip(compared.runs, compared.names, strict=True)]
    return draw_runs(curves, AXIS_LABELS[axis])


def _write(path: Path, picture: bytes) -> None:
    """Write a picture, never over something else.

    Raises:
        ConfigError: The name is not one of a PNG file, is taken by something else, or cannot be written.
    """
    if path.suffix.lower() != ".png":
        raise ConfigError(f"--plot {path}: expected a name that ends in .png")
    try:
        if path.exists() and not path.read_bytes()[:8].startswith(b"\x89PNG"):
            raise ConfigError(f"--plot {path}: holds something else than a picture; choose another name")
        path.write_bytes(picture)
    except OSError as error:
        raise ConfigError(f"--plot {path}: cannot be written: {error.strerror or error}") from None


def _warn(problems: Iterable[str]) -> None:
    for problem in problems:
        print(f"warning: {problem}", file=sys.stderr)
