"""Real clips to compare an exported file with PyTorch on.

Shapes: n clips, C channels, T' sampled frames, H height, W width.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from everest.config import CheckpointInfo, num_sampled_frames
from everest.datasets import ClipRecord, Manifest, build_view_loader, load_data
from everest.errors import VideoError
from everest.inference.predict import DEFAULT_VIEWS

NUM_BUNDLED = 3  # videos that are taken where none is named


def read_clips(info: CheckpointInfo, videos: Sequence[str | Path] = ()) -> Tensor:
    """Read three clips of each video, as prediction does.

    Args:
        info: What the model takes.
        videos: Files; without any, three of those that come with the program.

    Returns:
        Shape [n, C, T', H, W], uint8; n is 3 or more.

    Raises:
        VideoError: One cannot be read.
    """
    if videos:
        records = tuple(ClipRecord(Path(video).expanduser()) for video in videos)
    else:
        bundled = load_data("bundled").records
        records = tuple(replace(bundled[len(bundled) * i // NUM_BUNDLED], label=None) for i in range(NUM_BUNDLED))
    manifest = Manifest(records, (), Path.cwd())
    loader = build_view_loader(manifest, info.clip, DEFAULT_VIEWS, num_sampled_frames=num_sampled_frames(info))
    clips: list[Tensor] = []  # each [C, T', H, W]
    for views in loader:
        if views.error is not None:
            raise VideoError(f"{records[views.record_index].path}: {views.error}")
        clips += views.unbind()
    return torch.stack(clips)
