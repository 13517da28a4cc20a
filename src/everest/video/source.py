"""Where the bytes of a video are: a file of its own, or a part of a shard."""

import io
import re
import time
from dataclasses import dataclass
from pathlib import Path

import fsspec

from everest.errors import VideoError

_WAITS = (0.5, 2.0)  # seconds until a connection that broke is tried again
_OF_THIS_MACHINE = ("file", "local")  # their URLs name no host, so a third slash begins the path


@dataclass(frozen=True)
class ShardMember:
    """A video that lies as it is, uncompressed, inside a larger file such as a tar shard.

    Attributes:
        shard: Path of the larger file, or an fsspec URL such as ``s3://bucket/000000.tar``.
        name: Name of the video inside of it, for messages.
        offset: Its first byte.
        num_bytes: Its length.
    """

    shard: str
    name: str
    offset: int
    num_bytes: int

    def __post_init__(self) -> None:
        if self.offset < 0 or self.num_bytes < 1:
            raise VideoError(f"{self}: a part of a file needs an offset of at least 0 and a byte, not {self!r}")

    def __str__(self) -> str:
        return f"{self.shard}/{self.name}"


VideoSource = Path | ShardMember
Location = Path | str
"""A path of this machine, or a URL that fsspec can open."""


def is_url(location: str) -> bool:
    """Whether something is a URL such as ``s3://bucket/x`` or ``simplecache::https://host/x``, and not a path."""
    return "://" in location


def say_location(path: Path) -> str:
    """Write the path of something at a URL as that URL: a path keeps one of its slashes only."""
    found = re.fullmatch(r"((?:[A-Za-z][\w+.-]+::)*([A-Za-z][\w+.-]+)):/([^/].*)", path.as_posix())
    if found is None:
        return str(path)
    schemes, last, rest = found.groups()
    return f"{schemes}://{'/' if last in _OF_THIS_MACHINE else ''}{rest}"


def open_member(member: ShardMember) -> io.BytesIO:
    """Read a member of a shard into memory; a URL is asked for these bytes only.

    Raises:
        VideoError: The shard cannot be read, or ends before the member does.
    """
    try:
        if is_url(member.shard):
            content = read_url(member.shard, member.offset, member.offset + member.num_bytes)
        else:
            with Path(member.shard).open("rb") as file:
                file.seek(member.offset)
                content = file.read(member.num_bytes)
    except (OSError, ValueError, ImportError) as error:  # of the file system, a wrong URL, a missing driver
        raise VideoError(f"{member}: the shard cannot be read: {error}") from None
    if len(content) > member.num_bytes:
        raise VideoError(
            f"{member}: the server sent {len(content)} bytes where {member.num_bytes} were asked for: it does not know "
            "requests for a part of a file; use another server, or copy the shards to a disk"
        )
    if len(content) != member.num_bytes:
        raise VideoError(f"{member}: the shard ends early: {len(content)} of {member.num_bytes} bytes are there")
    return io.BytesIO(content)


def read_url(url: str, start: int | None = None, end: int | None = None) -> bytes:
    """Read bytes from a URL; a connection that breaks is tried again, twice.

    Args:
        url: What fsspec can open.
        start: The first byte; None: that of the file.
        end: After the last byte; None: the end of the file.

    Raises:
        OSError: It cannot be read.
        ValueError: No such protocol.
        ImportError: The driver of the protocol is not installed.
    """
    filesystem, path = fsspec.url_to_fs(url)  # type: ignore[no-untyped-call]
    for seconds in _WAITS:
        try:
            return bytes(filesystem.cat_file(path, start=start, end=end))
        except (FileNotFoundError, PermissionError):
            raise
        except OSError:
            time.sleep(seconds)
    return bytes(filesystem.cat_file(path, start=start, end=end))


def exists_url(url: str) -> bool:
    """Whether there is something at a URL.

    Raises:
        OSError: It cannot be told.
    """
    filesystem, path = fsspec.url_to_fs(url)  # type: ignore[no-untyped-call]
    return bool(filesystem.exists(path))
