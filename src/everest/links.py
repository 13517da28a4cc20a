"""Files that are written to where somebody may have put a link to another file: it is not followed. Imported by all."""

import errno
import os
from pathlib import Path
from typing import BinaryIO, TextIO

_NO_LINK = getattr(os, "O_NOFOLLOW", 0)


def open_itself(path: str | Path, flags: int) -> int:
    """Open a file as :func:`os.open` does, unless it is a link. May be the ``opener`` of :func:`open`.

    Raises:
        OSError: It is a link, which ``strerror`` names, or it cannot be opened.
    """
    try:
        return os.open(path, flags | _NO_LINK, 0o666)
    except OSError:
        if Path(path).is_symlink():
            message = f"{path} is a link, through which nothing is written: delete it"
            raise OSError(errno.ELOOP, message) from None
        raise


def append_text(path: Path) -> TextIO:
    """Open a file to add lines to it, in UTF-8; names that cannot be written so are escaped.

    Raises:
        OSError: It is a link, which ``strerror`` names, or it cannot be opened.
    """
    return open(path, "a", encoding="utf-8", errors="backslashreplace", newline="", opener=open_itself)


def open_new(path: Path) -> BinaryIO:
    """Begin a file, in place of what has its name: a link goes, and what it leads to stays as it is.

    Raises:
        OSError: It cannot be opened.
    """
    path.unlink(missing_ok=True)
    return open(path, "wb", opener=open_itself)


def write_new(path: Path, content: str | bytes) -> None:
    """Write a file as :func:`open_new` begins one; text in UTF-8.

    Raises:
        OSError: It cannot be written.
    """
    with open_new(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)
