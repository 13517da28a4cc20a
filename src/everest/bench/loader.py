"""Clips per second that reach the trainer, for each way to read them, in one run on the same files.

Shapes: R clips of an item, C channels, T frames, H height, W width.
"""

import math
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import cycle
from statistics import mean, median
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from everest.bench.arms import Arm, build_arms
from everest.bench.foreign import FOREIGN_ERRORS
from everest.bench.hardware import describe_hardware, wait_for
from everest.bench.pairs import clips_of_both
from everest.config import ClipConfig, EvaluationConfig
from everest.datasets import Manifest
from everest.datasets.clips import SampleKey
from everest.datasets.handover import PREFETCH_FACTOR, Taker
from everest.datasets.pool import Lost, num_cores, run_parallel
from everest.errors import ConfigError, DataError

OnProgress = Callable[[int, int], None]

NUM_STAGED = 48  # items that are read once more in this process, stage by stage
MIN_STEPS = 4  # whole training steps that are waited for, however few the items are
TIME_LIMIT_SECONDS = 60.0  # to find out whether a file can be read in one way
STAGES = ("open", "seek", "decode", "convert", "transform", "transfer")


@dataclass
class _Measured:
    """What was measured of one arm."""

    arm: Arm
    rates: list[float] = field(default_factory=list)  # clips per second of each round
    stages: dict[str, float] = field(default_factory=dict)  # milliseconds per clip


def bench_loader(
    manifest: Manifest,
    *,
    packed: Manifest | None = None,
    clip: ClipConfig | None = None,
    clips_per_video: int = 1,
    views: EvaluationConfig | None = None,
    num_items: int = 200,
    rounds: int = 3,
    num_workers: int = 1,
    train_step: float | None = None,
    batch: int = 16,
    device: torch.device | None = None,
    on_progress: OnProgress | None = None,
) -> dict[str, Any]:
    """Measure how fast clips are read.

    Every way is measured on the same records, draws the same frames and crops, and comes to the point where a batch
    could be computed on: training clips as float32, normalised, on the device. Ours hands over uint8 and normalises
    there; the way of others (decord, Pillow) makes floats in the worker. Rounds of all ways alternate, so that a
    disturbance meets all. Files that one of them cannot read are left out for all, and listed.

    Args:
        manifest: The videos.
        packed: The same clips as packed shards; those that the pack has left out are left out here.
        clip: Length, size and stride; None: 16 frames, 224 x 224, stride 4.
        clips_per_video: Also measure so many clips of each opened video.
        views: Also measure evaluation views: all of a video at once, and each with a decoding of its own.
        num_items: Videos of a round, spread evenly over the manifest.
        rounds: Repetitions; the median counts.
        num_workers: Worker processes.
        train_step: Seconds of a training step on ``batch`` clips: says how many workers keep it fed, and measures how
            much it would wait for the workers of this run.
        batch: Clips of a training step.
        device: Where clips go; None: the CPU.
        on_progress: Called with the number of finished and of all rounds.

    Returns:
        Values that JSON can hold: ``arms``, each with ``name``, ``clips_per_second`` (median) with the lowest and
        highest round, ``ms_per_clip`` of a worker, ``stages_ms`` per clip, and ``speedup`` over the arm
        ``compared_with`` (decord and Pillow where that is installed; one clip per video for several; view by view for
        views); with ``train_step`` the ``workers_needed`` and the ``waiting_share``;
        ``num_items``, ``left_out``, ``not_packed``, ``hardware`` and what was asked for.

    Raises:
        ConfigError: Numbers that cannot be measured with.
        DataError: No video can be read.
    """
    if min(num_items, rounds, num_workers, batch, clips_per_video) < 1:
        raise ConfigError("items, rounds, workers, batch and clips per video must be at least 1")
    if train_step is not None and not 0 < train_step < math.inf:
        raise ConfigError(f"a training step takes more than 0 seconds, given: {train_step}")
    device = device or torch.device("cpu")
    both, not_packed = (manifest, []) if packed is None else clips_of_both(manifest, packed)
    arms = build_arms(both, packed, clip or ClipConfig(), clips_per_video, views)
    keys, left_out = _readable(arms, len(both), num_items)
    measured = [_Measured(arm) for arm in arms]
    loaders = [_loader(arm.dataset, keys, num_workers) for arm in arms]
    with _threads(max(1, num_cores() - num_workers)):  # the others are for the workers
        for number in range(rounds):
            for index, (entry, loader) in enumerate(zip(measured, loaders, strict=True)):
                entry.rates.append(_rate(entry.arm, loader, device))
                if on_progress is not None:
                    on_progress(number * len(arms) + index + 1, rounds * len(arms))
    for entry in measured:
        entry.stages = _stages(entry.arm, keys[:NUM_STAGED], device)
    rates = {entry.arm.name: median(entry.rates) for entry in measured}
    rows = [_row(entry, rates.get(entry.arm.compared_with or entry.arm.name), num_workers) for entry in measured]
    if train_step is not None:
        for row, arm in zip(rows, arms, strict=True):
            row["workers_needed"] = math.ceil(batch / train_step / row["clips_per_second"] * num_workers)
            row["waiting_share"] = _waiting(arm, keys, num_workers, train_step, batch, device)
    return {
        "arms": rows,
        "num_items": len(keys),
        "rounds": rounds,
        "num_workers": num_workers,
        "train_step": train_step,
        "batch": batch,
        "manifest_digest": manifest.digest,
        "left_out": left_out,
        "not_packed": not_packed,
        "clip": (clip or ClipConfig()).model_dump(mode="json"),
        "hardware": describe_hardware(device),
    }


def format_loader(values: dict[str, Any]) -> str:
    """Say the result of :func:`bench_loader` to people."""
    titles = "".join(f"{stage:>10}" for stage in STAGES)
    lines = [f"{'':28}{'clips/s':>9}{'from':>8}{'to':>8}{'ms/clip':>9}{'speedup':>9} |{titles}"]
    workers = f"{values['num_workers']} worker process{'' if values['num_workers'] == 1 else 'es'}"
    for row in values["arms"]:
        rates = f"{row['clips_per_second']:9.1f}{row['lowest']:8.1f}{row['highest']:8.1f}{row['ms_per_clip']:9.1f}"
        speedup = "" if row["compared_with"] is None else f"x{row['speedup']:.2f}"
        stages = "".join(f"{row['stages_ms'][stage]:10.2f}" for stage in STAGES if row["stages_ms"])
        lines.append(f"{row['name']:28}{rates}{speedup:>9} |{stages}")
    if values["train_step"] is not None:
        lines.append(f"a training step of {values['train_step']:g} s on {values['batch']} clips:")
        for row in values["arms"]:
            waits = f"with {workers} it waits for {row['waiting_share']:.0%} of the time"
            lines.append(f"  {row['name']:26} needs {row['workers_needed']} worker processes; {waits}")
    rounds = f"{values['num_items']} videos, {values['rounds']} rounds, {workers}"
    lines.append(f"{rounds}; {len(values['left_out'])} videos left out, which not every way can read")
    if values["not_packed"]:
        lines.append(f"clips that are not among the packed ones, left out for all: {len(values['not_packed'])}")
    return "\n".join(lines)


def _readable(arms: Sequence[Arm], num_records: int, num_items: int) -> tuple[list[SampleKey], list[str]]:
    """Choose records that every arm can read, spread over the manifest; this also brings the files into memory."""
    step = max(num_records / num_items, 1.0)
    chosen = sorted({int(i * step) for i in range(min(num_items, num_records))})
    tasks = [(0, position, index) for position, index in enumerate(chosen)]
    keys: list[SampleKey] = []
    left_out: list[str] = []
    # In a process that can be stopped: a file that hangs or kills its reader must not end the measurement.
    outcomes: Iterator[tuple[int, str | Lost]] = run_parallel(
        _Readers(arms), tasks, num_workers=1, time_limit_seconds=TIME_LIMIT_SECONDS
    )
    for key, (_, outcome) in zip(tasks, outcomes, strict=True):
        reason = outcome.reason if isinstance(outcome, Lost) else outcome
        if reason:
            left_out.append(f"{arms[0].name_of(key[2])}: {reason}")
        else:
            keys.append(key)
    if not keys:
        raise DataError(f"none of {len(chosen)} videos can be read by every way: {left_out[0]}")
    if len(keys) < 2:
        raise DataError("a single video can be read by every way: measure on more, the first one starts the workers")
    return keys, left_out


class _Readers:
    """Reads an item in every way, each of which is a step with a time limit of its own."""

    def __init__(self, arms: Sequence[Arm]) -> None:
        self.ways = [(arm.name, arm.dataset) for arm in arms]

    def __call__(self, key: SampleKey) -> Generator[None, None, str]:
        """Name the first way that cannot read the item; empty where all can."""
        for name, dataset in self.ways:
            try:
                can_read = dataset[key] is not None
            except FOREIGN_ERRORS:
                can_read = False
            if not can_read:
                return f"cannot be read by {name}"
            yield
        return ""


def _loader(dataset: Dataset[Any], keys: Iterable[SampleKey], num_workers: int) -> DataLoader[Any]:
    return DataLoader(
        dataset,
        batch_size=None,
        sampler=keys,
        num_workers=num_workers,
        prefetch_factor=PREFETCH_FACTOR,
        collate_fn=_as_is,
        persistent_workers=True,
        worker_init_fn=_one_thread,
    )


def _rate(arm: Arm, loader: DataLoader[Any], device: torch.device) -> float:
    """Read all items and count clips per second; the first item, which starts the workers, is not counted."""
    items, taker = iter(loader), Taker(loader.num_workers)
    arm.finish(taker.take(next(items)), device)
    started, num_items = time.perf_counter(), 0
    for item in items:
        if item is None:
            raise DataError(f"{arm.name} cannot read any more what it could read before; do files change?")
        arm.finish(taker.take(item), device)
        num_items += 1
    wait_for(device)
    return num_items * arm.clips_per_item / (time.perf_counter() - started)


def _waiting(  # noqa: PLR0917
    arm: Arm, keys: list[SampleKey], num_workers: int, train_step: float, batch: int, device: torch.device
) -> float:
    """Train in pretence on the same items again and again, and find the share of the time that is spent on waiting."""
    loader = _loader(arm.dataset, _Endless(keys), num_workers)  # of its own: at the end of a round workers run dry
    items, taker = iter(loader), Taker(num_workers)

    def take() -> Any:
        item = next(items)
        if item is None:
            raise DataError(f"{arm.name} cannot read any more what it could read before; do files change?")
        return taker.take(item)

    def finish(item: Any) -> None:
        arm.finish(item, device)
        wait_for(device)

    num_steps = max(MIN_STEPS, len(keys) * arm.clips_per_item // batch)
    items_per_step = batch / arm.clips_per_item
    return waiting_share(take, finish, items_per_step=items_per_step, train_step=train_step, num_steps=num_steps)


def waiting_share(
    take: Callable[[], Any],
    finish: Callable[[Any], object],
    *,
    items_per_step: float,
    train_step: float,
    num_steps: int,
) -> float:
    """Find the share of its time that a trainer waits for its data.

    As in training, items are taken while a step is computed, up to :data:`PREFETCH_FACTOR` batches ahead. The time
    begins with the first step, for which the items are there, and ends when those for the one after the last are: so
    each step is counted with one wait, and the share is that of a long run.

    Args:
        take: Gives the next item; there is always one. Called from one thread, in which it may wait.
        finish: Brings an item to where it is computed on; its time counts as waiting.
        items_per_step: Items of a step, of which a part may stay for the next one.
        train_step: Seconds of a step.
        num_steps: Steps to wait for, at least 1.

    Returns:
        0 to 1.
    """
    with ThreadPoolExecutor(1) as thread:
        ahead = deque(thread.submit(take) for _ in range(math.ceil(PREFETCH_FACTOR * items_per_step)))
        waited, num_items, started = 0.0, 0.0, 0.0
        try:
            for step in range(num_steps + 1):
                if step:
                    time.sleep(train_step)
                asked = time.perf_counter()
                while num_items < items_per_step:
                    item = ahead.popleft().result()
                    ahead.append(thread.submit(take))
                    finish(item)
                    num_items += 1
                num_items -= items_per_step
                now = time.perf_counter()
                waited, started = (waited + now - asked, started) if step else (0.0, now)
            return waited / (time.perf_counter() - started)
        finally:
            thread.shutdown(cancel_futures=True)


class _Endless:
    """Keys again and again."""

    def __init__(self, keys: list[SampleKey]) -> None:
        self._keys = keys

    def __iter__(self) -> Iterator[SampleKey]:
        return cycle(self._keys)


def _stages(arm: Arm, keys: Sequence[SampleKey], device: torch.device) -> dict[str, float]:
    """Read items in this process, and tell where a clip's milliseconds go."""
    if arm.read_by_stage is None:
        return {}
    rows = []
    with _threads(1):
        for key in keys:
            item, seconds = arm.read_by_stage(key)
            started = time.perf_counter()
            arm.finish(item, device)
            wait_for(device)
            rows.append({**seconds, "transfer": time.perf_counter() - started})
    return {stage: 1e3 * mean(row[stage] for row in rows) / arm.clips_per_item for stage in rows[0]}


@contextmanager
def _threads(number: int) -> Iterator[None]:
    """Compute with so many threads for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _row(entry: _Measured, baseline: float | None, num_workers: int) -> dict[str, Any]:
    rate = median(entry.rates)
    return {
        "name": entry.arm.name,
        "compared_with": entry.arm.compared_with,
        "clips_per_item": entry.arm.clips_per_item,
        "clips_per_second": rate,
        "lowest": min(entry.rates),
        "highest": max(entry.rates),
        "ms_per_clip": 1e3 * num_workers / rate,
        "stages_ms": entry.stages,
        "speedup": None if baseline is None else rate / baseline,
    }


def _as_is(item: Any) -> Any:
    return item


def _one_thread(_: int) -> None:
    torch.set_num_threads(1)
