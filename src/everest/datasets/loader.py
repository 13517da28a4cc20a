"""Clips to batches of training: worker processes, and accounting of files that cannot be read.

Shapes: B clips, R clips of one video, C channels, T frames, H height, W width.
"""

import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.utils.data import Dataset

from everest.config import (
    FinetuneConfig,
    PretrainConfig,
    TrainConfig,
    num_sampled_frames,
)
from everest.datasets.ahead import LookAhead
from everest.datasets.clips import SampleKey, TrainClips, stack_clips
from everest.datasets.flow_files import MotionReader
from everest.datasets.handover import Places
from everest.datasets.records import ClipRecord, Manifest
from everest.datasets.sampler import BatchPlan, EpochSampler, plan_batches
from everest.datasets.store import ClipStore, through_store
from everest.datasets.workers import Workers, resolve_num_workers
from everest.draws import seeds_of_clips
from everest.errors import DataError, UnreadableError
from everest.video.augment import ClipChanges

NUM_LISTED = 5  # files that a message names

OnFailure = Callable[[str, str], None]  # path, reason

_LOG = logging.getLogger("everest")


@dataclass(frozen=True, eq=False, repr=False)
class Batch:
    """What one forward pass of one device takes.

    Attributes:
        frames: Shape [B, C, T, H, W], uint8; the R clips of a video follow each other.
        labels: Shape [B], int64; -1 where there is none.
        record_indices: The record of each clip, shape [B], int64.
        failures: Path and reason of files that could not be read and were replaced.
        changes: What is left to do to the pixels of each clip, for
            :func:`~everest.video.change_clips_on_device`; empty where nothing is.
        motion: Where the points of every token of the sampled frames go, in pixels, NaN where they were lost (see
            :func:`~everest.video.trajectories.track`), shape [B, N', J], float16; None where nobody asked.
        seeds: Of what is drawn for each clip after reading (:mod:`everest.draws`), shape [B], int64.
    """

    frames: Tensor
    labels: Tensor
    record_indices: Tensor
    failures: tuple[tuple[str, str], ...] = ()
    changes: tuple[ClipChanges, ...] = ()
    motion: Tensor | None = None
    seeds: Tensor | None = None

    def pin_memory(self) -> "Batch":
        """Move the tensors to pinned memory, from where they are copied to a GPU while it computes."""
        return replace(
            self,
            frames=self.frames.pin_memory(),
            labels=self.labels.pin_memory(),
            record_indices=self.record_indices.pin_memory(),
            motion=None if self.motion is None else self.motion.pin_memory(),
            seeds=None if self.seeds is None else self.seeds.pin_memory(),
        )

    def __repr__(self) -> str:
        return f"Batch({list(self.frames.shape)}, {len(self.failures)} failures)"


class _MicroBatches(Dataset["Batch | DataError"]):
    """Whole batches as items: a worker hands over finished batches. Errors travel as values, to stay readable."""

    def __init__(self, clips: TrainClips, ahead: LookAhead | None) -> None:
        self.clips = clips
        self._ahead = ahead
        self._places = Places()

    def __getitem__(self, keys: tuple[SampleKey, ...]) -> "Batch | DataError":
        try:
            return self._read(keys)
        except DataError as error:
            return error

    def _read(self, keys: tuple[SampleKey, ...]) -> Batch:
        if self._ahead is not None:
            self._ahead.begin(keys)
        samples = [self.clips[key] for key in keys]
        repeats = self.clips.clips_per_video
        labels = torch.tensor([s.label for s in samples]).repeat_interleave(repeats)  # [B]
        indices = torch.tensor([s.record_index for s in samples]).repeat_interleave(repeats)  # [B]
        failures = dict(failure for s in samples for failure in s.failures)
        frames = stack_clips([clip for s in samples for clip in s.clips], self._places)  # [B,C,T,H,W]
        changes = tuple(change for s in samples for change in s.changes)
        motion = torch.stack([each for s in samples for each in s.motion]) if samples[0].motion else None  # [B,N',J]
        places = [position * repeats + number for _, position, _ in keys for number in range(repeats)]
        seeds = seeds_of_clips(self.clips.seed, keys[0][0], places)  # [B]
        return Batch(frames, labels, indices, tuple(failures.items()), changes, motion, seeds)


class TrainLoader:
    """Batches of training clips, epoch by epoch. Made by :func:`build_train_loader`.

    Attributes:
        sampler: Decides which video is read when.
        failed: Reason by path of every file that could not be read so far.
        store: What clips at URLs are read through; None where none lies at one.
    """

    def __init__(
        self,
        clips: TrainClips,
        sampler: EpochSampler,
        *,
        num_workers: int = 0,
        max_failed_share: float = 0.05,
        time_limit_seconds: float = 60.0,
        pin_memory: bool = False,
        on_failure: OnFailure | None = None,
        store: ClipStore | None = None,
    ) -> None:
        self.sampler = sampler
        self.store = store
        self.failed: dict[str, str] = {}
        self._clips = clips
        self._passes = _MicroBatches(clips, None if store is None else LookAhead(sampler, clips.records))
        self._num_files = len({record.path for record in clips.records})
        self._max_failed_share = max_failed_share
        self._on_failure = on_failure
        self._workers = Workers(
            self._passes,
            clips,
            num_workers=num_workers,
            time_limit_seconds=time_limit_seconds,
            pin_memory=pin_memory,
            persistent=True,
        )

    @property
    def plan(self) -> BatchPlan:
        """Division of the global batch."""
        return self.sampler.plan

    @property
    def num_steps(self) -> int:
        """Optimiser steps in an epoch."""
        return self.sampler.num_steps

    @property
    def records(self) -> tuple[ClipRecord, ...]:
        """The clips, as the ``record_indices`` of a batch count them."""
        return self._clips.records

    def read(self, keys: tuple[SampleKey, ...]) -> Batch:
        """Read one batch in this process, as the workers do.

        Raises:
            DataError: A video cannot be read, nor what would replace it.
        """
        batch = self._passes[keys]
        if isinstance(batch, DataError):
            raise batch
        return batch

    def epoch(self, epoch: int, start_step: int = 0) -> Iterator[Batch]:
        """Read the batches of an epoch: ``plan.accumulation_steps`` of them for each optimiser step.

        Args:
            epoch: From 0.
            start_step: Optimiser steps of the epoch that are done already.

        Raises:
            DataError: More than ``max_failed_share`` of the files cannot be read.
        """

        def remaining(num_done: int) -> EpochSampler:
            self.sampler.set_epoch(epoch, start_step, num_done)
            return self.sampler

        for batch in self._workers.read(remaining):
            if isinstance(batch, DataError):
                if isinstance(batch, UnreadableError):
                    self._remember(batch.failures.items())
                    self._check()
                # A new error, for one that this frame refers to would keep the frame and with it the workers alive.
                raise DataError(str(batch))
            self._remember(batch.failures)
            self._check()
            yield batch

    def hear(self, failures: Iterable[Mapping[str, str]]) -> None:
        """Learn what all processes could not read: each alone knows its own part of it.

        Args:
            failures: Reason by path, of each process.

        Raises:
            DataError: More than ``max_failed_share`` of the files cannot be read, in all processes together.
        """
        for each in failures:
            self._remember(each.items())
        self._check()

    def _remember(self, failures: Iterable[tuple[str, str]]) -> None:
        for path, reason in failures:
            if path not in self.failed:
                self.failed[path] = reason
                if self._on_failure is not None:
                    self._on_failure(path, reason)

    def _check(self) -> None:
        """Stop when too many have failed: of all files, so that it does not depend on the number of processes."""
        if len(self.failed) / self._num_files > self._max_failed_share:
            listed = "; ".join(f"{path}: {why}" for path, why in list(self.failed.items())[:NUM_LISTED])
            more = f"; and {len(self.failed) - NUM_LISTED} more" if len(self.failed) > NUM_LISTED else ""
            raise DataError(
                f"{len(self.failed)} of {self._num_files} videos cannot be read, more than data.max_failed_share "
                f"({self._max_failed_share:g}) allows; remove them from the data or raise it: {listed}{more}"
            )


def build_train_loader(
    manifest: Manifest,
    config: TrainConfig,
    *,
    rank: int = 0,
    world_size: int = 1,
    on_failure: OnFailure | None = None,
) -> TrainLoader:
    """Make the loader of a training run.

    Args:
        manifest: The clips to train on, one split.
        config: The run.
        rank: This device.
        world_size: Number of devices.
        on_failure: Called with path and reason, once for each file that cannot be read.

    Raises:
        ConfigError: The global batch cannot be divided over devices and passes.
        DataError: A clip has no label in fine-tuning, or no optical flow where the objective needs it.
    """
    if isinstance(config, FinetuneConfig) and not manifest.labelled:
        num_missing = sum(record.label is None for record in manifest.records)
        raise DataError(f"{manifest.place}: {num_missing} of {len(manifest)} clips have no label to fine-tune on")
    repeats = config.data.clips_per_video
    has_gpu = config.run.device in {"auto", "cuda"} and torch.cuda.is_available()
    is_mixed = isinstance(config, FinetuneConfig) and max(config.augment.mixup_alpha, config.augment.cutmix_alpha) > 0
    plan = plan_batches(config.optim.global_batch_size, config.data.batch_size, world_size, repeats, in_pairs=is_mixed)
    num_workers = resolve_num_workers(config.data.num_workers)
    records, store = through_store(
        manifest.records, config.data.remote, num_workers, brings=not config.data.memory_cache
    )
    clips = TrainClips(
        records,
        config.clip,
        config.augment,
        num_sampled_frames=num_sampled_frames(config),
        clips_per_video=repeats,
        same_frames=config.data.same_frames,
        seed=config.run.seed,
        memory_cache=config.data.memory_cache,
        decoder=config.data.decoder,
        time_limit_seconds=config.data.time_limit_seconds,
        max_failures=math.floor(config.data.max_failed_share * manifest.num_files),
        change_later=has_gpu if config.data.augment_on == "auto" else config.data.augment_on == "device",
        motion=_motion_reader(manifest, config),
    )
    if config.data.memory_cache and num_workers:
        clips.preload(num_workers)
    sampler = EpochSampler(
        len(clips), plan, clips_per_video=repeats, seed=config.run.seed, rank=rank, world_size=world_size
    )
    return TrainLoader(
        clips,
        sampler,
        num_workers=num_workers,
        max_failed_share=config.data.max_failed_share,
        time_limit_seconds=config.data.time_limit_seconds,
        pin_memory=has_gpu,
        on_failure=on_failure,
        store=store,
    )


def _motion_reader(manifest: Manifest, config: TrainConfig) -> MotionReader | None:
    """Make what reads optical flow, if the objective needs it."""
    if not isinstance(config, PretrainConfig) or config.objective.name != "mme":
        return None
    model = config.model
    return MotionReader(manifest, config.objective.flow, tubelet_size=model.tubelet_size, patch_size=model.patch_size)
