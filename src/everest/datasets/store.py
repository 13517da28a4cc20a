"""Clips at URLs: from a cache nearby, from what was fetched ahead, or straight from their shard."""

import functools
import logging
import os
import queue
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, wait
from contextlib import suppress
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any

import torch
from torch.utils.data import get_worker_info

from everest.config import RemoteConfig
from everest.datasets.clip_cache import ClipCache
from everest.datasets.records import ClipRecord
from everest.errors import ConfigError, DataError, RemoteError
from everest.video.problems import Problem
from everest.video.remote import DEFAULT_PATIENCE, Patience
from everest.video.source import ShardMember, VideoSource, fetch_member, is_url

NUM_AT_ONCE = 8  # requests of a process that are on their way
MAX_IN_A_ROW = 5  # clips that cannot be fetched, one after the other, until it is the store that is gone
MIN_SHARDS_GONE = 3  # in which they lie, where there are so many
_MAX_TRIES = 1000  # of a clip: its time is what counts
_SAY_FROM_SECONDS = 3.0  # of waiting for the next try
_SAY_EVERY_SECONDS = 60.0
_ALIVE_SECONDS = 0.2  # between signs of life of what waits for the network
_COUNTED = ("from_cache", "fetched", "fetched_bytes", "asked_again")

_LOG = logging.getLogger("everest")

_Task = tuple[ShardMember, "Future[bytes]"]


@dataclass(frozen=True)
class StoreSettings:
    """How clips at URLs are had.

    Attributes:
        cache_folder: Where they are kept; None: nowhere.
        cache_bytes: How much is kept.
        patience: How long a clip is asked for, where nothing else limits the time.
        num_shards: How many there are.
        brings: Whether clips are fetched before they are opened, by :func:`bring` and :func:`fetch_ahead`.
    """

    cache_folder: str | None = None
    cache_bytes: int = 0
    patience: Patience = DEFAULT_PATIENCE
    num_shards: int = MIN_SHARDS_GONE
    brings: bool = False


class _Failing:
    """Hands what goes wrong in a block, whatever it is, to who reads the result of a future: else it would never end.

    Only what ends a program goes on as well.
    """

    def __init__(self, future: "Future[bytes]") -> None:
        self._future = future

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if value is not None:
            self._future.set_exception(value)
        return isinstance(value, Exception)


class ClipStore:
    """Gives the bytes of clips. Each process has connections and threads of its own.

    A shard that could not be read with all patience is asked for once from then on, until it can. When one clip after
    the other cannot be fetched, from several shards, the store is gone, and not a file: then reading ends with an
    error, for otherwise a run would wait for minutes for each clip of its data.

    Args:
        settings: Where clips are kept, and how long they are asked for.
        needed: The clips that will be asked for again; they make no room for each other in the cache.
    """

    def __init__(self, settings: StoreSettings, needed: Sequence[ClipRecord] = ()) -> None:
        self.settings = settings
        self.cache = None
        if settings.cache_folder is not None:
            self.cache = ClipCache(settings.cache_folder, settings.cache_bytes)
        self._needed = needed
        self._counts: torch.Tensor | None = None  # of each worker and of the parent, [workers + 1, what is counted]
        self._forget()

    def _forget(self) -> None:
        self._pid = os.getpid()
        self._guard = threading.Lock()
        self._ahead: dict[ShardMember, Future[bytes]] = {}
        self._tasks: queue.SimpleQueue[_Task] | None = None
        self._last: tuple[ShardMember, bytes] | None = None
        self._bad_shards: set[str] = set()
        self._failed_in_a_row: list[str] = []  # the shard of each
        self._said = -_SAY_EVERY_SECONDS  # when a person was told that something is waited for

    def __reduce__(self) -> tuple[Any, ...]:
        return _shared, (self.settings,)  # with a task for another process goes neither a list of all clips nor a byte

    def count_in(self, num_workers: int) -> None:
        """Count what the workers do where their parent can read it; before they start."""
        counts = torch.zeros(num_workers + 1, len(_COUNTED), dtype=torch.int64)
        self._counts = counts.share_memory_()  # type: ignore[no-untyped-call]

    def counts(self) -> dict[str, int]:
        """Say how many clips came from the cache, how many were fetched, their bytes, and how often was asked again."""
        numbers = [0] * len(_COUNTED) if self._counts is None else self._counts.sum(dim=0).tolist()
        return dict(zip(_COUNTED, numbers, strict=True))

    def describe(self) -> str:
        """Say where clips will come from, in one line."""
        shards = (record.member.shard for record in self._needed if record.member is not None)
        place = f"clips come over the network, from {next(filter(is_url, shards)).rpartition('/')[0]}"
        if self.cache is None:
            return f"{place}, in every epoch; data.remote.cache_dir=DIR keeps them on a disk"
        if not any(record.member is not None and record.member.sha256 for record in self._needed):
            return (
                f"{place}, in every epoch: the list has no hashes of them, so none is kept in {self.cache.folder}; "
                "everest data pack and data index --format shards --hashes write lists with hashes"
            )
        return f"{place}; up to {self.settings.cache_bytes / 1e9:g} GB of them are kept in {self.cache.folder}"

    def summary(self) -> str:
        """Say where clips came from, in one line."""
        counts = self.counts()
        again = f"; {counts['asked_again']} requests had to be repeated" if counts["asked_again"] else ""
        fetched = f"{counts['fetched']} fetched ({counts['fetched_bytes'] / 1e9:.2f} GB)"
        return f"clips of this process: {counts['from_cache']} from the cache, {fetched}{again}"

    def read(self, member: ShardMember) -> bytes:
        """Give the bytes of a member. Those that were not brought are asked for with less patience.

        Raises:
            RemoteError: They cannot be fetched.
            DataError: Nothing can be fetched any more.
        """
        self._begin()
        if self._last is not None and self._last[0] == member:  # decoders open a file more than once
            return self._last[1]
        future = self._ahead.pop(member, None)
        try:
            content = self._get(member, DEFAULT_PATIENCE) if future is None else future.result()
        except RemoteError as error:
            raise self._judge(member, error) from None
        self._failed_in_a_row.clear()
        self._last = member, content
        return content

    def bring(self, member: ShardMember) -> None:
        """Wait until a member is here, or is known not to come: the network's time is not that of a decoder."""
        self._begin()
        if self._last is not None and self._last[0] == member:
            return
        if member not in self._ahead:
            self._ahead[member] = Future()
            self._fulfil(member, self._ahead[member])
        wait([self._ahead[member]])

    def fetch_ahead(self, members: Iterable[ShardMember]) -> None:
        """Begin to fetch what will be asked for, and drop what was fetched ahead and is not among it."""
        self._begin()
        wanted = dict.fromkeys(members)
        self._ahead = {member: future for member, future in self._ahead.items() if member in wanted}
        for member in wanted:
            if member not in self._ahead:
                self._ahead[member] = Future()
                self._threads().put((member, self._ahead[member]))

    def is_known(self, member: ShardMember, timeout_seconds: float) -> bool:
        """Wait a while for a member that is fetched ahead; says whether it is here, or is known not to come."""
        return bool(wait([self._ahead[member]], timeout_seconds).done)

    def _begin(self) -> None:
        if self._pid != os.getpid():  # forked since: threads and what they fetch are the parent's
            self._forget()

    def _threads(self) -> "queue.SimpleQueue[_Task]":
        """Start the threads, which end with the process, whatever they are doing."""
        if self._tasks is None:
            self._tasks = queue.SimpleQueue()
            for number in range(NUM_AT_ONCE):
                name = f"everest-fetch-{number}"
                threading.Thread(target=self._work, args=(self._tasks,), name=name, daemon=True).start()
        return self._tasks

    def _work(self, tasks: "queue.SimpleQueue[_Task]") -> None:
        while True:
            self._fulfil(*tasks.get())

    def _fulfil(self, member: ShardMember, future: "Future[bytes]") -> None:
        with _Failing(future):
            future.set_result(self._get(member, self.settings.patience))

    def _get(self, member: ShardMember, patience: Patience) -> bytes:
        """Take a clip from the cache, or fetch it and keep it."""
        if self.cache is not None and member.sha256:
            content = self.cache.get(member.sha256)
            if content is not None:
                self._count("from_cache")
                return content
        if member.shard in self._bad_shards:
            patience = replace(patience, num_tries=1)
        try:
            content = fetch_member(member, patience, functools.partial(self._asks_again, member))
        except RemoteError as error:
            if error.is_passing:
                self._bad_shards.add(member.shard)
            raise
        self._bad_shards.discard(member.shard)
        self._count("fetched")
        self._count("fetched_bytes", len(content))
        if self.cache is not None and member.sha256:
            self.cache.keep(member.sha256, content, self._hashes)
        return content

    def _judge(self, member: ShardMember, error: RemoteError) -> DataError:
        """Say whether it is a file that cannot be had, or the store."""
        if not error.is_passing:
            return error
        self._failed_in_a_row.append(member.shard)
        num_clips, num_shards = len(self._failed_in_a_row), len(set(self._failed_in_a_row))
        if num_clips < MAX_IN_A_ROW or num_shards < min(MIN_SHARDS_GONE, self.settings.num_shards):
            return error
        return DataError(
            f"{num_clips} clips of {num_shards} shards, one after the other, cannot be fetched: the server or the "
            f"network is gone; the last one: {error}"
        )

    def _hashes(self) -> frozenset[str]:
        return frozenset(record.member.sha256 for record in self._needed if record.member is not None)

    def _asks_again(self, member: ShardMember, problem: Problem, seconds: float) -> None:
        """Count it, and say now and then what is waited for, if it takes long."""
        self._count("asked_again")
        with self._guard:
            now = time.monotonic()
            is_news = seconds >= _SAY_FROM_SECONDS and now - self._said >= _SAY_EVERY_SECONDS
            self._said = now if is_news else self._said
        if is_news:
            _LOG.warning("%s: %s; asking again in %.0f s", member, problem.text, seconds)

    def _count(self, what: str, number: int = 1) -> None:
        worker = get_worker_info()
        if self._counts is not None:
            with self._guard:
                self._counts[-1 if worker is None else worker.id, _COUNTED.index(what)] += number


@functools.cache
def _shared(settings: StoreSettings) -> ClipStore:
    store = ClipStore(settings)
    if store.cache is not None:
        with suppress(ConfigError):  # of another machine than the one that asked for it; the cache says what it lacks
            store.cache.prepare()
    return store


SHARED = _shared(StoreSettings())
"""Reads clips at URLs where nobody said how."""


def through_store(
    records: Sequence[ClipRecord], remote: RemoteConfig, num_workers: int, *, brings: bool = True
) -> tuple[tuple[ClipRecord, ...], ClipStore | None]:
    """Let the clips that lie at URLs be read as a configuration says.

    Args:
        records: The clips.
        remote: Where they are kept, and how long they are asked for.
        num_workers: Processes that will read them.
        brings: Whether each is fetched before it is opened; what will be kept in memory is not.

    Returns:
        The same clips, and the store that they are read through; None where none lies at a URL.

    Raises:
        ConfigError: The cache cannot be written to.
    """
    shards = {str(record.member.shard) for record in records if record.member is not None}
    num_shards = sum(is_url(shard) for shard in shards)
    if not num_shards:
        return tuple(records), None
    folder, size = remote.cache_dir, int(remote.cache_gb * 1e9)
    patience = replace(DEFAULT_PATIENCE, total_seconds=remote.patience_seconds, num_tries=_MAX_TRIES)
    store = ClipStore(StoreSettings(folder, size, patience, num_shards, brings), records)
    if store.cache is not None:
        store.cache.prepare()
    store.count_in(num_workers)
    return tuple(_through(record, store) for record in records), store


def _through(record: ClipRecord, store: ClipStore) -> ClipRecord:
    member = record.member
    if member is None or not is_url(member.shard):
        return record
    return replace(record, member=replace(member, store=store))


def bring(source: VideoSource) -> None:
    """Wait for the bytes of a clip, if they come over the network."""
    if isinstance(source, ShardMember) and isinstance(source.store, ClipStore) and source.store.settings.brings:
        source.store.bring(source)


def arriving(source: VideoSource) -> Iterator[None]:
    """Begin to fetch a clip, if it comes over the network, and give control back now and then until it is here."""
    if not (isinstance(source, ShardMember) and isinstance(source.store, ClipStore) and source.store.settings.brings):
        return
    source.store.fetch_ahead([source])
    while not source.store.is_known(source, _ALIVE_SECONDS):
        yield


def fetch_ahead(sources: Iterable[VideoSource]) -> None:
    """Begin to fetch clips that come over the network, in this order, and drop others that were begun."""
    members = [source for source in sources if isinstance(source, ShardMember)]
    store = next((member.store for member in members if isinstance(member.store, ClipStore)), None)
    if store is not None and store.settings.brings:
        store.fetch_ahead(member for member in members if member.store is store)
