"""Clips to batches: worker processes, accounting of files that cannot be read, order of evaluation.

Shapes: B clips, R clips of one video, C channels, T frames, H height, W width.
"""

import gc
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from everest.config import ClipConfig, EvaluationConfig, FinetuneConfig, TrainConfig, num_sampled_frames
from everest.datasets.clips import SampleKey, TrainClips, ViewClips, Views
from everest.datasets.records import Manifest
from everest.datasets.sampler import BatchPlan, EpochSampler, plan_batches
from everest.errors import DataError

MAX_AUTO_WORKERS = 8
PREFETCH_FACTOR = 2  # batches that wait per worker
NUM_LISTED = 5  # files that a message names

OnFailure = Callable[[str, str], None]  # path, reason


@dataclass(frozen=True, eq=False, repr=False)
class Batch:
    """What one forward pass of one device takes.

    Attributes:
        frames: Shape [B, C, T, H, W], uint8; the R clips of a video follow each other.
        labels: Shape [B], int64; -1 where there is none.
        record_indices: The record of each clip, shape [B], int64.
        failures: Path and reason of files that could not be read and were replaced.
    """

    frames: Tensor
    labels: Tensor
    record_indices: Tensor
    failures: tuple[tuple[str, str], ...] = ()

    def pin_memory(self) -> "Batch":
        """Move the tensors to pinned memory, from where they are copied to a GPU while it computes."""
        return replace(
            self,
            frames=self.frames.pin_memory(),
            labels=self.labels.pin_memory(),
            record_indices=self.record_indices.pin_memory(),
        )

    def __repr__(self) -> str:
        return f"Batch({list(self.frames.shape)}, {len(self.failures)} failures)"


class _MicroBatches(Dataset["Batch | DataError"]):
    """Whole batches as items: a worker hands over finished batches. Errors travel as values, to stay readable."""

    def __init__(self, clips: TrainClips) -> None:
        self.clips = clips

    def __getitem__(self, keys: tuple[SampleKey, ...]) -> "Batch | DataError":
        try:
            samples = [self.clips[key] for key in keys]
        except DataError as error:
            return error
        repeats = self.clips.clips_per_video
        labels = torch.tensor([s.label for s in samples]).repeat_interleave(repeats)  # [B]
        indices = torch.tensor([s.record_index for s in samples]).repeat_interleave(repeats)  # [B]
        failures = dict(failure for s in samples for failure in s.failures)
        frames = torch.cat([s.frames for s in samples])  # [B,C,T,H,W]
        return Batch(frames, labels, indices, tuple(failures.items()))


class TrainLoader:
    """Batches of training clips, epoch by epoch. Made by :func:`build_train_loader`.

    Attributes:
        sampler: Decides which video is read when.
        failed: Reason by path of every file that could not be read so far.
    """

    def __init__(
        self,
        clips: TrainClips,
        sampler: EpochSampler,
        *,
        num_workers: int = 0,
        max_failed_share: float = 0.05,
        pin_memory: bool = False,
        on_failure: OnFailure | None = None,
    ) -> None:
        self.sampler = sampler
        self.failed: dict[str, str] = {}
        self._num_files = len({record.path for record in clips.records})
        self._max_failed_share = max_failed_share
        self._on_failure = on_failure
        self._loader = _data_loader(_MicroBatches(clips), sampler, num_workers, pin_memory, persistent=True)

    @property
    def plan(self) -> BatchPlan:
        """Division of the global batch."""
        return self.sampler.plan

    @property
    def num_steps(self) -> int:
        """Optimiser steps in an epoch."""
        return self.sampler.num_steps

    def epoch(self, epoch: int, start_step: int = 0) -> Iterator[Batch]:
        """Read the batches of an epoch: ``plan.accumulation_steps`` of them for each optimiser step.

        Args:
            epoch: From 0.
            start_step: Optimiser steps of the epoch that are done already.

        Raises:
            DataError: More than ``max_failed_share`` of the files cannot be read.
        """
        self.sampler.set_epoch(epoch, start_step)
        _clean_before_fork(self._loader)
        for batch in self._loader:
            if isinstance(batch, DataError):
                # A new error, for one that this frame refers to would keep the frame and with it the workers alive.
                raise DataError(str(batch))
            self._count(batch.failures)
            yield batch

    def _count(self, failures: tuple[tuple[str, str], ...]) -> None:
        """Remember failed files, name each once, and stop when there are too many."""
        for path, reason in failures:
            if path not in self.failed:
                self.failed[path] = reason
                if self._on_failure is not None:
                    self._on_failure(path, reason)
        if len(self.failed) / self._num_files > self._max_failed_share:
            listed = "; ".join(f"{path}: {why}" for path, why in list(self.failed.items())[:NUM_LISTED])
            more = f"; and {len(self.failed) - NUM_LISTED} more" if len(self.failed) > NUM_LISTED else ""
            raise DataError(
                f"{len(self.failed)} of {self._num_files} videos cannot be read, more than data.max_failed_share "
                f"({self._max_failed_share:g}) allows; remove them from the data or raise it: {listed}{more}"
            )


class ViewLoader:
    """The views of each video for evaluation, in the order of the records. Made by :func:`build_view_loader`.

    Attributes:
        indices: The records that this device evaluates.
    """

    def __init__(self, clips: ViewClips, indices: range, *, num_workers: int = 0, pin_memory: bool = False) -> None:
        self.indices = indices
        self._loader = _data_loader(clips, indices, num_workers, pin_memory, persistent=False)

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[Views]:
        _clean_before_fork(self._loader)
        yield from self._loader


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
        DataError: A clip has no label in fine-tuning.
    """
    if isinstance(config, FinetuneConfig) and not manifest.labelled:
        num_missing = sum(record.label is None for record in manifest.records)
        raise DataError(f"{manifest.source}: {num_missing} of {len(manifest)} clips have no label to fine-tune on")
    repeats = config.data.clips_per_video
    plan = plan_batches(config.optim.global_batch_size, config.data.batch_size, world_size, repeats)
    clips = TrainClips(
        manifest.records,
        config.clip,
        config.augment,
        num_sampled_frames=num_sampled_frames(config),
        clips_per_video=repeats,
        seed=config.run.seed,
        memory_cache=config.data.memory_cache,
    )
    num_workers = resolve_num_workers(config.data.num_workers)
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
        pin_memory=config.run.device in {"auto", "cuda"} and torch.cuda.is_available(),
        on_failure=on_failure,
    )


def build_view_loader(
    manifest: Manifest,
    clip: ClipConfig,
    evaluation: EvaluationConfig,
    *,
    num_sampled_frames: int | None = None,
    num_workers: int = -1,
    pin_memory: bool = False,
    rank: int = 0,
    world_size: int = 1,
) -> ViewLoader:
    """Make the loader of an evaluation.

    Args:
        manifest: The clips to evaluate, one split.
        clip: Length, size and sampling, as in training.
        evaluation: Numbers of segments and crops.
        num_sampled_frames: Frames per view where frames are chosen later; from
            :func:`~everest.config.num_sampled_frames`.
        num_workers: Decoding processes; -1 takes one per spare core.
        pin_memory: Hand over pinned memory, for copies to a GPU.
        rank: This device, which takes every ``world_size``-th record.
        world_size: Number of devices.
    """
    clips = ViewClips(manifest.records, clip, evaluation, num_sampled_frames=num_sampled_frames)
    indices = range(rank, len(clips), world_size)
    workers = min(resolve_num_workers(num_workers), len(indices))
    return ViewLoader(clips, indices, num_workers=workers, pin_memory=pin_memory)


def resolve_num_workers(num_workers: int) -> int:
    """Replace -1 by one process per spare core, at most eight."""
    if num_workers >= 0:
        return num_workers
    affinity = getattr(os, "sched_getaffinity", None)  # not on macOS and Windows
    num_cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    return min(max(0, num_cores - 1), MAX_AUTO_WORKERS)


def _data_loader(
    dataset: Dataset[Any], sampler: EpochSampler | range, num_workers: int, pin_memory: bool, *, persistent: bool
) -> DataLoader[Any]:
    return DataLoader(
        dataset,
        batch_size=None,  # items are whole batches
        sampler=sampler,
        num_workers=num_workers,
        collate_fn=_as_is,
        pin_memory=pin_memory,
        worker_init_fn=_start_worker,
        persistent_workers=persistent and num_workers > 0,
        prefetch_factor=PREFETCH_FACTOR if num_workers > 0 else None,
        generator=torch.Generator(),  # its own: drawing from the global one would change the training's randomness
    )


def _clean_before_fork(loader: DataLoader[Any]) -> None:
    """Free unreachable objects here, and not in the workers.

    A decoded frame that waits for the garbage collector may own threads, which a forked process does not have; a
    worker that collects it waits for them for ever.
    """
    if loader.num_workers > 0:
        gc.collect()


def _as_is(item: Any) -> Any:
    return item


def _start_worker(_: int) -> None:
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C stops the program, which stops its workers
