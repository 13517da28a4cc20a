"""Make the data of all experiments, once: footage without labels, labelled tasks, and tasks whose labels are time.

    python experiments/prepare.py --out runs/experiments/data \
        --footage falls/segments.csv fights/labels.csv clips/clips.csv \
        --labelled falls=falls/windows.csv fights=fights/labels.csv

Without ``--footage`` and ``--labelled`` the bundled clips are taken. Everything is re-encoded small: reading it then
costs little. OUT gets ``footage/``, the tasks under ``tasks/``, and under ``controls/`` the same with every clip filled
with one of its own frames.
"""

import argparse
import csv
import io
import sys
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import time_tasks
from torch import Tensor

import everest
from everest.datasets import ClipRecord
from everest.errors import EverestError
from everest.links import write_new
from everest.training.progress import Progress
from everest.video import probe, read_clip, resize_short_side, to_channels_first
from everest.video.encode import encode_video

TOGETHER = 32  # frames that are in memory at once


def copy_small(data: Sequence[str], out: Path, side: int, *, labelled: bool, still: bool = False) -> int:
    """Write clips with a short side of so many pixels, and their list, OUT/manifest.csv.

    Args:
        data: Lists or folders of what is copied; of those with a start and an end, what lies between.
        out: A new folder.
        side: Pixels.
        labelled: Write the labels too.
        still: Fill each clip with one of its frames, drawn at random: the control.

    Returns:
        Number of clips. Files that cannot be read are named and left out.
    """
    out.mkdir(parents=True)
    records = [
        (record, manifest.class_names, time_tasks.group_of(record, scenes, time_tasks.source_of(given)))
        for given in data
        for manifest, scenes in [(everest.load_data(given), time_tasks.scenes_of(given))]
        for record in manifest.records
    ]
    rows = [("path", "split", *(("label", "group") if labelled else ()))]
    with Progress(f"copying {out.name}", len(records)) as progress:
        for number, (record, names, group) in enumerate(records):
            try:
                _copy(record, out / f"{number:05d}.mp4", side, still=still)
            except EverestError as error:
                print(f"left out: {error}", file=sys.stderr)
            else:
                label = "" if record.label is None else names[record.label]
                more = (label, group) if labelled else ()
                rows.append((f"{number:05d}.mp4", time_tasks.split_of(record, group), *more))
            progress.update(number + 1)
    table = io.StringIO()
    csv.writer(table).writerows(rows)
    write_new(out / "manifest.csv", table.getvalue())
    return len(rows) - 1


def _copy(record: ClipRecord, target: Path, side: int, *, still: bool) -> None:
    info = probe(record.source)
    start = min(round((record.start_seconds or 0.0) * info.fps), info.num_frames - 1)
    end = info.num_frames if record.end_seconds is None else min(info.num_frames, round(record.end_seconds * info.fps))
    moments: Sequence[int] = range(start, max(end, start + 1))
    if still:
        moments = [moments[time_tasks.draw(len(moments), record.path.name, start)]] * len(moments)
    parts = (_read(record, moments[place : place + TOGETHER], side) for place in range(0, len(moments), TOGETHER))
    for _ in encode_video(parts, target, Fraction(info.fps).limit_denominator(1000), keyframe_interval=12, crf=10):
        pass


def _read(record: ClipRecord, moments: Sequence[int], side: int) -> Tensor:
    """Read frames small: uint8, [T, H, W, C] with even height and width."""
    frames = resize_short_side(to_channels_first(read_clip(record.source, moments)), side)  # [C, T, H, W]
    H, W = (size // 2 * 2 for size in frames.shape[-2:])
    return frames[..., :H, :W].permute(1, 2, 3, 0)  # [T, H, W, C]


def main(words: Sequence[str] | None = None) -> int:
    """Make the data from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--footage", nargs="+", default=["bundled"], help="lists or folders; splits by scene are kept")
    parser.add_argument("--labelled", nargs="*", default=["falls=bundled"], help="NAME=LIST with labels and splits")
    parser.add_argument("--out", type=Path, required=True, help="a new folder")
    parser.add_argument("--side", type=int, default=72, help="short side in pixels (default: 72)")
    parser.add_argument("--frames", type=int, default=8, help="of a clip of the tasks of time (default: 8)")
    parser.add_argument("--most", type=int, default=6, help="windows of a video (default: 6)")
    given = parser.parse_args(words)
    try:
        time_tasks.require_new(given.out)
        counts = {"footage": copy_small(given.footage, given.out / "footage", given.side, labelled=False)}
        for named in given.labelled:
            name, _, source = named.partition("=")
            for folder, still in (("tasks", False), ("controls", True)):
                made = copy_small([source], given.out / folder / name, given.side, labelled=True, still=still)
                counts[f"{folder}/{name}"] = made
        for task in time_tasks.TASKS:
            for folder, still in (("tasks", False), ("controls", True)):
                shape = time_tasks.Shape(given.frames, given.side, still)
                rendered = time_tasks.render(task, given.footage, given.out / folder / task, shape, most=given.most)
                counts[f"{folder}/{task}"] = rendered.total()
    except EverestError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for name, number in counts.items():
        print(f"{name:20} {number:6,} clips")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
