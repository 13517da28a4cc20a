"""Move the camera of clips that were made with a still one: a window that pans or shakes over the frames.

    python experiments/moving_camera.py runs/experiments/data --out runs/experiments/data-moving-camera

Eight frames of a labelled clip, a second of it or what was rendered, are seen through a window of 56 x 56 pixels where
their short side is 72, and through a larger one, which moves as much further, where it is longer. It moves evenly in a
direction that the name of the clip decides (``pan``), or jumps around its middle from frame to frame (``shake``);
places are not whole pixels, and frames are interpolated between them. All training clips together are the footage.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from pathlib import Path

import torch
import torch.nn.functional as F
from still_parts import NUM_ACTION, change_clips, command, write_footage
from torch import Tensor

SIDE, SHORT_SIDE = 56, 72  # pixels of the window, where the frames have so many
PAN, SHAKE = 2.0, 1.5  # pixels a frame; standard deviation of a place, in pixels; in frames of that size


def pan(speed: float, seed: int, num_frames: int = NUM_ACTION) -> Tensor:
    """Places of a window that moves evenly in a drawn direction: (down, right) from the middle, [T, 2]."""
    angle = 2 * math.pi * torch.rand((), generator=torch.Generator().manual_seed(seed)).item()
    times = torch.arange(num_frames) - (num_frames - 1) / 2
    return times[:, None] * speed * torch.tensor([math.sin(angle), math.cos(angle)])


def shake(strength: float, seed: int, num_frames: int = NUM_ACTION) -> Tensor:
    """Places of a window that jumps around its middle: (down, right) from it, [T, 2]."""
    return torch.randn(num_frames, 2, generator=torch.Generator().manual_seed(seed)) * strength


def look_through(frames: Tensor, places: Tensor, side: int = SIDE) -> Tensor:
    """See frames through a square window.

    Args:
        frames: Shape [T, H, W, C], any type.
        places: Of the window's middle, (down, right) from that of the frame, shape [T, 2], in pixels; where that would
            leave the frame, it stops at the border.
        side: Pixels of the window.

    Returns:
        float32, shape [T, side, side, C].
    """
    T, H, W, _ = frames.shape
    room = torch.tensor([H - side, W - side]) / 2
    middles = places.clamp(-room, room) + torch.tensor([H - 1, W - 1]) / 2  # [T, 2]
    steps = torch.arange(side) - (side - 1) / 2
    rows = (middles[:, :1] + steps)[:, :, None].expand(T, side, side)
    columns = (middles[:, 1:] + steps)[:, None, :].expand(T, side, side)
    grid = torch.stack([2 * columns / (W - 1) - 1, 2 * rows / (H - 1) - 1], dim=-1)  # [T, side, side, 2]
    seen = F.grid_sample(frames.permute(0, 3, 1, 2).float(), grid, align_corners=True)
    return seen.permute(0, 2, 3, 1)


MOVES: dict[str, Callable[[int], Tensor]] = {
    "still": partial(pan, 0.0),
    "pan": partial(pan, PAN),
    "shake": partial(shake, SHAKE),
}


def render(data: Path, out: Path, tasks: Sequence[str]) -> dict[str, int]:
    """Write the clips of some tasks as a still, a panning and a shaking camera show them."""
    footage, counts = [], {}
    for task, (kind, places) in product(tasks, MOVES.items()):

        def move(number: int, split: str, action: Tensor, places: Callable[[int], Tensor] = places) -> Tensor:
            size = min(action.shape[1:3]) / SHORT_SIDE
            seen = look_through(action, places(number) * size, round(SIDE * size / 2) * 2)
            return seen.round().clamp(0, 255).to(torch.uint8)

        rows = change_clips(data, task, out / "tasks" / f"{task}-{kind}", move)
        footage += rows
        counts[f"{task}-{kind}"] = len(rows)
    write_footage(out, footage)
    return counts


def main(words: Sequence[str] | None = None) -> int:
    """Make the data from the command line."""
    return command(__doc__, render, words)


if __name__ == "__main__":
    raise SystemExit(main())
