"""What ``everest predict`` does with long videos and with streams."""

import json
import sys
from argparse import Namespace
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from everest.commands import EXIT_FAILURES, EXIT_OK, EXIT_UNUSABLE, print_result
from everest.errors import DataError, VideoError
from everest.links import append_text, write_new
from everest.texts import printable
from everest.video.source import say_location

if TYPE_CHECKING:
    from everest.config import EvaluationConfig
    from everest.datasets import ClipRecord
    from everest.inference import ClipPrediction, Predictor, Timeline


def asks_when(options: Namespace) -> bool:
    """Whether the question is what happens when, and not only what."""
    return any(value is not None for value in (options.window, options.hop, options.timelines)) or options.annotate


def predict_stream(options: Namespace, predictor: "Predictor", views: "EvaluationConfig") -> int:
    """Name what a camera or a broadcast shows, line by line, until it ends or somebody has seen enough."""
    from everest.inference.live import watch
    from everest.inference.timeline import Timeline
    from everest.inference.windows import Windows

    with ExitStack() as stack:
        file = None if options.out is None else stack.enter_context(append_text(options.out))
        seen: list[ClipPrediction] = []
        error: VideoError | None = None
        windows = Windows(options.window, options.hop)
        try:
            for window in watch(
                predictor, options.videos[0], windows, views=views, top=options.top, max_seconds=options.seconds
            ):
                seen.append(window)
                line = json.dumps(window.to_row())
                print(line if options.json else printable(_say_window(window)), flush=True)
                if file is not None:
                    file.write(f"{line}\n")
                    file.flush()
        except VideoError as broken:
            if not seen:
                raise
            error = broken
        finally:  # also when somebody has seen enough
            if seen and options.timelines is not None:
                timeline = Timeline(seen[0].source, tuple(seen))
                _write(options, timeline, None, options.timelines / "stream")
    if error is not None:
        print(printable(f"error: {error}"), file=sys.stderr)
    return EXIT_OK if error is None else EXIT_FAILURES


def tell_timelines(options: Namespace, timelines: "Sequence[Timeline]", near: "Sequence[ClipRecord | str]") -> int:
    """Write and print what happens when; gives the exit code.

    Args:
        options: Of the command.
        timelines: Of all videos.
        near: Where each of them is read, or why it cannot be.
    """
    if options.timelines is not None:
        names = _names([timeline.source for timeline in timelines])
        for name, timeline, record in zip(names, timelines, near, strict=True):
            if timeline.windows:
                _write(options, timeline, None if isinstance(record, str) else record, options.timelines / name)
    read = [timeline for timeline in timelines if timeline.windows]
    if read or options.json:
        lines = [line for timeline in read for line in _say(timeline)]
        print_result(options, [timeline.to_row() for timeline in timelines], "\n".join(map(printable, lines)))
    failures = [(timeline, failure) for timeline in timelines for failure in timeline.failures]
    for timeline, (start, end, why) in failures:
        span = "" if start is None else f" from {start:g} s to {end:g} s"
        print(printable(f"error: {say_location(timeline.source)}{span}: {why}"), file=sys.stderr)
    if not read:
        return EXIT_UNUSABLE
    return EXIT_FAILURES if failures else EXIT_OK


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


def _write(options: Namespace, timeline: "Timeline", record: "ClipRecord | None", place: Path) -> None:
    """Write what was found as JSON, as a picture and, where it was asked for, into a copy of the video."""
    from everest.training.progress import Progress
    from everest.video.reader import probe
    from everest.visualize.annotated import annotate_video
    from everest.visualize.timeline import draw_timeline, frames_over_time

    frames = [] if record is None else frames_over_time(timeline, record.source)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        write_new(place.with_name(f"{place.name}.json"), json.dumps(timeline.to_row(), indent=2) + "\n")
        write_new(place.with_name(f"{place.name}.png"), draw_timeline(timeline, frames))
        if options.annotate and record is not None:
            part = place.with_name(f"{place.name}.mp4.part")
            with Progress("writing frames", probe(record.source).num_frames) as progress:
                annotate_video(record.source, timeline, part, on_progress=lambda done, _: progress.update(done))
            part.replace(place.with_name(f"{place.name}.mp4"))
    except OSError as error:
        raise DataError(f"{place.parent}: cannot be written: {error.strerror}; name another folder") from None


def _say_window(window: "ClipPrediction") -> str:
    from everest.inference.timeline import say_time

    span = f"{say_time(window.start_seconds or 0.0)} - {say_time(window.end_seconds or 0.0)}"
    return f"{span}  " + ", ".join(f"{name} {share:.1%}" for name, share in window.classes)


def _say(timeline: "Timeline") -> list[str]:
    """Write a timeline for a person."""
    from everest.inference.timeline import say_time

    width = max(len(name) for name in timeline.class_names)
    lines = [f"{say_location(timeline.source)}: {len(timeline.windows)} windows in {say_time(timeline.seconds)}"]
    lines += [
        f"  {say_time(part.start_seconds):>9} - {say_time(part.end_seconds):>9}  "
        f"{part.name:<{width}}  {part.probability:6.1%}"
        for part in timeline.segments()
    ]
    return lines
