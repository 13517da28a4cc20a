"""Clips whose label is a matter of time: played forwards or backwards; played at 1x, 2x or 4x.

    python experiments/time_tasks.py direction falls/segments.csv fights/labels.csv --out tasks/direction
    python experiments/time_tasks.py speed     falls/segments.csv fights/labels.csv --out tasks/speed --still

Every window of the footage gives one clip of each class, and the middle frame is the same picture in all of them: with
``--still``, where that frame fills the whole clip, the classes hold the same pictures, so nothing but luck is left to a
classifier. Clips are written without loss and with key frames only, at one rate and one length, so that no file says by
its form how it was played. What the compression of the footage itself tells of its direction stays; scaling it down
takes most of that.

Shapes: T frames, H height, W width, C channels.
"""

import argparse
import csv
import hashlib
import io
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import torch
from torch import Tensor

import everest
from everest.datasets import ClipRecord
from everest.errors import DataError, EverestError, VideoError
from everest.links import write_new
from everest.training.progress import Progress
from everest.video import probe, read_clip, resize_short_side, to_channels_first
from everest.video.encode import encode_video

BASE_FPS = 15.0  # frames a second at 1x; slower footage would repeat frames, which gives the speed away
TASKS: dict[str, dict[str, tuple[int, int]]] = {
    "direction": {"forwards": (1, 1), "backwards": (1, -1)},
    "speed": {"1x": (1, 1), "2x": (2, 1), "4x": (4, 1)},
}
"""Class -> how many times as fast, and in which direction."""


@dataclass(frozen=True)
class Window:
    """A stretch of a video that is shown in all ways.

    Attributes:
        record: The video, or the part of it that the window lies in.
        middle_seconds: The moment that all classes share.
        fps: Frames a second of the video.
    """

    record: ClipRecord
    middle_seconds: float
    fps: float


def require_new(folder: Path) -> None:
    """Refuse a folder in which there is something.

    Raises:
        DataError: There is.
    """
    if folder.exists() and any(folder.iterdir()):
        raise DataError(f"{folder}: holds files; give a new folder")


def scenes_of(given: str | Path) -> dict[str, str]:
    """Name the scene of each file, where a list says it (``group``): clips of one scene are not independent."""
    if not str(given).endswith(".csv"):
        return {}
    with Path(given).open(newline="") as file:
        rows = list(csv.DictReader(file))
    if not rows or "group" not in rows[0]:
        return {}
    column = next(name for name in rows[0] if name in {"path", "relative_path"})
    return {Path(row[column]).name: row["group"] for row in rows}


def source_of(given: str | Path) -> str:
    """Name a list by the folder it lies in, and a folder by itself: ``falls`` of ``falls/segments.csv``."""
    path = Path(given)
    return path.resolve().parent.name if path.suffix else path.name


def group_of(record: ClipRecord, scenes: Mapping[str, str], source: str) -> str:
    """Name the scene of a clip, or else its file, after where it is from: ``falls/0123abcd``."""
    return f"{source}/{hashlib.sha256(scenes.get(record.path.name, record.path.name).encode()).hexdigest()[:8]}"


def split_of(record: ClipRecord, group: str) -> str:
    """Give the split of the list; of footage without splits, a fifth of the groups, always the same, is for testing."""
    if record.split is not None:
        return "train" if record.split == "train" else "test"
    return "test" if bytes.fromhex(group.rpartition("/")[2])[0] < 256 // 5 else "train"


@dataclass(frozen=True)
class Shape:
    """Of the clips of a task.

    Attributes:
        num_frames: T.
        side: Pixels of the short side.
        still: All frames are the middle one.
        least_motion: Mean difference of neighbouring frames, in grey levels 0 to 255, from which on a window is taken:
            of what does not move nobody can tell how it was played.
    """

    num_frames: int = 8
    side: int = 72
    still: bool = False
    least_motion: float = 1.0


def windows_of(record: ClipRecord, length: float, most: int) -> list[Window]:
    """Cut a video into windows that do not overlap.

    Args:
        record: A video or a part of it.
        length: Seconds of each.
        most: Windows to take, spread over the video.

    Raises:
        VideoError: It cannot be read.
    """
    info = probe(record.source)
    if info.fps < 0.99 * BASE_FPS:  # some cameras say 14.985
        return []
    start = record.start_seconds or 0.0
    end = info.duration_seconds if record.end_seconds is None else min(record.end_seconds, info.duration_seconds)
    num = int((end - start) / length)
    chosen = sorted({number * num // min(num, most) for number in range(min(num, most))}) if num else []
    return [Window(record, start + (number + 0.5) * length, info.fps) for number in chosen]


def play(window: Window, way: tuple[int, int], shape: Shape) -> Tensor:
    """Read a window as one class shows it.

    Args:
        window: Which moments.
        way: How many times as fast, and in which direction.
        shape: Of the clip.

    Returns:
        uint8, shape [T, H, W, C], with even height and width.
    """
    speed, direction = way
    offsets = (torch.arange(shape.num_frames) - shape.num_frames // 2) * speed  # frame T // 2 is the middle of all
    # From the middle frame on, so that the steps between frames have the same pattern in every window.
    steps = [0 if shape.still else round(float(offset) * window.fps / BASE_FPS) for offset in offsets]
    middle = round(window.middle_seconds * window.fps)
    indices = [max(0, middle + step) for step in steps[::direction]]
    frames = resize_short_side(to_channels_first(read_clip(window.record.source, indices)), shape.side)  # [C,T,H,W]
    H, W = (size // 2 * 2 for size in frames.shape[-2:])
    return frames[..., :H, :W].permute(1, 2, 3, 0)  # [T,H,W,C]


def render(
    task: str, footage: Sequence[str | Path], out: Path, shape: Shape, *, most: int = 6
) -> Counter[tuple[str, str]]:
    """Write the clips of a task and their list, OUT/manifest.csv.

    Args:
        task: Of :data:`TASKS`.
        footage: Manifests or folders of videos.
        out: A new folder.
        shape: Of the clips.
        most: Windows of a video.

    Returns:
        Number of clips by split and class.

    Raises:
        DataError: The folder holds something, or nothing can be made of the footage.
    """
    require_new(out)
    for label in TASKS[task]:
        (out / label).mkdir(parents=True, exist_ok=True)
    length = ((shape.num_frames - 1) * max(speed for speed, _ in TASKS[task].values()) + 1) / BASE_FPS
    rows: list[tuple[str, ...]] = []
    records = [
        (record, group_of(record, scenes, source_of(given)))
        for given in footage
        for scenes in [scenes_of(given)]
        for record in everest.load_data(given).records
    ]
    with Progress("rendering", len(records)) as progress:
        for number, (record, group) in enumerate(records):
            try:
                more = (split_of(record, group), group)
                for place, window in enumerate(windows_of(record, length, most)):
                    rows += [(*row, *more) for row in _render(task, window, out, f"{number:05d}-{place}.mp4", shape)]
            except VideoError as error:
                print(f"left out: {error}", file=sys.stderr)
            progress.update(number + 1)
    if not rows:
        raise DataError(f"none of {len(records)} clips has {length:.2f} s at {BASE_FPS:.0f} frames a second or more")
    table = io.StringIO()
    csv.writer(table).writerows([("path", "label", "split", "group"), *rows])
    write_new(out / "manifest.csv", table.getvalue())
    return Counter((split, label) for _, label, split, _group in rows)


def _render(task: str, window: Window, out: Path, name: str, shape: Shape) -> list[tuple[str, str]]:
    """Write a window in all ways, or in none; gives paths and labels."""
    first = play(window, next(iter(TASKS[task].values())), replace(shape, still=False)).float()
    if (first[1:] - first[:-1]).abs().mean() < shape.least_motion:
        return []
    clips = {label: play(window, way, shape) for label, way in TASKS[task].items()}
    for label, frames in clips.items():
        for _ in encode_video([frames], out / label / name, Fraction(15), keyframe_interval=1, crf=0):
            pass
    return [(f"{label}/{name}", label) for label in clips]


def main(arguments: Sequence[str] | None = None) -> int:
    """Render a task from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=sorted(TASKS))
    parser.add_argument("footage", nargs="+", help="manifests or folders of videos; splits by scene are kept")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--frames", type=int, default=8, help="of a clip (default: 8)")
    parser.add_argument("--side", type=int, default=72, help="short side in pixels (default: 72)")
    parser.add_argument("--most", type=int, default=6, help="windows of a video (default: 6)")
    parser.add_argument("--still", action="store_true", help="fill each clip with its middle frame: the control")
    given = parser.parse_args(arguments)
    shape = Shape(given.frames, given.side, given.still)
    try:
        counts = render(given.task, given.footage, given.out, shape, most=given.most)
    except EverestError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for (split, label), number in sorted(counts.items()):
        print(f"{split:6} {label:10} {number:6,}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
