"""Which video is read when: the same order whatever the number of devices, passes and processes."""

from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor

from everest.datasets.clips import SampleKey, make_generator
from everest.errors import ConfigError


@dataclass(frozen=True)
class BatchPlan:
    """How the clips of one optimiser step are divided.

    Attributes:
        batch_size: Clips per device and forward pass.
        accumulation_steps: Forward passes per optimiser step on each device.
        global_batch_size: Clips per optimiser step over all devices.
    """

    batch_size: int
    accumulation_steps: int
    global_batch_size: int


def plan_batches(
    global_batch_size: int,
    batch_size: int,
    world_size: int = 1,
    clips_per_video: int = 1,
    *,
    in_pairs: bool = False,
) -> BatchPlan:
    """Divide a global batch over devices and passes, without changing its size.

    Args:
        global_batch_size: Clips per optimiser step, as the recipe wants it.
        batch_size: Clips that fit into a forward pass of one device. The largest number that is not above it and
            divides the device's share is taken.
        world_size: Number of devices.
        clips_per_video: Clips of one video, which stay in one pass.
        in_pairs: Two videos that follow each other stay in one pass as well: they are mixed with each other.

    Raises:
        ConfigError: The global batch cannot be divided so.
    """
    together = clips_per_video * (2 if in_pairs else 1)
    if in_pairs and world_size == 1 and global_batch_size <= batch_size:
        together = clips_per_video  # all are in one pass, and one without a partner may be left
    pairs = " x 2 videos that are mixed" if together > clips_per_video else ""
    unit = world_size * together
    if global_batch_size % unit:
        lower = global_batch_size // unit * unit
        near = f"{lower} or {lower + unit}" if lower else f"{unit}"
        raise ConfigError(
            f"optim.global_batch_size ({global_batch_size}) must be a multiple of {world_size} devices x "
            f"{clips_per_video} clips per video{pairs}; nearest: {near}"
        )
    if batch_size < together:
        what = "two videos that are mixed (augment.mixup_alpha, augment.cutmix_alpha)" if pairs else "a video"
        raise ConfigError(
            f"data.batch_size ({batch_size}) must hold the {together} clips of {what} "
            "(data.clips_per_video); raise the one or lower the other"
        )
    share = global_batch_size // world_size
    fitting = range(min(batch_size, share), 0, -1)
    size = next(b for b in fitting if share % b == 0 and b % together == 0)
    return BatchPlan(size, share // size, global_batch_size)


class EpochSampler:
    """Yields the videos of every forward pass of one device.

    The order of an epoch depends on the seed and the epoch only. Optimiser step s takes the positions from s * G to
    (s + 1) * G, G videos in a global batch, and divides them over devices and passes; so the set of videos of a step,
    and the randomness of each (which depends on its position), is the same for any division. Videos that do not fill
    a last global batch are left out of the epoch; where there are fewer videos than a global batch, the order is
    drawn repeatedly to fill one.

    Args:
        num_records: Number of videos.
        plan: Division of the global batch.
        clips_per_video: Clips taken from each video.
        seed: Decides the order.
        rank: This device.
        world_size: Number of devices.
    """

    def __init__(
        self,
        num_records: int,
        plan: BatchPlan,
        *,
        clips_per_video: int = 1,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if not 0 <= rank < world_size:
            raise ConfigError(f"rank must be 0 to {world_size - 1}, not {rank}")
        if plan.batch_size % clips_per_video:
            raise ConfigError(f"a batch of {plan.batch_size} clips cannot hold whole videos of {clips_per_video} clips")
        self.num_records = num_records
        self.plan = plan
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.videos_per_batch = plan.batch_size // clips_per_video
        self.videos_per_step = plan.global_batch_size // clips_per_video
        self.num_steps = max(1, num_records // self.videos_per_step)
        self._epoch = 0
        self._start_step = 0
        self._num_skipped = 0

    def order(self, epoch: int) -> Tensor:
        """Draw the record index at every position of an epoch, shape [num_steps * videos_per_step], int64."""
        num_positions = self.num_steps * self.videos_per_step
        generator = make_generator(self.seed, epoch)
        num_draws = -(-num_positions // self.num_records)
        draws = [torch.randperm(self.num_records, generator=generator) for _ in range(num_draws)]
        return torch.cat(draws)[:num_positions]

    def set_epoch(self, epoch: int, start_step: int = 0, num_skipped: int = 0) -> None:
        """Choose what the next iteration yields.

        Args:
            epoch: From 0.
            start_step: Optimiser steps of the epoch that are done already.
            num_skipped: Forward passes after these steps that are done already.

        Raises:
            ConfigError: The epoch has fewer steps.
        """
        if not 0 <= start_step <= self.num_steps:
            raise ConfigError(f"an epoch has {self.num_steps} steps; it cannot start at step {start_step}")
        self._epoch = epoch
        self._start_step = start_step
        self._num_skipped = num_skipped

    def keys_of(self, step: int) -> list[tuple[SampleKey, ...]]:
        """Say what this device reads in each pass of an optimiser step, counted from the start of the run.

        What the next iteration yields stays as it is.
        """
        epoch, num_done = divmod(step, self.num_steps)
        other = copy(self)
        other.set_epoch(epoch, num_done)
        return list(islice(other, self.plan.accumulation_steps))

    def __len__(self) -> int:
        return (self.num_steps - self._start_step) * self.plan.accumulation_steps - self._num_skipped

    def __iter__(self) -> Iterator[tuple[SampleKey, ...]]:
        epoch, size = self._epoch, self.videos_per_batch
        order = self.order(epoch).tolist()
        num_passes = self.plan.accumulation_steps
        for index in range(self._start_step * num_passes + self._num_skipped, self.num_steps * num_passes):
            step, accumulation = divmod(index, num_passes)
            begin = step * self.videos_per_step + (accumulation * self.world_size + self.rank) * size
            yield tuple((epoch, position, order[position]) for position in range(begin, begin + size))
