"""The value that leaves this folder: a clip of decoded frames.

Shapes: T frames, H height, W width, C channels (always 3, RGB).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from everest.errors import VideoError
from everest.video.source import VideoSource


@dataclass(frozen=True)
class Clip:
    """Decoded frames of one video, upright, in the order in which they were asked for.

    Attributes:
        frames: RGB values 0 to 255, shape [T, H, W, C], uint8.
        pts_seconds: When each frame is shown, in seconds from the start of the video, shape [T], float64.
            The same value twice means that the same frame was asked for twice.
        source: The file that the frames come from.
    """

    frames: Tensor
    pts_seconds: Tensor
    source: VideoSource

    def __post_init__(self) -> None:
        if self.frames.ndim != 4 or self.frames.shape[-1] != 3 or self.frames.dtype != torch.uint8:
            raise VideoError(
                f"{self.source}: a clip takes uint8 frames of shape [T, H, W, 3], "
                f"not {self.frames.dtype} of shape {list(self.frames.shape)}"
            )
        if self.pts_seconds.shape != self.frames.shape[:1]:
            raise VideoError(
                f"{self.source}: {len(self.frames)} frames need as many time stamps, not {list(self.pts_seconds.shape)}"
            )

    @property
    def num_frames(self) -> int:
        """Number of frames, T."""
        return self.frames.shape[0]

    @property
    def height(self) -> int:
        """Height in pixels, H."""
        return self.frames.shape[1]

    @property
    def width(self) -> int:
        """Width in pixels, W."""
        return self.frames.shape[2]

    def __repr__(self) -> str:
        first, last = (float(self.pts_seconds[i]) for i in (0, -1)) if self.num_frames else (0.0, 0.0)
        return (
            f"Clip({self.num_frames} frames, {self.height}x{self.width}, "
            f"{first:.3f}-{last:.3f} s, {self.source.name!r})"
        )
