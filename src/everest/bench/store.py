"""What it costs to train on clips that are far away: requests, bytes, and clips per second, epoch by epoch."""

import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import fsspec.config
import torch

from everest.bench.far_away import FarAway, serve
from everest.bench.hardware import describe_hardware
from everest.config import (
    AugmentConfig,
    ClipConfig,
    DataConfig,
    ModelConfig,
    OptimConfig,
    PretrainConfig,
    RemoteConfig,
    SelectionConfig,
)
from everest.datasets import Manifest, TrainLoader, build_train_loader, load_data
from everest.errors import ConfigError

OnProgress = Callable[[int, int], None]


@dataclass(frozen=True)
class Way:
    """One way to get clips.

    Attributes:
        name: For people.
        is_far: Over the network; else from the folder.
        ahead: The clips of a batch are fetched at the same time, while the batch before it is decoded.
        cache_gb: Of the clips that are kept; 0: none is.
        whole: Shards are fetched and kept as a whole, by fsspec.
    """

    name: str
    is_far: bool = True
    ahead: bool = True
    cache_gb: float = 0.0
    whole: bool = False


def bench_store(
    packed: str | Path,
    *,
    latency: float = 0.05,
    mbytes_per_second: float = 100.0,
    batch: int = 8,
    num_workers: int = 1,
    num_epochs: int = 2,
    clip: ClipConfig | None = None,
    on_progress: OnProgress | None = None,
) -> dict[str, Any]:
    """Measure how clips come from a server of this machine that pretends to be far away.

    Args:
        packed: Folder that ``everest data pack`` has written.
        latency: Seconds before each answer.
        mbytes_per_second: 10^6 bytes per second of each connection.
        batch: Clips of a batch.
        num_workers: Worker processes.
        num_epochs: Epochs of each way.
        clip: Length, size and stride; None: 16 frames, 224 x 224, stride 4.
        on_progress: Called with the number of finished and of all ways.

    Returns:
        Values that JSON can hold: ``rows``, one for each way and epoch, with ``name``, ``epoch``,
        ``seconds_to_first_batch``, ``clips_per_second``, ``requests`` and ``mbytes`` that the server sent;
        ``num_clips``, ``num_shards``, ``mbytes_per_clip``, ``hardware`` and what was asked for.

    Raises:
        ConfigError: Numbers that cannot be measured with.
        DataError: The folder holds no packed shards.
    """
    if min(batch, num_workers, num_epochs) < 1 or latency < 0 or mbytes_per_second <= 0:
        raise ConfigError("batch, workers and epochs must be at least 1, latency at least 0 and the rate more than 0")
    near = load_data(packed)
    members = [record.member for record in near.records if record.member is not None]
    if not members:
        raise ConfigError(f"{packed}: holds no packed shards: name a folder that everest data pack has written")
    num_bytes = sum(member.num_bytes for member in members)
    ways = (
        Way("disk", is_far=False),
        Way("one request after the other", ahead=False),
        Way("fetched ahead"),
        Way("cache", cache_gb=2 * num_bytes / 1e9),
        Way("cache for half of the clips", cache_gb=num_bytes / 2e9),
        Way("whole shards (fsspec's simplecache)", ahead=False, whole=True),
    )
    given = _config(clip or ClipConfig(), min(batch, len(members)), num_workers)
    rows = []
    for number, way in enumerate(ways):
        with tempfile.TemporaryDirectory() as kept, serve(Path(packed), latency, 1e6 * mbytes_per_second) as place:
            rows += list(_measure(way, place, near, given, Path(kept), num_epochs))
        if on_progress is not None:
            on_progress(number + 1, len(ways))
    return {
        "rows": rows,
        "num_clips": len(members),
        "num_shards": len({member.shard for member in members}),
        "mbytes_per_clip": num_bytes / len(members) / 1e6,
        "latency": latency,
        "mbytes_per_second": mbytes_per_second,
        "batch": batch,
        "num_workers": num_workers,
        "hardware": describe_hardware(torch.device("cpu")),
    }


def format_store(values: dict[str, Any]) -> str:
    """Say the result of :func:`bench_store` to people."""
    lines = [f"{'':37}{'epoch':>6}{'first batch':>13}{'clips/s':>9}{'requests':>10}{'MB':>9}"]
    for row in values["rows"]:
        first, rate = f"{row['seconds_to_first_batch']:.2f} s", f"{row['clips_per_second']:.1f}"
        sizes = f"{row['requests']:10}{row['mbytes']:9.1f}"
        lines.append(f"{row['name']:37}{row['epoch']:6}{first:>13}{rate:>9}{sizes}")
    clips = f"{values['num_clips']} clips of {values['mbytes_per_clip']:.2f} MB in {values['num_shards']} shards"
    server = f"a server that answers after {1e3 * values['latency']:g} ms with {values['mbytes_per_second']:g} MB/s"
    return "\n".join([*lines, f"{clips}; {server}; batch {values['batch']}, {values['num_workers']} workers"])


def _config(clip: ClipConfig, batch: int, num_workers: int) -> PretrainConfig:
    return PretrainConfig(
        model=ModelConfig(size="tiny"),
        clip=clip,
        selection=SelectionConfig(keep_ratio=0.3, encode_ratio=0.1),
        augment=AugmentConfig(),
        data=DataConfig(batch_size=batch, num_workers=num_workers),
        optim=OptimConfig(global_batch_size=batch),
    )


def _measure(  # noqa: PLR0917
    way: Way, place: FarAway, near: Manifest, given: PretrainConfig, kept: Path, num_epochs: int
) -> Iterator[dict[str, Any]]:
    """Read epochs in one way."""
    remote = RemoteConfig() if not way.cache_gb else RemoteConfig(cache_dir=str(kept), cache_gb=way.cache_gb)
    config = given.model_copy(update={"data": given.data.model_copy(update={"remote": remote})})
    fsspec.config.conf["simplecache"] = {"cache_storage": str(kept)}
    url = f"simplecache::{place.url}" if way.whole else place.url
    loader = build_train_loader(load_data(url) if way.is_far else near, config)
    if loader.store is not None:
        loader.store.settings = replace(loader.store.settings, brings=way.ahead)
    before = place.num_requests, place.num_bytes
    for epoch in range(num_epochs):
        first, rate = _read(loader, epoch)
        now = place.num_requests, place.num_bytes
        yield {
            "name": way.name,
            "epoch": epoch + 1,
            "seconds_to_first_batch": first,
            "clips_per_second": rate,
            "requests": now[0] - before[0],
            "mbytes": (now[1] - before[1]) / 1e6,
        }
        before = now


def _read(loader: TrainLoader, epoch: int) -> tuple[float, float]:
    """Read an epoch; seconds until its first batch, and clips per second of those after it."""
    began = time.perf_counter()
    batches = loader.epoch(epoch)
    first = len(next(batches).frames)
    there = time.perf_counter()
    num_later = sum(len(batch.frames) for batch in batches)
    now = time.perf_counter()
    return there - began, num_later / (now - there) if num_later else first / (there - began)
