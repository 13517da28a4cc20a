"""Clips whose label is a matter of time: played forwards or backwards; played at 1x, 2x or 4x.

    python experiments/time_tasks.py direction falls/segments.csv fights/labels.csv --out tasks/direction
    python experiments/time_tasks.py speed     falls/segments.csv fights/labels.csv --out tasks/speed --still

Every window of the footage gives one clip of each class, and frame T // 2 is the same picture in all of them. With
``--still`` each clip is filled with one of its own frames, drawn at random: what is right there more often than by
chance was told by pictures. Clips are written without loss and with key frames only, at one rate and one length, so
that no file says by its form how it was played. Nor does the order in which frames were taken: steps between them are
whole frames of the footage and equal within a clip, none is taken twice, and where a window lies is drawn at random, so
that the key frames of the footage have no fixed place in a class, as far as the video has room. What else its
compression tells of direction and speed stays; scaling it down takes most of that, and ``simple.py`` measures the rest.

Shapes: T frames, H height, W width, C channels.
"""

import argparse
import csv
import hashlib
import io
import math
import re
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

from torch import Tensor

import everest
from everest.datasets import ClipRecord
from everest.errors import DataError, EverestError, VideoError
from everest.links import write_new
from everest.training.progress import Progress
from everest.video import probe, read_clip, resize_short_side, to_channels_first
from everest.video.encode import encode_video

BASE_FPS = 15.0  # frames a second at 1x, or what comes nearest by leaving out frames
LEAST_BASE, MOST_BASE = 0.79 * BASE_FPS, 1.21 * BASE_FPS  # 24 and 25 frames a second give 12 and 12.5, 18 stays 18
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
        first: The first frame of the fastest class, counted from the start of the file.
        step: Frames of the video from one to the next of a clip at 1x.
    """

    record: ClipRecord
    first: int
    step: int


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
    name = scenes.get(record.path.name) or scene_in(record.path.name)
    return scene_name(source, name)


def scene_name(source: str, name: str) -> str:
    """Name a scene after where it is from, without telling a person's or a file's name."""
    return f"{source}/{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def scene_in(name: str) -> str:
    """Take the scene out of a name as UCF101 gives it (``v_Class_g01_c02.avi``) or HMDB51 (FILM_class_..._3.avi).

    Other names are scenes of their own.
    """
    if found := re.fullmatch(r"v_(\w+_g\d{2})_c\d{2}\.\w+", name):
        return found[1]
    if found := re.fullmatch(r"(.+)_[a-z_]+_[a-z]_(cm|nm)_np\d_(fr|ba|le|ri)_(bad|med|goo)_\d+\.\w+", name):
        return found[1]
    return name


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
        still: All frames are one of them, drawn at random.
        least_motion: Mean difference of neighbouring frames, in grey levels 0 to 255, from which on a window is taken:
            of what does not move nobody can tell how it was played.
    """

    num_frames: int = 8
    side: int = 72
    still: bool = False
    least_motion: float = 1.0


def windows_of(record: ClipRecord, num_steps: int, most: int) -> list[Window]:
    """Cut a video into windows that do not overlap, each at a random place of its part of the video.

    Args:
        record: A video or a part of it.
        num_steps: From the first to the last frame of a window, of 1x.
        most: Windows to take, spread over the video.

    Returns:
        None of a video that is too short, or has frames at a rate from which that of 1x cannot be made.

    Raises:
        VideoError: It cannot be read.
    """
    info = probe(record.source)
    step = max(1, round(info.fps / BASE_FPS))
    if not LEAST_BASE <= info.fps / step <= MOST_BASE:
        return []
    start = math.ceil((record.start_seconds or 0.0) * info.fps)
    end = info.num_frames if record.end_seconds is None else min(info.num_frames, int(record.end_seconds * info.fps))
    length = num_steps * step + 1
    num = min(most, (end - start) // length)
    cuts = [start + (end - start) * part // num for part in range(num + 1)] if num > 0 else []
    return [
        Window(record, cut + draw(next_cut - cut - length + 1, record.path.name, cut), step)
        for cut, next_cut in pairwise(cuts)
    ]


def draw(num: int, *names: object) -> int:
    """Draw a number below ``num`` that is always the same for these names."""
    return int.from_bytes(hashlib.sha256(repr(names).encode()).digest()[:8]) % num


def places(window: Window, way: tuple[int, int], num_frames: int, fastest: int) -> list[int]:
    """Say which frames of the video a class shows, in its order.

    Args:
        window: Which moments.
        way: How many times as fast, and in which direction.
        num_frames: T.
        fastest: How many times as fast the fastest class is; all share frame T // 2 of it.
    """
    speed, direction = way
    middle = window.first + num_frames // 2 * fastest * window.step
    return [middle + (frame - num_frames // 2) * speed * window.step for frame in range(num_frames)][::direction]


def play(window: Window, way: tuple[int, int], shape: Shape, fastest: int) -> Tensor:
    """Read a window as one class shows it.

    Args:
        window: Which moments.
        way: How many times as fast, and in which direction.
        shape: Of the clip.
        fastest: How many times as fast the fastest class is.

    Returns:
        uint8, shape [T, H, W, C], with even height and width.
    """
    indices = places(window, way, shape.num_frames, fastest)
    if shape.still:
        indices = [indices[draw(shape.num_frames, window.record.path.name, window.first, way)]] * shape.num_frames
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
    num_steps = (shape.num_frames - 1) * _fastest(task)
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
                for place, window in enumerate(windows_of(record, num_steps, most)):
                    rows += [(*row, *more) for row in _render(task, window, out, f"{number:05d}-{place}.mp4", shape)]
            except VideoError as error:
                print(f"left out: {error}", file=sys.stderr)
            progress.update(number + 1)
    if not rows:
        seconds = (num_steps + 1) / BASE_FPS
        raise DataError(f"none of {len(records)} clips has {seconds:.2f} s at about {BASE_FPS:.0f} frames a second")
    table = io.StringIO()
    csv.writer(table).writerows([("path", "label", "split", "group"), *rows])
    write_new(out / "manifest.csv", table.getvalue())
    return Counter((split, label) for _, label, split, _group in rows)


def _render(task: str, window: Window, out: Path, name: str, shape: Shape) -> list[tuple[str, str]]:
    """Write a window in all ways, or in none; gives paths and labels."""
    fastest = _fastest(task)
    first = play(window, next(iter(TASKS[task].values())), replace(shape, still=False), fastest).float()
    if (first[1:] - first[:-1]).abs().mean() < shape.least_motion:
        return []
    clips = {label: play(window, way, shape, fastest) for label, way in TASKS[task].items()}
    for label, frames in clips.items():
        for _ in encode_video([frames], out / label / name, Fraction(15), keyframe_interval=1, crf=0):
            pass
    return [(f"{label}/{name}", label) for label in clips]


def _fastest(task: str) -> int:
    return max(speed for speed, _ in TASKS[task].values())


def main(arguments: Sequence[str] | None = None) -> int:
    """Render a task from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=sorted(TASKS))
    parser.add_argument("footage", nargs="+", help="manifests or folders of videos; splits by scene are kept")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--frames", type=int, default=8, help="of a clip (default: 8)")
    parser.add_argument("--side", type=int, default=72, help="short side in pixels (default: 72)")
    parser.add_argument("--most", type=int, default=6, help="windows of a video (default: 6)")
    parser.add_argument("--still", action="store_true", help="fill each clip with one of its frames: the control")
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
