"""Look at every video before training does: decode it fully and say what is wrong with it."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from everest.datasets.records import ClipRecord, Manifest
from everest.datasets.spans import chunked, span_of
from everest.datasets.workers import resolve_num_workers
from everest.errors import VideoError
from everest.video.reader import VideoInfo, VideoReader

NUM_LISTED = 3  # spans that a fault names


@dataclass(frozen=True)
class CheckRow:
    """What one file is, and what is wrong with it. Numbers are 0 where the file cannot be opened.

    Attributes:
        path: The file.
        num_frames: Number of frames.
        fps: Frames per second.
        duration_seconds: Length in seconds.
        height: Height in pixels, upright.
        width: Width in pixels, upright.
        codec: Name of the codec.
        rotation_degrees: How far frames are turned to be upright.
        fault: What is wrong, in one line; None where nothing is.
    """

    path: Path
    num_frames: int = 0
    fps: float = 0.0
    duration_seconds: float = 0.0
    height: int = 0
    width: int = 0
    codec: str = ""
    rotation_degrees: int = 0
    fault: str | None = None


def check_manifest(
    manifest: Manifest, num_workers: int = -1, on_progress: Callable[[int, int], None] | None = None
) -> list[CheckRow]:
    """Open and fully decode every file of a manifest.

    Args:
        manifest: The clips; a file that holds several of them is decoded once.
        num_workers: Files that are decoded at a time; -1 takes one per spare core.
        on_progress: Called with the number of finished files and the number of all.

    Returns:
        One row per distinct file, in the order of the manifest.
    """
    records_of: dict[Path, list[ClipRecord]] = {}
    for record in manifest.records:
        records_of.setdefault(record.path, []).append(record)
    rows = []
    # Threads are enough: decoding does not hold the interpreter's lock.
    with ThreadPoolExecutor(max(1, resolve_num_workers(num_workers))) as pool:
        for row in pool.map(_check_file, records_of.values()):
            rows.append(row)
            if on_progress is not None:
                on_progress(len(rows), len(records_of))
    return rows


def _check_file(records: list[ClipRecord]) -> CheckRow:
    path = records[0].path
    row = CheckRow(path)
    try:
        with VideoReader(records[0].source) as reader:
            info = reader.info
            row = CheckRow(
                path,
                info.num_frames,
                info.fps,
                info.duration_seconds,
                info.height,
                info.width,
                info.codec,
                info.rotation_degrees,
            )
            for indices in chunked(0, info.num_frames, info):
                reader.read(indices)
    except VideoError as error:
        return replace(row, fault=str(error).removeprefix(f"{path}: "))
    return replace(row, fault=_span_fault(records, info))


def _span_fault(records: list[ClipRecord], info: VideoInfo) -> str | None:
    """Name the spans that do not lie in the video; one frame too many at the end is let pass."""
    end = max(info.duration_seconds, info.num_frames / info.fps) + 1 / info.fps
    wrong = []
    for record in records:
        try:
            span_of(record, info)
        except VideoError:
            wrong.append(record)
            continue
        if record.end_seconds is not None and record.end_seconds > end:
            wrong.append(record)
    if not wrong:
        return None
    spans = ", ".join(f"{r.start_seconds or 0:g}-{_end_text(r)}" for r in wrong[:NUM_LISTED])
    more = f" and {len(wrong) - NUM_LISTED} more" if len(wrong) > NUM_LISTED else ""
    return f"clips reach beyond the end at {info.duration_seconds:g} s: {spans}{more}"


def _end_text(record: ClipRecord) -> str:
    return "end" if record.end_seconds is None else f"{record.end_seconds:g} s"
