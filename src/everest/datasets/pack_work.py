"""The clips of a pack that are in no shard yet: which are missing, and how they are encoded ahead of their shard.

The work folder holds ``INDEX.mp4`` with ``INDEX.json`` beside it for every clip that is finished.
"""

import json
import os
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from everest.datasets.engine import Engine
from everest.datasets.packing import PackedClip, PackSettings, PackTask, pack_clip
from everest.datasets.pool import Lost
from everest.datasets.records import Manifest
from everest.hashing import sha256_of
from everest.links import write_new

Row = dict[str, Any]  # what is written down of a clip of a finished shard
Outcome = PackedClip | Lost


@dataclass(frozen=True)
class ShardPlan:
    """What there is of a shard when the program comes to it.

    Attributes:
        rows: Those of a finished shard; None where it is not finished.
        kept: Clips that are encoded and in no shard.
        missing: Clips to encode: all others; of a finished shard those that failed.
    """

    rows: list[Row] | None
    kept: dict[int, PackedClip]
    missing: tuple[int, ...]

    @property
    def packed(self) -> set[int]:
        """Clips that need not be encoded."""
        return set(self.kept) | {row["index"] for row in self.rows or () if "failure" not in row}


class PackWork:
    """Encodes the missing clips of all shards in their order, as far ahead as the engine likes.

    Args:
        manifest: The clips.
        settings: How to encode them.
        folder: The work folder.
        shards: The clips of each shard.
        finished: Gives the rows of a finished shard by its number, or None.
    """

    def __init__(
        self,
        manifest: Manifest,
        settings: PackSettings,
        folder: Path,
        shards: list[tuple[int, ...]],
        finished: Callable[[int], list[Row] | None],
    ) -> None:
        self._manifest, self._settings, self._folder = manifest, settings, folder
        self.shards, self._finished = shards, finished
        self._plans: dict[int, ShardPlan] = {}
        self._begun: dict[int, PackTask] = {}  # by place in the order of encoding, until it is done
        self._encoded: Iterator[tuple[int, Any]] = iter(())

    @contextmanager
    def encoding(self, engine: Engine, time_limit_seconds: float) -> Iterator[None]:
        """Encode for as long as the block lasts; nothing begins before a clip is asked for."""
        function: Callable[[PackTask], Any] = pack_clip
        self._encoded = engine.run(
            function, self._tasks(), time_limit_seconds=time_limit_seconds, on_done=self._keep, has_files=True
        )
        try:
            yield
        finally:
            if isinstance(self._encoded, Generator):
                self._encoded.close()  # it knows this object, and would not go with it

    def plan(self, number: int) -> ShardPlan:
        """See what there is of a shard, once: before anything of it is encoded."""
        if number not in self._plans:
            rows, indices = self._finished(number), self.shards[number]
            if rows is not None:
                indices = tuple(row["index"] for row in rows if "failure" in row)
            kept = kept_clips(self._folder, indices)
            self._plans[number] = ShardPlan(rows, kept, tuple(index for index in indices if index not in kept))
        return self._plans[number]

    def take(self, index: int) -> Outcome:
        """Give the next missing clip, which is that of this index."""
        _, outcome = next(self._encoded)
        return outcome if isinstance(outcome, Lost) else replace(outcome, path=self._path(index))

    def _tasks(self) -> Iterator[PackTask]:
        place = 0
        for number in range(len(self.shards)):
            for index in self.plan(number).missing:
                self._begun[place] = PackTask(self._manifest.records[index], self._path(index), self._settings)
                yield self._begun[place]
                place += 1

    def _keep(self, place: int, outcome: Outcome) -> None:
        task = self._begun.pop(place)
        if isinstance(outcome, PackedClip):
            keep_clip(task.target, outcome)

    def _path(self, index: int) -> Path:
        return self._folder / f"{index:08d}.mp4"


def keep_clip(path: Path, clip: PackedClip) -> None:
    """Write down that a clip is finished, for a run that goes on after this one."""
    sync(path)  # before its list is, or a power cut leaves a list of what is not there
    values = {key: value for key, value in asdict(clip).items() if key != "path"}
    write_text(path.with_suffix(".json"), json.dumps(values | _identity(path)) + "\n")


def kept_clips(folder: Path, indices: Iterable[int]) -> dict[int, PackedClip]:
    """Give the clips that are finished, as they were written, and not yet in a shard."""
    kept = {}
    for index in indices:
        path = folder / f"{index:08d}.mp4"
        with suppress(OSError, ValueError, TypeError):
            values = dict(json.loads(path.with_suffix(".json").read_text(encoding="utf-8")))
            found = _identity(path)
            if {key: values.pop(key, None) for key in found} == found:
                kept[index] = PackedClip(path, **values)
    return kept


def _identity(path: Path) -> Row:
    return {"num_bytes": path.stat().st_size, "sha256": sha256_of(path)}


def write_text(path: Path, text: str) -> None:
    """Write a file that is either whole or not there."""
    partial = path.with_name(f"{path.name}.part")
    write_new(partial, text)
    sync(partial)
    partial.replace(path)


def sync(path: Path) -> None:
    """Have the system write a file to the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
