"""Points follow a flow whose way is known: even, growing with the place, cut off, lost."""

import pytest
import torch
from torch import Tensor

from everest.video.trajectories import CELL_SIZE, NUM_STEPS, ClipBox, track

WHOLE = ClipBox(top=0, left=0, height=96, width=128, frame_height=96, frame_width=128)
BOXES = {
    "whole": WHOLE,
    "crop": ClipBox(top=10, left=30, height=48, width=64, frame_height=96, frame_width=128),
    "stretched": ClipBox(top=16, left=8, height=60, width=40, frame_height=96, frame_width=128),
    "mirrored": ClipBox(top=10, left=30, height=48, width=64, frame_height=96, frame_width=128, is_flipped=True),
}
SIZE = {"clip_height": 32, "clip_width": 64, "patch_size": 16}


def even(right: float, down: float, slots: int = 1) -> tuple[Tensor, Tensor]:
    """Flow that is the same everywhere, in pixels of frames of 96 x 128."""
    share = torch.tensor([right / 128, down / 96])[:, None, None]
    return share.expand(slots, NUM_STEPS, 2, 12, 16).clone(), torch.ones(slots, NUM_STEPS, 12, 16, dtype=torch.bool)


def points_of(motion: Tensor, columns: int = 4) -> Tensor:
    """Bring tokens of 2 x 2 cells to one image of points: [S * R * C, J] to [S, cell rows, cell columns, K, 2]."""
    values = motion.reshape(-1, 2, columns, 2, 2, NUM_STEPS, 2)  # [S, R, C, r, c, K, 2]
    return values.transpose(2, 3).reshape(-1, 4, 2 * columns, NUM_STEPS, 2)


@pytest.mark.parametrize("box", BOXES.values(), ids=BOXES)
def test_even_motion_is_scaled_and_mirrored_with_the_clip(box: ClipBox) -> None:
    motion = track(*even(1.5, -0.5, slots=3), box, **SIZE)
    assert motion.shape == (3 * 2 * 4, 32)
    steps = motion.reshape(-1, 2)
    sign = -1 if box.is_flipped else 1
    expected = torch.tensor([sign * 1.5 * 64 / box.width, -0.5 * 32 / box.height])
    found = steps[steps.isfinite().all(dim=1)]
    assert len(found) > 0.8 * len(steps)
    torch.testing.assert_close(found, expected.expand_as(found), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("box", BOXES.values(), ids=BOXES)
def test_the_flow_is_taken_where_the_point_is_by_then(box: ClipBox) -> None:
    """Points run away from the middle of the frame by a tenth of their distance: x_k = 1.1^k x_0."""
    y, x = torch.meshgrid((torch.arange(12) + 0.5) / 12, (torch.arange(16) + 0.5) / 16, indexing="ij")
    flow = (0.1 * torch.stack([x - 0.5, y - 0.5])).expand(1, NUM_STEPS, 2, 12, 16)
    motion = points_of(track(flow, torch.ones(1, NUM_STEPS, 12, 16, dtype=torch.bool), box, **SIZE))[0]
    sign = -1 if box.is_flipped else 1
    across = (torch.arange(8) + 0.5) * CELL_SIZE / 64
    across = 1 - across if box.is_flipped else across
    x0 = (box.left + across * box.width) / 128 - 0.5
    y0 = (box.top + (torch.arange(4) + 0.5) * CELL_SIZE / 32 * box.height) / 96 - 0.5
    for k in range(NUM_STEPS):
        right = 0.1 * 1.1**k * x0 * 128 / box.width * 64 * sign
        down = 0.1 * 1.1**k * y0 * 96 / box.height * 32
        expected = torch.stack(torch.broadcast_tensors(right[None], down[:, None]), dim=-1)
        inside = ((1.1**k * x0).abs()[None] < 0.45) & ((1.1**k * y0).abs()[:, None] < 0.45)  # of the outermost nodes
        torch.testing.assert_close(motion[:, :, k][inside], expected[inside], rtol=1e-4, atol=1e-4)
        assert bool(inside.any())


def test_slots_have_steps_of_their_own() -> None:
    flow, trusted = even(1, 0, slots=2)
    flow[1] *= 2
    flow[0, 2] *= 3
    motion = points_of(track(flow, trusted, WHOLE, **SIZE))
    assert motion[0, 2, 0, :, 0].tolist() == pytest.approx([0.5, 0.5, 1.5, 0.5])
    assert motion[1, 2, 0, :, 0].tolist() == pytest.approx([1.0] * 4)


def test_what_stands_still_does_not_move() -> None:
    assert torch.equal(track(*even(0, 0), BOXES["crop"], **SIZE), torch.zeros(8, 32))


def test_a_point_that_leaves_the_frame_is_lost_from_then_on() -> None:
    motion = points_of(track(*even(10, 0), WHOLE, **SIZE))[0, 1]  # cells are 16 pixels of the frame wide
    assert motion[7].isnan().all(dim=-1).tolist() == [True, True, True, True]  # starts 8 pixels from the edge
    assert motion[6].isnan().all(dim=-1).tolist() == [False, False, True, True]  # starts 24 pixels from it
    assert not bool(motion[:5].isnan().any())


def test_leaving_the_crop_is_not_leaving_the_frame() -> None:
    assert not bool(track(*even(4, 0), BOXES["crop"], **SIZE).isnan().any())


def test_a_point_is_lost_where_the_flow_is_not_trusted() -> None:
    flow, trusted = even(0, 0)
    flow[0, 1, :, :, :4] = float("nan")
    flow.nan_to_num_(nan=5.0)
    trusted[0, 1, :, :4] = False  # the left quarter of the frame in the second step
    motion = points_of(track(flow, trusted, WHOLE, **SIZE))[0]
    assert bool(motion[:, :2, 1:].isnan().all())
    assert not bool(motion[:, :2, 0].isnan().any())
    assert torch.equal(motion[:, 2:], torch.zeros(4, 6, NUM_STEPS, 2))  # of what is not trusted nothing is mixed in


def test_a_flow_without_steps_tracks_nothing() -> None:
    flow, trusted = even(1, 1)
    assert bool(track(flow, trusted & False, WHOLE, **SIZE).isnan().all())


def test_long_steps_are_cut_off_but_followed() -> None:
    close = ClipBox(top=40, left=60, height=8, width=16, frame_height=96, frame_width=128)
    motion = track(*even(8, 1), close, **SIZE).reshape(-1, 2)  # 32 and 4 pixels of the clip
    assert motion[:, 0].unique().tolist() == [20.0]
    torch.testing.assert_close(motion[:, 1], torch.full((len(motion),), 4.0))
    assert not bool(motion.isnan().any())


@pytest.mark.parametrize("patch_size", [8, 16, 32])
def test_every_cell_has_a_point(patch_size: int) -> None:
    motion = track(*even(1, 0), WHOLE, clip_height=64, clip_width=64, patch_size=patch_size)
    assert motion.shape == ((64 // patch_size) ** 2, (patch_size // 8) ** 2 * 8)
