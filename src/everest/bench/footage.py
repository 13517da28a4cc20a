"""Real clips to measure on.

Shapes: B clips, C channels, T frames, H height, W width.
"""

from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from itertools import count

import torch
from torch import Tensor

from everest.bench.made_up import made_motion
from everest.config import (
    AugmentConfig,
    CheckpointInfo,
    ClipConfig,
    DataConfig,
    FinetuneConfig,
    OptimConfig,
    PretrainConfig,
    RunConfig,
)
from everest.datasets import Batch, Manifest, TrainClips, TrainLoader, build_train_loader
from everest.errors import ConfigError, DataError


def read_clips(manifest: Manifest, clip: ClipConfig, num_clips: int, seed: int) -> Tensor:
    """Read clips as training does, spread over the manifest: [B, C, T, H, W], uint8."""
    source = TrainClips(manifest.records, clip, AugmentConfig(), seed=seed)
    step = len(manifest) / num_clips
    try:
        return torch.cat([source[0, number, int(number * step)].frames for number in range(num_clips)])
    except DataError as error:
        raise DataError(f"{manifest.source}: {error}") from None


@contextmanager
def reading(
    manifest: Manifest, info: CheckpointInfo, batch: int, *, device: str, num_workers: int, seed: int = 0
) -> Iterator[Iterator[Batch]]:
    """Read batches while steps compute, by the loader of training, without end.

    Clips are cropped and flipped; for fine-tuning, changed by two operations and partly erased as well, as in the
    paper's recipe. They are not mixed, and no optical flow is read.

    Args:
        manifest: The clips, with labels for fine-tuning.
        info: What is trained.
        batch: Clips of a batch.
        device: Where it is trained: ``cpu``, ``cuda`` or ``auto``. On a GPU the changes are made there.
        num_workers: Processes that read; -1 lets the program choose, 0 reads between steps.
        seed: Of order, frames and augmentation.

    Yields:
        Batches. At the end of the ``with`` the processes are stopped.

    Raises:
        ConfigError: No batch can be made so.
        DataError: There are no labels, or too many files cannot be read.
    """
    if batch < 1 or num_workers < -1:
        raise ConfigError(
            f"read batches of at least one clip, by 0 or more workers or -1, given: {batch}, {num_workers}"
        )
    of_task = FinetuneConfig if info.task == "finetune" else PretrainConfig
    augment = AugmentConfig(rand_augment_ops=2, erase_probability=0.25) if info.task == "finetune" else AugmentConfig()
    config = of_task(
        model=info.model,
        clip=info.clip,
        selection=info.selection,
        augment=augment,
        data=DataConfig(batch_size=batch, num_workers=num_workers),
        optim=OptimConfig(global_batch_size=batch),
        run=RunConfig(device=device, seed=seed),
    )
    loader = build_train_loader(manifest, config)
    with closing(_batches(loader, info)) as batches:
        yield batches


def _batches(loader: TrainLoader, info: CheckpointInfo) -> Generator[Batch]:
    """Give epoch after epoch, with as many classes and with trajectories as the model wants them."""
    num_classes = max(1, len(info.class_names))
    for epoch in count():
        for batch in loader.epoch(epoch):
            yield replace(batch, labels=batch.labels % num_classes, motion=made_motion(len(batch.frames), info))
