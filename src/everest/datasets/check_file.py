"""Check one file: how it is stored, and whether every clip of it can be decoded."""

from collections import Counter
from collections.abc import Generator, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from statistics import median

from av.error import FFmpegError

from everest.datasets.check_rows import CheckRow, Span
from everest.datasets.records import ClipRecord
from everest.datasets.spans import CHUNK_BYTES, span_of
from everest.errors import RemoteError, VideoError
from everest.video.backends import Reader, open_video
from everest.video.opening import open_stream, packets_of
from everest.video.reader import VideoInfo
from everest.video.source import VideoSource

NUM_LISTED = 3  # spans that a fault names
CLIP_FRAMES, CLIP_STRIDE = 16, 4  # the clip of most recipes; shorter videos get a warning
MAX_REPEAT = 100  # positions of the time grid that are read for each picture
_PACKETS_AT_ONCE = 10_000  # that are counted in a step
_RATE_TOLERANCE = 0.1  # of a frame's time: containers round

# FFmpeg's names of containers -> the extensions that go with them
_EXTENSIONS = {
    "mov": {"mp4", "m4v", "mov", "3gp"},
    "matroska": {"mkv", "webm"},
    "avi": {"avi"},
    "mpegts": {"ts", "m2ts", "mts"},
    "mpeg": {"mpeg", "mpg", "vob"},
    "mpegvideo": {"mpeg", "mpg"},
    "gif": {"gif"},
    "flv": {"flv"},
    "asf": {"wmv"},
    "ogg": {"ogv"},
}


@dataclass(frozen=True)
class CheckTask:
    """A file to check; ``asked`` has what is known without opening it."""

    source: VideoSource
    asked: CheckRow


def check_file(task: CheckTask) -> Generator[None, None, CheckRow]:
    """Check one file; every ``yield`` says that it gets on."""
    row = task.asked
    try:
        num_pictures, row = yield from _survey(task.source, row)
        with open_video(task.source) as reader:
            info = reader.info
            row = replace(
                row,
                num_frames=info.num_frames,
                fps=info.fps,
                duration_seconds=info.duration_seconds,
                height=info.height,
                width=info.width,
                codec=info.codec,
                rotation_degrees=info.rotation_degrees,
            )
            faults = yield from _decode(reader, task, num_pictures)
    except VideoError as error:
        is_passing = isinstance(error, RemoteError) and error.is_passing
        return replace(row, fault=_reason(error, task), faulty_spans=row.spans, was_stopped=is_passing)
    row = replace(row, warnings=(*row.warnings, *_warnings(row, info)))
    if not faults:
        return row
    return replace(row, fault=_combine(faults, row), faulty_spans=tuple(faults))


def _survey(source: VideoSource, row: CheckRow) -> Generator[None, None, tuple[int | None, CheckRow]]:
    """Read how a file is stored; where it is used as a whole, count its pictures and look at their times."""
    container, stream = open_stream(source)
    with container:
        name = container.format.name.split(",")[0]
        row = replace(row, container=name, pixel_format=stream.codec_context.pix_fmt or "")
        if (None, None) not in row.spans:
            return None, row
        num_pictures, stamps = 0, []
        with suppress(FFmpegError):  # whether that matters is found out by decoding
            for number, packet in enumerate(packets_of(container, stream)):
                stamp = packet.dts if name == "avi" else packet.pts
                num_pictures += packet.size > 0
                stamps += [] if stamp is None or not packet.size else [stamp]
                if number % _PACKETS_AT_ONCE == _PACKETS_AT_ONCE - 1:
                    yield
        promised = stream.frames
        tick = float(stream.time_base or 0)
    row = replace(row, is_constant_rate=_is_constant(stamps, tick) if len(stamps) == num_pictures else None)
    if num_pictures < promised:
        row = replace(row, warnings=(f"the header promises {promised} frames, the file holds {num_pictures}",))
    return num_pictures, row


def _is_constant(stamps: list[int], tick: float) -> bool:
    """Whether times are equally far apart, but for rounding; without a unit nothing can be rounded."""
    ordered = sorted(stamps)
    steps = [b - a for a, b in pairwise(ordered)]
    if not steps:
        return True
    usual = median(steps)
    rounding = min(1.5, 0.3 * usual) if tick else 0.0
    return max(abs(step - usual) for step in steps) <= max(_RATE_TOLERANCE * usual, rounding)


def _decode(reader: Reader, task: CheckTask, num_pictures: int | None) -> Generator[None, None, dict[Span, str]]:
    """Read all clips of a file, what they share once, and say what is wrong with which of them."""
    faults: dict[Span, str] = {}
    frames_of: dict[Span, range] = {}
    for span in task.asked.spans:
        try:
            first, num_frames = span_of(_record(task.asked.path, span), reader.info)
            frames_of[span] = range(first, first + num_frames)
        except VideoError as error:
            faults[span] = _reason(error, task)
    broken = []
    for run in _merge(frames_of.values()):
        # A header that lets a few pictures last for hours would have the same ones read for ever.
        step = 1 if num_pictures is None else max(1, len(run) // (MAX_REPEAT * max(1, num_pictures)))
        for indices in _chunks(run, step, reader.info):
            yield
            try:
                reader.read(indices)
            except VideoError as error:
                if len(frames_of) == 1:
                    return {**faults, next(iter(frames_of)): _reason(error, task)}
                broken.append(indices)
    for span, frames in frames_of.items():
        if any(indices.start < frames.stop and frames.start < indices.stop for indices in broken):
            try:
                for indices in _chunks(frames, 1, reader.info):
                    yield
                    reader.read(indices)
            except VideoError as error:
                faults[span] = _reason(error, task)
    return faults


def _merge(spans: Iterable[range]) -> list[range]:
    """Join spans that overlap or touch, in rising order."""
    runs: list[range] = []
    for span in sorted(spans, key=lambda span: span.start):
        if runs and span.start <= runs[-1].stop:
            runs[-1] = range(runs[-1].start, max(runs[-1].stop, span.stop))
        else:
            runs.append(span)
    return runs


def _chunks(frames: range, step: int, info: VideoInfo) -> Iterator[range]:
    """Cut a span into runs of frames that take little memory when decoded."""
    size = step * max(1, CHUNK_BYTES // (3 * info.height * info.width))
    for start in range(frames.start, frames.stop, size):
        yield range(start, min(start + size, frames.stop), step)


def _warnings(row: CheckRow, info: VideoInfo) -> Iterator[str]:
    """Say what is odd about a file that can be opened."""
    extension = row.path.suffix.lower().removeprefix(".")
    usual = _EXTENSIONS.get(row.container)
    if usual is not None and extension not in usual:
        yield f"the container is {row.container}, not what the extension {extension!r} says"
    ends = (info.duration_seconds, info.num_frames / info.fps)
    late = [span for span in row.spans if span[1] is not None and span[1] > max(ends) + 1 / info.fps]
    if late:
        yield f"clips end after the video does, at {info.duration_seconds:g} s: {_listed(late)}"
    needed = (CLIP_FRAMES - 1) * CLIP_STRIDE + 1
    lengths = [(row.duration_seconds if end is None else end) - (start or 0.0) for start, end in row.spans]
    if min(row.num_frames, round(min(lengths) * row.fps)) < needed:
        yield f"shorter than a clip of {CLIP_FRAMES} frames at stride {CLIP_STRIDE}"


def _combine(faults: dict[Span, str], row: CheckRow) -> str:
    """Make one line of what is wrong with the clips of a file."""
    (reason, number), *others = Counter(faults.values()).most_common()
    if len(row.spans) == 1:
        return reason
    named = [span for span in faults if faults[span] == reason]
    more = f"; and {len(faults) - number} with other faults" if others else ""
    return f"{len(faults)} of {len(row.spans)} clips: {reason} ({_listed(named)}){more}"


def _listed(spans: list[Span]) -> str:
    texts = [f"{start or 0:g}-{'end' if end is None else f'{end:g} s'}" for start, end in spans[:NUM_LISTED]]
    return ", ".join(texts) + (f" and {len(spans) - NUM_LISTED} more" if len(spans) > NUM_LISTED else "")


def _record(path: Path, span: Span) -> ClipRecord:
    return ClipRecord(path, start_seconds=span[0], end_seconds=span[1])


def _reason(error: VideoError, task: CheckTask) -> str:
    return str(error).removeprefix(f"{task.source}: ").removeprefix(f"{task.asked.path}: ")
