"""Real clips to measure on.

Shapes: B clips, C channels, T frames, H height, W width.
"""

import torch
from torch import Tensor

from everest.config import AugmentConfig, ClipConfig
from everest.datasets import Manifest, TrainClips
from everest.errors import DataError


def read_clips(manifest: Manifest, clip: ClipConfig, num_clips: int, seed: int) -> Tensor:
    """Read clips as training does, spread over the manifest: [B, C, T, H, W], uint8."""
    source = TrainClips(manifest.records, clip, AugmentConfig(), seed=seed)
    step = len(manifest) / num_clips
    try:
        return torch.cat([source[0, number, int(number * step)].frames for number in range(num_clips)])
    except DataError as error:
        raise DataError(f"{manifest.source}: {error}") from None
