"""Write a file completely or not at all, and say what to do where that does not work."""

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from everest.errors import RunError, WeightsError
from everest.links import open_new

NUM_LISTED = 5  # files that a message names
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FORBIDDEN = (errno.EROFS, errno.EACCES, errno.EPERM)
_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ESTALE)


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
        with open_new(temporary) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise cannot_write(path, error) from error
    except RuntimeError as error:  # torch.save says that its archive is torn; why is what it was busy with
        if isinstance(error.__context__, OSError):
            raise cannot_write(path, error.__context__) from error
        raise
    finally:
        with suppress(OSError):  # a disk that cannot be written to says so here again
            temporary.unlink(missing_ok=True)


def cannot_write(path: Path, error: OSError) -> RunError:
    """Make the error of a file that cannot be written: why, and what to do."""
    why = f"{path} could not be written: {error.strerror or error}"
    if error.errno in _FULL:
        return RunError(
            f"{why}; nothing that was there before is lost: free some space, and go on with the same command"
        )
    if error.errno in _FORBIDDEN:
        return RunError(f"{why}; let this user write there, or choose another folder")
    if error.errno in _GONE:
        return RunError(f"{why}; its folder was deleted, moved or unmounted: bring it back, or choose another one")
    return RunError(why)


def folder_is_gone(folder: Path) -> RunError:
    """Make the error of a run whose folder is no longer there."""
    return RunError(
        f"{folder} was deleted, moved or unmounted while the run was going on: bring it back and go on with the same "
        "command, or start again in another folder"
    )


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what the system says of a file that cannot be written into an error for people.

    Raises:
        RunError: Writing failed inside the block.
    """
    try:
        yield
    except OSError as error:
        raise cannot_write(path, error) from error
    except WeightsError as error:  # as it is said where there is no run
        if isinstance(error.__context__, OSError):
            raise cannot_write(path, error.__context__) from None
        raise


def list_files(files: Sequence[str]) -> str:
    """Name a few files."""
    more = f" and {len(files) - NUM_LISTED} more" if len(files) > NUM_LISTED else ""
    return f"{', '.join(files[:NUM_LISTED])}{more}"


def _sync_folder(folder: Path) -> None:
    """Put the new name on the disk too; only POSIX systems can."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
