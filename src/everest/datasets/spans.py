"""Records to decoded frames: the span of a record, and several clips of it in one pass over the file.

Shapes: C channels, T frames, H height, W width.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from everest.config import ClipConfig, Decoder
from everest.datasets.records import ClipRecord
from everest.errors import VideoError
from everest.video.backends import open_video
from everest.video.clip import Clip
from everest.video.reader import VideoInfo
from everest.video.sampling import frame_step

CHUNK_BYTES = 64 * 2**20  # decoded at once where a whole video is read

FramePlan = Callable[[int, float], list[list[int]]]  # (available frames, frames per second) -> indices of each clip


def sampled_step(clip: ClipConfig, num_sampled_frames: int, video_fps: float) -> float:
    """Video frames from one sampled frame to the next, so that all of them cover the time of ``clip.num_frames``."""
    return frame_step(clip.stride, clip.fps, video_fps) * clip.num_frames / num_sampled_frames


def span_of(record: ClipRecord, info: VideoInfo) -> tuple[int, int]:
    """Find the frames of a record.

    Args:
        record: May be limited in time.
        info: The opened video.

    Returns:
        The first frame index at or after the start, and the number of frames before the end, at least 1.

    Raises:
        VideoError: The record begins after the end of the video.
    """
    tolerance = 1e-6  # of a frame: 0.1 s at 30 fps is frame 3, although 0.1 * 30 > 3
    start = record.start_seconds or 0.0
    if start >= max(info.duration_seconds, info.num_frames / info.fps):
        raise VideoError(
            f"{record.path}: the clip begins at {start:g} s but the video lasts {info.duration_seconds:g} s"
        )
    first = min(math.ceil(start * info.fps - tolerance), info.num_frames - 1)
    last = info.num_frames
    if record.end_seconds is not None:
        last = min(math.ceil(record.end_seconds * info.fps - tolerance), last)
    return first, max(last - first, 1)


def read_span(
    record: ClipRecord, plan: FramePlan, *, decoder: Decoder = "auto", time_limit_seconds: float | None = None
) -> list[Tensor]:
    """Open a video once and read several clips of a record.

    Args:
        record: The video and its span.
        plan: Gives the indices of each clip, from 0 within the span.
        decoder: What reads the file.
        time_limit_seconds: Reading that takes longer is an error.

    Returns:
        Clips of shape [C, T, H, W], uint8.

    Raises:
        VideoError: The video cannot be read.
    """
    decoded, rows = read_frames(record, plan, decoder=decoder, time_limit_seconds=time_limit_seconds)
    # index_select copies whole frames; indexing with a list goes value by value, and takes 20 times as long
    return [decoded.frames.index_select(0, row).permute(3, 0, 1, 2) for row in rows]  # each [C,T,H,W]


def read_frames(
    record: ClipRecord, plan: FramePlan, *, decoder: Decoder = "auto", time_limit_seconds: float | None = None
) -> tuple[Clip, Tensor]:
    """Open a video once and read the frames of several clips, each frame once.

    Args:
        record: The video and its span.
        plan: Gives the indices of each clip, all of one length, from 0 within the span.
        decoder: What reads the file.
        time_limit_seconds: Reading that takes longer is an error.

    Returns:
        The distinct frames in the order of the video, and for each clip their rows, shape [clips, T], int64.

    Raises:
        VideoError: The video cannot be read.
    """
    with open_video(record.source, decoder, time_limit_seconds) as reader:
        first, num_available = span_of(record, reader.info)
        clips = plan(num_available, reader.info.fps)
        wanted = sorted({first + index for indices in clips for index in indices})
        decoded = reader.read(wanted)
    row_of = {index: row for row, index in enumerate(wanted)}
    return decoded, torch.tensor([[row_of[first + index] for index in indices] for indices in clips])


def chunked(first: int, num_frames: int, info: VideoInfo) -> list[range]:
    """Cut a span into runs of frames that take little memory when decoded."""
    size = max(1, CHUNK_BYTES // (3 * info.height * info.width))
    last = first + num_frames
    return [range(start, min(start + size, last)) for start in range(first, last, size)]
