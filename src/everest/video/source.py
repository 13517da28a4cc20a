"""Where the bytes of a video are: a file of its own, or a part of a shard."""

import io
from dataclasses import dataclass
from pathlib import Path

import fsspec

from everest.errors import VideoError


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


def open_member(member: ShardMember) -> io.BytesIO:
    """Read a member of a shard into memory; a URL is asked for these bytes only.

    Raises:
        VideoError: The shard cannot be read, or ends before the member does.
    """
    try:
        if "://" in member.shard:
            filesystem, path = fsspec.url_to_fs(member.shard)  # type: ignore[no-untyped-call]
            content = filesystem.cat_file(path, start=member.offset, end=member.offset + member.num_bytes)
        else:
            with Path(member.shard).open("rb") as file:
                file.seek(member.offset)
                content = file.read(member.num_bytes)
    except (OSError, ValueError, ImportError) as error:  # of the file system, a wrong URL, a missing driver
        raise VideoError(f"{member}: the shard cannot be read: {error}") from None
    if len(content) != member.num_bytes:
        raise VideoError(f"{member}: the shard ends early: {len(content)} of {member.num_bytes} bytes are there")
    return io.BytesIO(content)
