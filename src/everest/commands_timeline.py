"""What ``everest predict`` says of long videos, and writes about them."""

import json
import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING

from everest.commands import EXIT_FAILURES, EXIT_OK, EXIT_UNUSABLE, print_result
from everest.errors import DataError, VideoError
from everest.links import write_new
from everest.texts import printable
from everest.video.source import say_location

if TYPE_CHECKING:
    from everest.datasets import ClipRecord
    from everest.inference import Timeline
    from everest.inference.far_videos import Copies


def asks_when(options: Namespace) -> bool:
    """Whether the question is what happens when, and not only what."""
    return any(value is not None for value in (options.window, options.hop, options.timelines)) or options.annotate


def make_folder(folder: Path) -> None:
    """Make the folder of timelines and see that files can be written there, before the work whose results they hold.

    Raises:
        DataError: They cannot.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise DataError(_unusable(folder, error)) from None


def tell_timelines(
    options: Namespace, timelines: "Sequence[Timeline]", records: "Sequence[ClipRecord]", copies: "Copies"
) -> int:
    """Print what happens when, and draw it; gives the exit code.

    Args:
        options: Of the command.
        timelines: Of all videos.
        records: The videos.
        copies: Of those at URLs, for the pictures.
    """
    read = [timeline for timeline in timelines if timeline.windows]
    if read or options.json:
        lines = [line for timeline in read for line in _say(timeline)]
        print_result(options, [timeline.to_row() for timeline in timelines], "\n".join(map(printable, lines)))
        sys.stdout.flush()  # drawing takes long, and may be interrupted
    problems = [
        f"{say_location(timeline.source)}{'' if start is None else f' from {start:g} s to {end:g} s'}: {why}"
        for timeline in timelines
        for start, end, why in timeline.failures
    ]
    if options.timelines is not None:
        names = _names([timeline.source for timeline in timelines])
        for name, timeline, record in zip(names, timelines, records, strict=True):
            if timeline.windows:
                problems += _draw(timeline, record, options.timelines / name, copies, annotate=options.annotate)
    for problem in problems:
        print(printable(f"error: {problem}"), file=sys.stderr)
    if not read:
        return EXIT_UNUSABLE
    return EXIT_FAILURES if problems else EXIT_OK


def _names(sources: Sequence[Path]) -> list[str]:
    """Name what is written about each video, no two alike."""
    names: list[str] = []
    taken: set[str] = set()
    for source in sources:
        number, name = 1, source.stem
        while name.lower() in taken:
            number += 1
            name = f"{source.stem}-{number}"
        taken.add(name.lower())
        names.append(name)
    return names


def _draw(timeline: "Timeline", record: "ClipRecord", place: Path, copies: "Copies", *, annotate: bool) -> list[str]:
    """Write all about a video, which is copied once if it is at a URL; gives what went wrong."""
    name = say_location(timeline.source)
    _, near = copies.near(record)
    problems = [write_timeline(timeline, None if isinstance(near, str) else near, place)]
    if isinstance(near, str):
        problems.append(f"{name}: no frames in the picture: {near}")
    elif annotate:
        why = _annotate(timeline, near, place)
        problems.append(None if why is None else f"{name}: not annotated: {why}")
    return [problem for problem in problems if problem is not None]


def write_timeline(timeline: "Timeline", record: "ClipRecord | None", place: Path) -> str | None:
    """Write what was found as JSON and as a picture; gives what went wrong.

    Args:
        timeline: With at least one window.
        record: Where its frames are read; None: the picture has none.
        place: Of both files, without the endings.
    """
    from everest.visualize.timeline import draw_timeline, frames_over_time

    frames = [] if record is None else frames_over_time(timeline, record.source)
    try:
        write_new(place.with_name(f"{place.name}.json"), json.dumps(timeline.to_row(), indent=2) + "\n")
        write_new(place.with_name(f"{place.name}.png"), draw_timeline(timeline, frames))
    except OSError as error:
        return _unusable(place.parent, error)
    return None


def _annotate(timeline: "Timeline", record: "ClipRecord", place: Path) -> str | None:
    """Write the video again with its timeline; gives what went wrong."""
    from everest.training.progress import Progress
    from everest.video.reader import probe
    from everest.visualize.annotated import annotate_video

    part = place.with_name(f"{place.name}.mp4.part")
    try:
        with Progress("writing frames", probe(record.source).num_frames) as progress:
            annotate_video(record.source, timeline, part, on_progress=lambda done, _: progress.update(done))
        part.replace(place.with_name(f"{place.name}.mp4"))
    except OSError as error:
        return _unusable(place.parent, error)
    except VideoError as error:  # windows before and after a damaged place can be read, the whole cannot
        return str(error).removeprefix(f"{record.path}: ")
    finally:
        part.unlink(missing_ok=True)
    return None


def _unusable(folder: Path, error: OSError) -> str:
    return f"{folder}: cannot be written: {error.strerror or error}; name another folder"


def _say(timeline: "Timeline") -> list[str]:
    """Write a timeline for a person."""
    from everest.inference.timeline import say_time

    width = max(len(name) for name in timeline.class_names)
    span = f"from {say_time(timeline.start_seconds)} to {say_time(timeline.seconds)}"
    lines = [f"{say_location(timeline.source)}: {len(timeline.windows)} windows {span}"]
    lines += [
        f"  {say_time(part.start_seconds):>9} - {say_time(part.end_seconds):>9}  "
        f"{part.name:<{width}}  {part.probability:6.1%}"
        for part in timeline.segments()
    ]
    return lines
