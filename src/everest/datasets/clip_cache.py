"""Clips from far away on a disk nearby: whole and right, or not at all, however many processes use it at once.

FOLDER/everest-clips/
├── ab/ab12...    one file for each clip, named by the SHA-256 of its bytes
├── num_bytes     how many bytes all of them have, and those that are being written
└── .lock         held for the microseconds in which that number changes, and while room is made
"""

import errno
import hashlib
import logging
import os
import time
import uuid
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from everest.errors import ConfigError
from everest.links import open_itself, open_new

_NAME = "everest-clips"
_PART = ".part"  # of a file that is being written
_ROOM = 0.05  # share of the limit that is made free at once, for it takes a look at every file
_REST_SECONDS = (60.0, 3600.0)  # in which nothing is kept after that was no use: at first, and after many times
_LEFT_BEHIND_SECONDS = 3600.0  # after which the part of a file has nobody who writes it any more
_LOCK_SECONDS = 30.0  # longer than looking at a million files takes

_LOG = logging.getLogger("everest")


@dataclass(frozen=True)
class _Entry:
    """A file of the cache."""

    path: Path
    num_bytes: int
    used: float


class ClipCache:
    """Files in a folder, no more than so many bytes. Those that were not used for longest go first.

    A file appears under its name when it is complete, and is compared with its name whenever it is read: what a disk, a
    crash or a person has changed is thrown away. Nothing here stops a run: where the cache cannot be used, a warning
    says why, and it is as if the clip was not in it.

    Args:
        folder: Is made where it does not exist; only a folder in it, ``everest-clips``, is ever touched.
        max_bytes: Of all files together.
    """

    def __init__(self, folder: str | Path, max_bytes: int) -> None:
        self.folder = Path(folder).expanduser().absolute() / _NAME
        self.max_bytes = max_bytes
        self._rest_until = 0.0
        self._rest_seconds = _REST_SECONDS[0]
        self._told: set[str] = set()

    def prepare(self) -> None:
        """See that the folder can be written to, before anything depends on it.

        Raises:
            ConfigError: It cannot.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with self._lock():
                self._write_total(self._read_total())
        except (OSError, NotImplementedError) as error:  # the latter: a file system without locks
            reason = getattr(error, "strerror", None) or error
            raise ConfigError(f"data.remote.cache_dir: {self.folder.parent} cannot be used: {reason}") from None

    def get(self, sha256: str) -> bytes | None:
        """Read the bytes that have this hash; None where they are not here."""
        path = self._path(sha256)
        try:
            content = path.read_bytes()
            if hashlib.sha256(content).hexdigest() != sha256:
                _LOG.warning("%s: is damaged, and fetched again", path)
                self._remove(_Entry(path, len(content), 0.0))
                return None
            os.utime(path)
        except FileNotFoundError:
            return None
        except OSError as error:
            self._say(error)
            return None
        return content

    def keep(self, sha256: str, content: bytes, needed: Callable[[], Collection[str]] = tuple) -> bool:
        """Write bytes, if there is room or room can be made.

        Args:
            sha256: Their hash; the caller has compared it.
            content: The bytes.
            needed: Gives the hashes that make no room for others. Who reads all clips in one random order after the
                other gains more from keeping the first ones than from keeping the last.

        Returns:
            Whether they are in the cache now.
        """
        path = self._path(sha256)
        if time.monotonic() < self._rest_until:
            return False
        try:
            part = self._reserve(path, len(content), needed)
            if part is None:
                return path.exists()
            self._write(path, part, content)
        except (OSError, NotImplementedError) as error:
            self._say(error)
            self._rest()
            return False
        self._rest_seconds = _REST_SECONDS[0]
        return True

    def _reserve(self, path: Path, num_bytes: int, needed: Callable[[], Collection[str]]) -> Path | None:
        """Begin a file of so many bytes, so that whoever counts next counts it; None: it is there, or finds no room."""
        with self._lock():
            if path.exists():
                return None
            total = self._read_total()
            if total + num_bytes > self.max_bytes:
                total = self._make_room(num_bytes, needed())
            if total + num_bytes > self.max_bytes:
                self._rest()
                return None
            path.parent.mkdir(exist_ok=True)
            part = path.with_name(f"{path.name}.{uuid.uuid4().hex}{_PART}")
            with open_new(part) as file:
                file.truncate(num_bytes)
            self._write_total(total + num_bytes)
        return part

    def _write(self, path: Path, part: Path, content: bytes) -> None:
        try:
            with open(part, "r+b", opener=open_itself) as file:  # it keeps its size, which others may be counting
                file.write(content)
            with self._lock():  # nobody finds it under both names, or under none
                part.replace(path)
        except OSError:
            with suppress(OSError):
                self._remove(_Entry(part, len(content), 0.0))
            raise

    def _make_room(self, num_bytes: int, needed: Collection[str]) -> int:
        """Delete what was not used for longest, and count what is left. Only with the lock."""
        entries = sorted(self._entries(), key=lambda entry: entry.used)
        total = sum(entry.num_bytes for entry in entries)
        aim = max(0, self.max_bytes - num_bytes - int(_ROOM * self.max_bytes))
        for entry in entries:
            if total <= aim:
                break
            if entry.path.name not in needed and not entry.path.name.endswith(_PART):
                entry.path.unlink(missing_ok=True)
                total -= entry.num_bytes
        self._write_total(total)
        return total

    def _remove(self, entry: _Entry) -> None:
        with self._lock():
            entry.path.unlink(missing_ok=True)
            self._write_total(self._read_total() - entry.num_bytes)

    def _entries(self) -> Iterator[_Entry]:
        """Look at every file; parts that nobody writes any more are deleted."""
        for folder in self.folder.iterdir():
            if not folder.is_dir():
                continue
            with os.scandir(folder) as files:
                for file in files:
                    with suppress(FileNotFoundError):
                        status = file.stat()
                        path = Path(file.path)
                        if file.name.endswith(_PART) and time.time() - status.st_mtime > _LEFT_BEHIND_SECONDS:
                            path.unlink()
                        else:
                            yield _Entry(path, status.st_size, status.st_mtime)

    def _count(self) -> int:
        return sum(entry.num_bytes for entry in self._entries())

    def _read_total(self) -> int:
        try:
            return int(self._total_file.read_text(encoding="ascii"))
        except (FileNotFoundError, ValueError):  # deleted by somebody, or cut off by a crash
            return self._count()

    def _write_total(self, total: int) -> None:
        with open(self._total_file, "w", encoding="ascii", opener=open_itself) as file:
            file.write(str(max(0, total)))

    def _lock(self) -> FileLock:
        if not self.folder.parent.is_dir():  # the lock would make it, perhaps where a disk was
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        return FileLock(self.folder / ".lock", timeout=_LOCK_SECONDS, poll_interval=0.001)

    def _path(self, sha256: str) -> Path:
        return self.folder / sha256[:2] / sha256

    @property
    def _total_file(self) -> Path:
        return self.folder / "num_bytes"

    def _rest(self) -> None:
        """Keep nothing for a while, a longer one each time."""
        self._rest_until = time.monotonic() + self._rest_seconds
        self._rest_seconds = min(2 * self._rest_seconds, _REST_SECONDS[1])

    def _say(self, error: Exception) -> None:
        """Say what is wrong with the cache, once."""
        reason = "somebody holds its lock" if isinstance(error, Timeout) else getattr(error, "strerror", None) or error
        if str(reason) not in self._told:
            _LOG.warning("%s: the cache cannot be used: %s; clips are fetched instead", self.folder.parent, reason)
        self._told.add(str(reason))
