"""Write a file completely or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from everest.errors import RunError


@contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """Open a file that appears under its name only when it is complete and on the disk.

    The bytes go to ``.NAME.tmp`` in the same folder, which then replaces the target in one step, so a reader (or a
    program started after a crash) sees the old file or the new one, never a part.

    Args:
        path: The file to write or replace; its folder must exist.

    Yields:
        The binary file to write to.

    Raises:
        RunError: The file cannot be written: no permission, no space left.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise RunError(f"{path} could not be written: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Put the new name on the disk too; only POSIX systems can."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
