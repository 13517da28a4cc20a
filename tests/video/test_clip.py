"""A clip refuses what it cannot be."""

from pathlib import Path

import pytest
import torch

from everest.errors import VideoError
from everest.video import Clip


def test_a_clip_knows_its_size_and_says_so() -> None:
    clip = Clip(torch.zeros(4, 6, 8, 3, dtype=torch.uint8), torch.arange(4) / 2, Path("dir/a.mp4"))
    assert (clip.num_frames, clip.height, clip.width) == (4, 6, 8)
    assert repr(clip) == "Clip(4 frames, 6x8, 0.000-1.500 s, 'a.mp4')"


@pytest.mark.parametrize(
    ("frames", "pts", "reason"),
    [
        (torch.zeros(4, 6, 8, 3), torch.zeros(4), "takes uint8 frames"),
        (torch.zeros(4, 3, 6, 8, dtype=torch.uint8), torch.zeros(4), r"shape \[T, H, W, 3\]"),
        (torch.zeros(6, 8, 3, dtype=torch.uint8), torch.zeros(6), r"shape \[T, H, W, 3\]"),
        (torch.zeros(4, 6, 8, 3, dtype=torch.uint8), torch.zeros(3), "4 frames need as many time stamps"),
    ],
)
def test_wrong_shapes_and_types_are_refused(frames: torch.Tensor, pts: torch.Tensor, reason: str) -> None:
    with pytest.raises(VideoError, match=reason):
        Clip(frames, pts, Path("a.mp4"))
