"""Single videos at URLs: copied to this machine for as long as they are looked at."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Self

from everest.config import RemoteConfig
from everest.datasets import ClipRecord
from everest.datasets.records import is_video
from everest.errors import DataError, RemoteError
from everest.training.progress import Progress
from everest.video.fetching import fetch_file
from everest.video.remote import Patience, size_of_url
from everest.video.source import ShardMember, is_url
from everest.video.urls import Url, address_of

PATIENCE = Patience(total_seconds=RemoteConfig().patience_seconds, num_tries=1000)
MAX_COPIES = 4  # of videos that there is room for at a time
_MEGABYTE = 1e6
_UNKNOWN_BYTES = 1


def is_far_video(location: str) -> bool:
    """Whether something is the URL of one video, by its ending."""
    return is_url(location) and is_video(Path(Url(location)))


def far_record(location: str) -> ClipRecord:
    """Describe a video at a URL; how large it is, is not known yet."""
    url = Url(location)
    return ClipRecord(Path(url), member=ShardMember(url, "", 0, _UNKNOWN_BYTES))


def is_far(record: ClipRecord) -> bool:
    """Whether a record is a single video at a URL."""
    return record.member is not None and not record.member.name


def with_sizes(
    records: Sequence[ClipRecord], *, for_others: bool = False
) -> tuple[list[ClipRecord], list[ClipRecord | str]]:
    """Ask how large single videos at URLs are.

    Args:
        records: Any clips.
        for_others: Other machines fetch them, which have to know.

    Returns:
        The same records with the sizes; and once more, with the reason in place of each that cannot be fetched.
    """
    given, there = list(records), list[ClipRecord | str](records)
    for number, record in enumerate(given):
        if record.member is None or not is_far(record):
            continue
        try:
            size = size_of_url(record.member.shard, patience=PATIENCE)
        except RemoteError as error:
            there[number] = f"cannot be fetched: {error}"
            continue
        if size is None and for_others:
            why = "its server does not say how large it is, which other machines would have to know"
            there[number] = f"cannot be fetched: {why}"
            continue
        there[number] = given[number] = _with_size(record, size)
    return given, there


class Copies:
    """Copies of single videos at URLs, a few at a time: the one used longest ago makes room, all go in the end.

    Use it in a ``with`` statement.
    """

    def __init__(self) -> None:
        self._closing = ExitStack()
        self._folder: Path | None = None
        self._kept: dict[str, Path] = {}  # by all of their URL, the one used longest ago first
        self._num_fetched = 0

    def near(self, record: ClipRecord) -> tuple[ClipRecord, ClipRecord | str]:
        """Copy a video, if it is one at a URL and has no copy.

        Args:
            record: Any clip.

        Returns:
            The record with its size; and where it is to be read, or why it cannot be.

        Raises:
            DataError: There is no room for a copy.
        """
        if record.member is None or not is_far(record):
            return record, record
        url = record.member.shard
        address = address_of(url)
        if address not in self._kept:
            try:
                self._kept[address] = self._fetch(record, url)
            except RemoteError as error:
                return record, f"cannot be fetched: {error}"
            except OSError as error:
                reason = error.strerror or error
                raise DataError(f"{self._folder}: no room for a copy of {url}: {reason}") from None
        copy = self._kept[address] = self._kept.pop(address)  # now it is the last to go
        return _with_size(record, copy.stat().st_size), ClipRecord(copy)

    def _fetch(self, record: ClipRecord, url: str) -> Path:
        """Copy a file, with a line that says how far that is."""
        while len(self._kept) >= MAX_COPIES:
            self._kept.pop(next(iter(self._kept))).unlink()
        if self._folder is None:
            self._folder = Path(self._closing.enter_context(TemporaryDirectory(prefix="videos-")))
        self._num_fetched += 1
        path = self._folder / f"{self._num_fetched}{record.path.suffix}"
        size = size_of_url(url, patience=PATIENCE)
        with Progress("fetching MB", max(1, round((size or 0) / _MEGABYTE))) as progress:
            fetch_file(
                url,
                path,
                size,
                patience=PATIENCE,
                on_bytes=lambda done: progress.update(max(1, round(done / _MEGABYTE))),
            )
        return path

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.close()


def _with_size(record: ClipRecord, size: int | None) -> ClipRecord:
    assert record.member is not None  # noqa: S101 - for the type checker: only those that are far come here
    return replace(record, member=replace(record.member, num_bytes=max(size or 0, _UNKNOWN_BYTES)))
