"""Sizes, places and values after the fixed transforms."""

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from everest.errors import VideoError
from everest.video import (
    Clip,
    crop_and_resize,
    normalize,
    resize_short_side,
    to_channels_first,
    view_crops,
)


def ramp(T: int, H: int, W: int) -> Tensor:
    """Frames whose red is the column and whose green is the row, in the memory order of a decoded clip: [C,T,H,W]."""
    frames = torch.zeros(T, H, W, 3, dtype=torch.uint8)
    frames[..., 0] = torch.arange(W, dtype=torch.uint8)
    frames[..., 1] = torch.arange(H, dtype=torch.uint8)[:, None]
    frames[..., 2] = torch.arange(T, dtype=torch.uint8)[:, None, None]
    return frames.permute(3, 0, 1, 2)


def test_channels_come_first_without_a_copy() -> None:
    clip = Clip(torch.randint(0, 256, (2, 4, 6, 3), dtype=torch.uint8), torch.zeros(2), Path("a.mp4"))
    frames = to_channels_first(clip)
    assert frames.shape == (3, 2, 4, 6)
    assert frames.data_ptr() == clip.frames.data_ptr()
    assert frames[1, 0, 2, 3] == clip.frames[0, 2, 3, 1]


def test_a_crop_of_the_final_size_is_cut_exactly() -> None:
    out = crop_and_resize(ramp(2, 40, 60), 3, 7, 10, 20, 10, 20)
    assert out[0, 0, 0].tolist() == list(range(7, 27))
    assert out[1, 1, :, 0].tolist() == list(range(3, 13))
    assert out[2, :, 0, 0].tolist() == [0, 1]


@pytest.mark.parametrize("box", [(-1, 0, 4, 4), (0, 57, 4, 4), (0, 0, 41, 4), (0, 0, 0, 4)])
def test_a_crop_outside_the_frames_is_refused(box: tuple[int, int, int, int]) -> None:
    with pytest.raises(VideoError, match="does not fit frames of 40x60"):
        crop_and_resize(ramp(1, 40, 60), *box, 8, 8)


def test_scaling_averages_what_it_shrinks() -> None:
    checks = torch.zeros(3, 2, 64, 64, dtype=torch.uint8)
    checks[..., ::2] = 200  # without antialiasing this would give 0 or 200, not the mean
    out = crop_and_resize(checks, 0, 0, 64, 64, 8, 8)
    assert (out[..., 1:-1].int() - 100).abs().max() <= 2


def test_scaling_agrees_with_floating_point_in_any_memory_order() -> None:
    frames = torch.randint(0, 256, (4, 37, 53, 3), dtype=torch.uint8).permute(3, 0, 1, 2)
    images = frames.permute(1, 0, 2, 3).float()
    exact = torch.nn.functional.interpolate(images, size=(24, 30), mode="bilinear", antialias=True)
    for given_frames in (frames, frames.contiguous()):
        out = crop_and_resize(given_frames, 0, 0, 37, 53, 24, 30).permute(1, 0, 2, 3)
        assert (out.float() - exact).abs().max() <= 1.5


def test_short_side_and_rounding_of_the_long_side() -> None:
    assert resize_short_side(ramp(1, 240, 200), 224).shape == (3, 1, 268, 224)
    frames = torch.zeros(3, 1, 240, 320, dtype=torch.uint8)
    assert resize_short_side(frames, 224).shape == (3, 1, 224, 298)
    assert resize_short_side(frames, 240) is frames


@given(st.integers(8, 60), st.integers(8, 60), st.integers(4, 40), st.integers(4, 40), st.integers(1, 5))
def test_views_cover_the_frame_from_end_to_end(H: int, W: int, height: int, width: int, num_crops: int) -> None:
    frames = ramp(1, H, W)
    views = view_crops(frames, height, width, num_crops)
    assert len(views) == num_crops
    assert all(view.shape == (3, 1, height, width) for view in views)
    if num_crops > 1:
        axis = 0 if W * height >= H * width else 1  # red grows to the right, green downward
        means = [float(view[axis].float().mean()) for view in views]
        assert means == sorted(means)
        scale = max(height / H, width / W)
        along = (-1, W) if axis == 0 else (-2, H)
        first = views[0][axis].select(along[0], 0).float().mean()
        last = views[-1][axis].select(along[0], -1).float().mean()
        assert first <= 1 + 1 / scale
        assert last >= along[1] - 2 - 1 / scale


def test_three_views_of_a_landscape_and_the_single_centre() -> None:
    frames = ramp(1, 40, 60)
    left, middle, right = view_crops(frames, 40, 40, 3)
    assert [int(v[0, 0, 0, 0]) for v in (left, middle, right)] == [0, 10, 20]
    (centre,) = view_crops(frames, 40, 40, 1)
    assert torch.equal(centre, middle)
    top, bottom = view_crops(ramp(1, 60, 40), 40, 40, 2)
    assert [int(v[1, 0, 0, 0]) for v in (top, bottom)] == [0, 20]


def test_normalize_is_its_formula_for_any_memory_order() -> None:
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    clips = torch.randint(0, 256, (2, 4, 5, 6, 3), dtype=torch.uint8).permute(0, 4, 1, 2, 3)
    m, s = (torch.tensor(v, dtype=torch.float64).view(3, 1, 1, 1) for v in (mean, std))
    expected = (clips.double() / 255 - m) / s
    for given_clips in (clips, clips.contiguous()):
        out = normalize(given_clips, mean, std)
        assert out.dtype == torch.float32
        assert out.is_contiguous()
        assert torch.allclose(out.double(), expected, atol=2e-6)
