"""Small videos in many containers, written from real frames."""

from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import torch
from torch import Tensor

import everest

FALLS = Path(everest.__file__).parent / "assets" / "falls"
FALLS_CLIPS = sorted(FALLS.rglob("*.mp4"))

Writer = Callable[..., Path]


def decode_all(path: Path) -> Tensor:
    """Decode every frame from the start, by the shortest way there is: [T,H,W,C]."""
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    return torch.from_numpy(np.stack(frames))
