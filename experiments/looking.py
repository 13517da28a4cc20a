"""Clips as a trained network sees them in evaluation."""

from collections.abc import Iterator
from pathlib import Path

from lists import Bench, sampling
from torch import Tensor

import everest
from everest.config import CheckpointInfo, EvaluationConfig, num_sampled_frames
from everest.datasets import ViewClips
from everest.errors import DataError
from everest.models import Encoder, load_model


def encoder_of(run: Path) -> tuple[Encoder, CheckpointInfo]:
    """Load the encoder of a run, and what travels with it."""
    model, info = load_model(run)
    encoder = model.encoder
    assert isinstance(encoder, Encoder)  # noqa: S101 - experiments train nothing else
    return encoder, info


def views_of(bench: Bench, task: str, split: str, info: CheckpointInfo) -> ViewClips:
    """Take one view of each clip of a part of a task, at the task's rate."""
    records = everest.load_data(bench.manifest(task)).split(split).records
    clip = info.clip.model_copy(update={"fps": sampling(task)["clip.fps"]})
    views = EvaluationConfig(num_segments=1, num_crops=1)
    return ViewClips(records, clip, views, num_sampled_frames=num_sampled_frames(info))


def clips_of(views: ViewClips) -> Iterator[Tensor]:
    """Read them one by one: uint8, [1, C, T, H, W].

    Raises:
        DataError: One cannot be read.
    """
    for index in range(len(views)):
        view = views[index]
        if view.error is not None:
            raise DataError(view.error)
        yield view.frames
