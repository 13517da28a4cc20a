"""Move the camera of clips that were made with a still one: a window that pans or shakes over the frames.

    python experiments/moving_camera.py runs/experiments/data --out runs/experiments/data-moving-camera

Eight frames of a labelled clip, a second of it or what was rendered, are seen through a window of 56 x 56 pixels. It
moves evenly in a direction that the name of the clip decides (``pan``), or jumps around its middle from frame
to frame (``shake``); places are not whole pixels, and frames are interpolated between them. All training clips together
are the footage.
"""

import argparse
import math
import sys
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import torch
import torch.nn.functional as F
from still_parts import NUM_ACTION, action_of
from time_tasks import require_new
from torch import Tensor
from trials import TASK_FPS, write_table

import everest
from everest.errors import EverestError
from everest.training.progress import Progress
from everest.video.encode import encode_video

SIDE = 56  # pixels of the window
PAN, SHAKE = 2.0, 1.5  # pixels a frame; standard deviation of a place, in pixels


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


def render(data: Path, out: Path, tasks: Sequence[str]) -> dict[str, int]:
    """Write the clips of some tasks as a pan, a shake and a still camera show them."""
    footage, counts = [], {}
    for task in tasks:
        manifest = everest.load_data(data / "tasks" / task / "manifest.csv")
        for kind in ("still", "pan", "shake"):
            place = out / "tasks" / f"{task}-{kind}"
            place.mkdir(parents=True)
            rows = []
            with Progress(f"{task}, {kind}", len(manifest.records)) as progress:
                for number, record in enumerate(manifest.records):
                    moves = {"still": pan(0.0, number), "pan": pan(PAN, number), "shake": shake(SHAKE, number)}[kind]
                    frames = look_through(action_of(record.path, task), moves).round().clamp(0, 255).to(torch.uint8)
                    name, split = f"{number:05d}.mp4", record.split or "train"
                    rate = Fraction(round(TASK_FPS))
                    for _ in encode_video([frames], place / name, rate, keyframe_interval=1, crf=0):
                        pass
                    rows.append((name, manifest.class_names[record.label or 0], split))
                    if split == "train":
                        footage.append((str((place / name).resolve()), "train"))
                    progress.update(number + 1)
            write_table(place / "manifest.csv", ("path", "label", "split"), rows)
            counts[f"{task}-{kind}"] = len(rows)
    write_table(out / "footage" / "manifest.csv", ("path", "split"), footage)
    return counts


def main(words: Sequence[str] | None = None) -> int:
    """Make the data from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="the folder that prepare.py has made")
    parser.add_argument("--out", type=Path, required=True, help="a new folder")
    parser.add_argument("--tasks", nargs="+", help="(default: all but direction)")
    given = parser.parse_args(words)
    try:
        require_new(given.out)
        found = sorted(path.parent.name for path in (given.data / "tasks").glob("*/manifest.csv"))
        counts = render(given.data, given.out, given.tasks or [name for name in found if name != "direction"])
    except EverestError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for name, number in counts.items():
        print(f"{name:20} {number:6,}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
