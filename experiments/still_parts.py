"""Put clips among still footage, so that two thirds of each video show nothing new.

    python experiments/still_parts.py runs/experiments/data --out runs/experiments/data-still-parts

Eight frames of a labelled clip, a second of it or what was rendered, are preceded and followed by real footage in which
next to nothing moves: the quietest stretches of all the footage, those of training for training, of testing
for testing. Where they meet there is a cut. A video is 24 frames; where in it the clip begins is drawn by its name.
"""

import argparse
import csv
import json
import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from lists import write_table
from time_tasks import BASE_FPS, TASKS, require_new
from torch import Tensor

import everest
from everest.errors import DataError, EverestError
from everest.links import write_new
from everest.training.progress import Progress
from everest.video import probe, read_clip, resize_short_side
from everest.video.encode import encode_video

NUM_ACTION, NUM_STILL = 8, 16  # frames of a video
PLACES = "places.json"
"""Task -> how many frames come before the clip, in each of its videos."""
LOOKED_AT = 72  # pixels of the short side, to see whether something moves
MOST_MOTION = 0.6  # mean difference of neighbouring frames of still footage, in grey levels 0 to 255


@dataclass(frozen=True)
class Still:
    """A stretch in which next to nothing moves: uint8, [16, H, W, C], and how much it does."""

    frames: Tensor
    motion: float


def quiet_parts(frames: Tensor, most: float = MOST_MOTION) -> list[Still]:
    """Find stretches of 16 frames that do not overlap in which the mean difference of neighbours is below a limit.

    Args:
        frames: uint8, shape [T, H, W, C]; large ones are looked at small, where their noise says nothing.
        most: The limit, in grey levels.
    """
    seen = frames
    if min(frames.shape[1:3]) > LOOKED_AT:
        seen = resize_short_side(frames.permute(3, 0, 1, 2), LOOKED_AT).permute(1, 2, 3, 0)  # [T, H, W, C]
    steps = (seen[1:].float() - seen[:-1].float()).abs().mean(dim=(1, 2, 3))  # [T - 1]
    found, start = [], 0
    while start + NUM_STILL <= len(frames):
        motion = float(steps[start : start + NUM_STILL - 1].mean())
        if motion < most:
            found.append(Still(frames[start : start + NUM_STILL].clone(), motion))  # not the whole video
        start += NUM_STILL if motion < most else 1
    return found


def put_among(action: Tensor, still: Tensor, place: int) -> Tensor:
    """Put a clip into still footage of its own size, after so many of its frames: [8, ...], [16, ...] to [24, ...]."""
    fitted = F.interpolate(
        still.permute(0, 3, 1, 2).float(), size=tuple(action.shape[1:3]), antialias=True, mode="bilinear"
    )
    quiet = fitted.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)
    return torch.cat([quiet[:place], action, quiet[place:]])


def action_of(path: Path, task: str) -> Tensor:
    """Take eight frames from the middle of a clip: of a task of time neighbours, else a second of it."""
    info = probe(path)
    step = 1.0 if task in TASKS else info.fps / (BASE_FPS / 2)
    first = max(0.0, (info.num_frames - NUM_ACTION * step) / 2)
    return read_clip(path, [min(info.num_frames - 1, int(first + n * step)) for n in range(NUM_ACTION)]).frames


def render(data: Path, out: Path, tasks: Sequence[str]) -> dict[str, int]:
    """Write the videos of some tasks, and all training clips together as footage."""
    bank: dict[str, list[Still]] = {"train": [], "test": []}
    for record in everest.load_data(data / "footage" / "manifest.csv").records:
        frames = read_clip(record.source, range(probe(record.source).num_frames)).frames
        bank[record.split or "train"] += quiet_parts(frames)
    if not all(bank.values()):
        raise DataError(f"{data}/footage: no still footage for {' or '.join(k for k, v in bank.items() if not v)}")
    footage, counts = [], {f"still, {split}": len(found) for split, found in bank.items()}
    places: dict[str, list[int]] = {task: [] for task in tasks}

    def put(task: str, number: int, split: str, action: Tensor) -> Tensor:
        draw = random.Random(f"{task}/{number}")  # noqa: S311 - not for secrets
        quiet, place = draw.choice(bank[split]).frames, draw.randint(0, NUM_STILL)
        places[task].append(place)
        return put_among(action, quiet, place)

    for task in tasks:
        rows = change_clips(data, task, out / "tasks" / task, partial(put, task))
        footage += rows
        counts[task] = len(rows)
    write_footage(out, footage)
    write_new(out / PLACES, json.dumps(places))
    return counts


def groups_of(manifest: Path) -> dict[str, str]:
    """Name the scene of each file of a list."""
    with manifest.open(newline="") as file:
        return {row["path"]: row["group"] for row in csv.DictReader(file)}


def change_clips(
    data: Path, task: str, place: Path, change: Callable[[int, str, Tensor], Tensor]
) -> list[tuple[str, str]]:
    """Write the clips of a task in another form, and their list.

    Args:
        data: Where the task is.
        task: Its name.
        place: A new folder.
        change: Takes number, split and eight frames of a clip, uint8 [8, H, W, C], and gives those to write.

    Returns:
        Path, as the list of footage beside all tasks has it, and split of every clip.
    """
    source = (data / "tasks" / task).resolve()
    manifest = everest.load_data(source / "manifest.csv")
    groups = groups_of(source / "manifest.csv")
    place.mkdir(parents=True)
    rows = []
    with Progress(place.name, len(manifest.records)) as progress:
        for number, record in enumerate(manifest.records):
            name, split = f"{number:05d}.mp4", record.split or "train"
            frames = change(number, split, action_of(record.path, task))
            for _ in encode_video([frames], place / name, Fraction(round(BASE_FPS)), keyframe_interval=1, crf=0):
                pass
            group = groups[str(record.path.relative_to(source))]
            rows.append((name, manifest.class_names[record.label or 0], split, group))
            progress.update(number + 1)
    write_table(place / "manifest.csv", ("path", "label", "split", "group"), rows)
    return [(f"../tasks/{place.name}/{name}", split) for name, _, split, _ in rows]


def write_footage(out: Path, clips: Sequence[tuple[str, str]]) -> None:
    """List all training clips together, without labels."""
    rows = [clip for clip in clips if clip[1] == "train"]
    write_table(out / "footage" / "manifest.csv", ("path", "split"), rows)


def command(
    text: str | None, render: Callable[[Path, Path, Sequence[str]], dict[str, int]], words: Sequence[str] | None
) -> int:
    """Make data out of other data from the command line."""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
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


def main(words: Sequence[str] | None = None) -> int:
    """Make the data from the command line."""
    return command(__doc__, render, words)


if __name__ == "__main__":
    raise SystemExit(main())
