"""Single videos at URLs: copied to this machine for as long as they are looked at."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from everest.config import RemoteConfig
from everest.datasets import ClipRecord
from everest.datasets.records import is_video
from everest.errors import DataError, RemoteError
from everest.training.progress import Progress
from everest.video.fetching import fetch_file
from everest.video.remote import Patience, size_of_url
from everest.video.source import ShardMember, is_url
from everest.video.urls import Url

PATIENCE = Patience(total_seconds=RemoteConfig().patience_seconds, num_tries=1000)
_MEGABYTE = 1e6


def is_far_video(location: str) -> bool:
    """Whether something is the URL of one video, by its ending."""
    return is_url(location) and is_video(Path(Url(location)))


def far_record(location: str) -> ClipRecord:
    """Describe a video at a URL; how large it is, is not known yet."""
    url = Url(location)
    return ClipRecord(Path(url), member=ShardMember(url, "", 0, 1))


@contextmanager
def near_copies(
    records: Sequence[ClipRecord], *, for_others: bool = False
) -> Iterator[tuple[list[ClipRecord], list[ClipRecord | str]]]:
    """Copy those that are single videos at URLs.

    Args:
        records: Any clips.
        for_others: Other machines read them: nothing is copied here, and they fetch them themselves.

    Yields:
        The same records, now with the size of what was copied; and where each of them is to be read, or why it cannot
        be. The copies go in the end.

    Raises:
        DataError: There is no room for a copy.
    """
    given, near = list(records), list[ClipRecord | str](records)
    far = [number for number, record in enumerate(given) if record.member is not None and not record.member.name]
    if not far:
        yield given, near
        return
    with TemporaryDirectory(prefix="videos-") as folder:
        for number in far:
            copy = Path(folder, f"{number}{given[number].path.suffix}")
            member = given[number].member
            assert member is not None  # noqa: S101 - for the type checker: those without were left out
            try:
                size = _size(member.shard) if for_others else _fetch(member.shard, copy)
            except RemoteError as error:
                near[number] = f"cannot be fetched: {error}"
                continue
            except OSError as error:
                raise DataError(f"{folder}: no room for a copy of {member.shard}: {error.strerror}") from None
            given[number] = replace(given[number], member=replace(member, num_bytes=max(size, 1)))
            near[number] = given[number] if for_others else ClipRecord(copy)
        yield given, near


def _size(url: str) -> int:
    size = size_of_url(url, patience=PATIENCE)
    if size is None:
        raise RemoteError("its server does not say how large it is, which other machines would have to know", False)
    return size


def _fetch(url: str, path: Path) -> int:
    """Copy a file, with a line that says how far that is."""
    size = size_of_url(url, patience=PATIENCE)
    with Progress("fetching MB", max(1, round((size or 0) / _MEGABYTE))) as progress:
        return fetch_file(
            url, path, size, patience=PATIENCE, on_bytes=lambda done: progress.update(max(1, round(done / _MEGABYTE)))
        )
