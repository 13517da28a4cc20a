"""What ``everest weights`` does with its options; see :mod:`everest.commands`."""

from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from everest.commands import EXIT_FAILURES, EXIT_OK, print_result
from everest.errors import WeightsError

if TYPE_CHECKING:
    from everest.models.weights import Given


def weights_show(options: Namespace) -> int:
    """Say what a checkpoint holds, and whether it is all of a model."""
    from everest.models.weights import show_weights

    shown = show_weights(options.checkpoint, _given(options))
    print_result(options, shown.to_dict(), str(shown))
    return EXIT_OK if shown.is_complete else EXIT_FAILURES


def weights_convert(options: Namespace) -> int:
    """Write a checkpoint in another format."""
    from everest.models.weights import convert_weights

    converted = convert_weights(options.source, options.out, options.to, _given(options))
    print_result(options, converted.to_dict(), str(converted))
    return EXIT_OK


def _given(options: Namespace) -> "Given":
    from everest.models.weights import Given

    names = None if options.classes is None else _read_classes(options.classes)
    return Given(options.num_frames, options.height, options.width, options.stride, names)


def _read_classes(path: Path) -> tuple[str, ...]:
    """Read names, one in a line; empty lines at the end do not count.

    Raises:
        WeightsError: The file cannot be read, or a class in it has no name.
    """
    try:
        names = tuple(line.strip() for line in path.read_text(encoding="utf-8").rstrip().splitlines())
    except (OSError, UnicodeDecodeError) as error:
        raise WeightsError(f"{path}: cannot be read as a list of class names ({error})") from None
    if not names or not all(names):
        raise WeightsError(f"{path}: expected the name of a class in every line")
    return names
