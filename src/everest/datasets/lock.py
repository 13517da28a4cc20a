"""One program at a time writes to a place."""

import errno
import logging
import os
import socket
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from everest.errors import DataError
from everest.links import open_itself

_LOG = logging.getLogger("everest")
_HELD: set[Path] = set()  # by this process, to which the system would give the same lock twice
_TAKEN = (errno.EACCES, errno.EAGAIN)
_UNKNOWN = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL)


class Lock:
    """Holds a place for as long as a ``with`` statement lasts.

    The system keeps the lock, not the file: it ends with the process, even one that is killed, so a file that was left
    behind blocks nobody. These are record locks, which child processes do not inherit and servers of NFS know. Where
    a system or a file system knows none, a warning says so and the work goes on.

    Args:
        path: A file that is made for the lock and removed after it.
        busy: The message where somebody else holds it, with ``{owner}`` for who that is.

    Raises:
        DataError: Somebody else holds it; nothing was changed.
        OSError: The file cannot be made, or is a link.
    """

    def __init__(self, path: Path, busy: str) -> None:
        self._path, self._busy = path.absolute(), busy
        self._file: int | None = None

    def __enter__(self) -> None:
        if self._path in _HELD:
            raise DataError(self._say_busy(f"process {os.getpid()}, this one,"))
        while self._file is None:
            file = open_itself(self._path, os.O_RDWR | os.O_CREAT)
            try:
                self._take(file)
                # The last holder may have removed the file since it was opened here; then others lock another one.
                if self._is_in_place(file):
                    self._file = file
            finally:
                if self._file is None:
                    os.close(file)
        os.truncate(self._file, 0)
        os.write(self._file, _say_me().encode())
        _HELD.add(self._path)

    def _take(self, file: int) -> None:
        try:
            import fcntl

            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except ImportError:
            _LOG.warning("%s: this system knows no locks of files: see that nothing else writes there", self._path)
        except OSError as error:
            if error.errno in _TAKEN:
                owner = os.read(file, 200).decode(errors="replace") or "another process"
                raise DataError(self._say_busy(owner)) from None
            if error.errno not in _UNKNOWN:
                raise
            _LOG.warning("%s: this file system knows no locks: see that nothing else writes there", self._path)

    def _say_busy(self, owner: str) -> str:
        return self._busy.replace("{owner}", owner)  # a path may hold other braces

    def _is_in_place(self, file: int) -> bool:
        try:
            return os.path.samestat(self._path.stat(), os.fstat(file))
        except FileNotFoundError:
            return False

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            # Before it is let go: whoever waits for it sees that it is gone. On a disk that can only be read it
            # stays, without harm: nobody holds it, and why the disk cannot be used is said elsewhere.
            with suppress(OSError):
                self._path.unlink()
            os.close(self._file)
            _HELD.discard(self._path)
            self._file = None


def _say_me() -> str:
    return f"process {os.getpid()} on {socket.gethostname()}"
