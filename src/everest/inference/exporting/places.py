"""Where an export appears: under its name when it is complete and compared, and over nothing else by mistake."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from everest.errors import ConfigError, RunError
from everest.training.files import writing


def check_place(out: Path, suffixes: Sequence[str], *, overwrite: bool) -> None:
    """Refuse a name before anything is computed.

    Args:
        out: The file to make; with no suffixes, the folder.
        suffixes: That its name may have.
        overwrite: Whether it may be there already.

    Raises:
        ConfigError: The name has another suffix.
        RunError: Something is there.
    """
    if suffixes and out.suffix not in suffixes:
        raise ConfigError(f"{out}: the name of such a file ends in {' or '.join(suffixes)}")
    is_there = out.exists() or out.is_symlink()
    if not is_there or (not suffixes and out.is_dir() and not any(out.iterdir())):
        return
    if not overwrite:
        raise RunError(f"{out} exists already: name a new {'file' if suffixes else 'folder'}, or add --overwrite")
    if out.is_dir() == bool(suffixes):
        raise RunError(f"{out} is a {'folder' if suffixes else 'file'}: name another place")


@contextmanager
def staging(out: Path) -> Iterator[Path]:
    """Give a new folder beside OUT, which is gone afterwards with all that was not published.

    Raises:
        RunError: Nothing can be written there.
    """
    with writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        folder = TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent, ignore_cleanup_errors=True)
    with folder as name:
        yield Path(name)


def publish(folder: Path, names: Sequence[str], target: Path) -> int:
    """Move files to where they belong, the one that names the others last.

    Args:
        folder: Where they were made.
        names: Of the files, the most important one first.
        target: The folder where they belong; it is made.

    Returns:
        Their size in bytes.

    Raises:
        RunError: They cannot be moved.
    """
    num_bytes = 0
    with writing(target / names[0]):
        target.mkdir(parents=True, exist_ok=True)
        for name in reversed(names):
            path = folder / name
            descriptor = os.open(path, os.O_RDWR)
            try:
                os.fsync(descriptor)  # before its name is there, or a power cut leaves an empty file under it
            finally:
                os.close(descriptor)
            num_bytes += path.stat().st_size
            path.replace(target / name)
    return num_bytes
