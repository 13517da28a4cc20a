"""Where the bytes of a video are: a file of its own, or a part of a shard."""

import hashlib
import io
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from everest.errors import RemoteError, VideoError
from everest.video.problems import Problem
from everest.video.remote import DEFAULT_PATIENCE, OnRetry, Patience, read_url
from everest.video.urls import Url

_OF_THIS_MACHINE = ("file", "local")  # their URLs name no host, so a third slash begins the path


class MemberStore(Protocol):
    """Where the bytes of a member come from, if not straight from its shard: a cache, or what was fetched ahead."""

    def read(self, member: "ShardMember") -> bytes:
        """Give the bytes of a member; it raises what :func:`fetch_member` does."""


@dataclass(frozen=True)
class ShardMember:
    """A video that lies as it is, uncompressed, inside a larger file such as a tar shard.

    Attributes:
        shard: Path of the larger file, or an fsspec URL such as ``s3://bucket/000000.tar``; a
            :class:`~everest.video.urls.Url` where a password or a signature belongs to it.
        name: Name of the video inside of it, for messages; empty where it is all of the file.
        offset: Its first byte.
        num_bytes: Its length.
        sha256: Hash of its bytes in hexadecimal; empty where nobody knows it.
        store: Gives the bytes of a member at a URL; None: they are asked for whenever they are needed.
    """

    shard: str
    name: str
    offset: int
    num_bytes: int
    sha256: str = field(default="", compare=False)  # two that lie in the same place are the same
    store: MemberStore | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        if self.offset < 0 or self.num_bytes < 1:
            raise VideoError(f"{self}: a part of a file needs an offset of at least 0 and a byte, not {self!r}")

    def __str__(self) -> str:
        return f"{self.shard}/{self.name}" if self.name else str(self.shard)


VideoSource = Path | ShardMember
"""What a clip is read from."""
Location = Path | Url
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
        DataError: So many shards of a store cannot be read that it is the store that is gone.
    """
    if is_url(member.shard):
        return io.BytesIO(fetch_member(member) if member.store is None else member.store.read(member))
    try:
        with Path(member.shard).open("rb") as file:
            size = file.seek(0, io.SEEK_END)  # before memory is taken for what a list claims
            file.seek(min(member.offset, size))
            content = file.read(min(member.num_bytes, size))
    except (OSError, ValueError) as error:  # the latter: a name that cannot be one
        raise VideoError(f"{member}: the shard cannot be read: {error}") from None
    if len(content) != member.num_bytes:
        raise VideoError(f"{member}: the shard {_ends_early(content, member)}")
    return io.BytesIO(content)


def fetch_member(
    member: ShardMember,
    patience: Patience = DEFAULT_PATIENCE,
    on_retry: OnRetry = lambda problem, seconds: None,
) -> bytes:
    """Read a member of a shard at a URL, again and again if need be, and see that the bytes are the right ones.

    Raises:
        RemoteError: It cannot be read, or what comes is not what the list of the clips says.
    """
    start, end = member.offset, member.offset + member.num_bytes

    def check(content: bytes) -> Problem | None:
        return _what_is_wrong(content, member)

    try:
        return read_url(member.shard, start, end, patience=patience, check=check, on_retry=on_retry)
    except RemoteError as error:
        raise RemoteError(f"{member}: the shard cannot be read: {error}", error.is_passing, error.http_status) from None


def has_hash_of(member: ShardMember, content: bytes) -> bool:
    """Whether bytes are those of a member, by their number and, where it is known, their hash."""
    if len(content) != member.num_bytes:
        return False
    return not member.sha256 or hashlib.sha256(content).hexdigest() == member.sha256


def _what_is_wrong(content: bytes, member: ShardMember) -> Problem | None:
    if len(content) > member.num_bytes:
        return Problem(
            f"the server sent {len(content)} bytes where {member.num_bytes} were asked for: it does not know requests "
            "for a part of a file; use another server, or copy the shards to a disk",
            is_passing=False,
        )
    if len(content) < member.num_bytes:
        return Problem(f"it {_ends_early(content, member)}", is_passing=True)
    if not has_hash_of(member, content):
        wrong = "other bytes came than those that the list of clips has a hash of; was the shard replaced?"
        return Problem(wrong, is_passing=True)
    return None


def _ends_early(content: bytes, member: ShardMember) -> str:
    return f"ends early: {len(content)} of {member.num_bytes} bytes are there"
