"""Where points of a clip go in the next frames of its video: tracked through an optical flow that was computed before.

A point starts in the middle of every cell of 8 x 8 pixels of the clip, at the first frame of each tubelet, and takes
four steps. A step goes from one frame of the video to the next, so motion is finer than the stride of the clip. The
flow is sampled where the point is by then, and steps are given in pixels of the clip, after crop, resize and flip.

Shapes: S slots, K steps, h x w nodes of the flow, G points of a slot, R x C tokens of a slot, r x c cells of a token.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

CELL_SIZE = 8
"""Height and width of a cell in pixels of the clip."""
NUM_STEPS = 4
"""Length of a trajectory."""
MAX_STEP_PIXELS = 20.0
"""Longer steps are cut off, in pixels of the clip."""
_MIN_SHARE = 0.5  # of the flow around a point that has to be trusted


@dataclass(frozen=True)
class ClipBox:
    """The part of a video's frames that a clip shows.

    Attributes:
        top, left: First row and column of the box, in pixels of frames of ``frame_height`` x ``frame_width``.
        height, width: Of the box.
        frame_height, frame_width: Of the frames that the box was cut out of.
        is_flipped: Whether left and right are swapped.
    """

    top: int
    left: int
    height: int
    width: int
    frame_height: int
    frame_width: int
    is_flipped: bool = False


def track(flow: Tensor, trusted: Tensor, box: ClipBox, *, clip_height: int, clip_width: int, patch_size: int) -> Tensor:
    """Track the points of a clip.

    Args:
        flow: Steps from frame to frame as shares of the frame's width (first channel) and height, at nodes in the
            middle of h x w equal parts of the frame; from the first frame of each slot on; float32, shape
            [S, K, 2, h, w].
        trusted: Where the flow can be relied on, shape [S, K, h, w], bool; nowhere in a step that is not there.
        box: What the clip shows.
        clip_height: In pixels, a multiple of ``patch_size``.
        clip_width: In pixels, a multiple of ``patch_size``.
        patch_size: Height and width of a token in pixels, a multiple of :data:`CELL_SIZE`.

    Returns:
        Steps in pixels of the clip, at most :data:`MAX_STEP_PIXELS` in each direction, for all tokens in their order,
        in the order (cell row, cell column, step, (right, down)): float32, shape [S * R * C, r * c * K * 2]. NaN from
        the step on in which a point leaves the frame, or in which less than half of the flow around it is trusted.
    """
    num_slots, num_steps = flow.shape[:2]
    points = _first_points(box, clip_height, clip_width).to(flow)  # [G, 2]
    across = (-1 if box.is_flipped else 1) * box.frame_width / box.width * clip_width
    scale = flow.new_tensor([across, box.frame_height / box.height * clip_height])
    at = points.expand(num_slots, -1, -1)  # [S, G, 2]
    is_tracked = torch.ones(at.shape[:2], dtype=torch.bool)  # [S, G]
    steps = []
    for k in range(num_steps):
        weight = trusted[:, k, None].to(flow)  # [S, 1, h, w]
        layers = torch.cat([flow[:, k] * weight, weight], dim=1)  # [S, 3, h, w]
        found = F.grid_sample(layers, 2 * at[:, :, None] - 1, padding_mode="border", align_corners=False)
        found = found[..., 0].transpose(1, 2)  # [S, G, 3]
        share = found[..., 2:]
        step = found[..., :2] / share.clamp(min=_MIN_SHARE)
        at = at + step
        is_tracked = is_tracked & (share[..., 0] >= _MIN_SHARE) & ((at >= 0) & (at <= 1)).all(dim=-1)
        pixels = (step * scale).clamp(-MAX_STEP_PIXELS, MAX_STEP_PIXELS)
        steps.append(pixels.masked_fill(~is_tracked[..., None], float("nan")))
    cells = patch_size // CELL_SIZE
    rows, columns = clip_height // patch_size, clip_width // patch_size
    values = torch.stack(steps, dim=2).reshape(num_slots, rows, cells, columns, cells, -1)  # [S, R, r, C, c, K * 2]
    return values.transpose(2, 3).reshape(num_slots * rows * columns, -1)  # [S * R * C, r * c * K * 2]


def _first_points(box: ClipBox, clip_height: int, clip_width: int) -> Tensor:
    """Find the middles of all cells, row by row, as shares of the frame's width and height: [G, 2] in 0..1."""
    down = (torch.arange(clip_height // CELL_SIZE) + 0.5) * (CELL_SIZE / clip_height)  # of the clip
    right = (torch.arange(clip_width // CELL_SIZE) + 0.5) * (CELL_SIZE / clip_width)
    right = 1 - right if box.is_flipped else right
    y = (box.top + down * box.height) / box.frame_height
    x = (box.left + right * box.width) / box.frame_width
    return torch.stack([x.expand(len(y), -1), y[:, None].expand(-1, len(x))], dim=-1).flatten(0, 1)  # [G, 2]
