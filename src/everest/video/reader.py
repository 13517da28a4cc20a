"""Read chosen frames of a video file.

Frames are named by their index on a constant time grid: index i is the frame shown i/fps seconds after the first one.
In a file of constant frame rate that is frame i, exactly; where the rate varies, equal steps of the index are still
equal steps in time.

Shapes: T frames, H height, W width, C channels (always 3, RGB).
"""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from av.error import FFmpegError
from torch import Tensor

from everest.errors import VideoError
from everest.video.clip import Clip
from everest.video.decoding import FrameStream, PlacedFrame
from everest.video.opening import Closing, count_pictures
from everest.video.source import VideoSource
from everest.video.timing import ReadSeconds

# How far before or after its grid position a frame may be shown, in grid steps: half a step means the nearest frame;
# with variable frame rate the frame on show counts, and the margin only absorbs time stamps rounded to milliseconds.
_CONSTANT_MARGIN = 0.5
_VARIABLE_MARGIN = 0.1
# Containers round durations, so the grid may end this many positions after the last frame.
_MAX_OVERSHOOT = 2
# A container's own duration covers the sound as well, which may last longer than the pictures.
_MAX_OVERSHOOT_SECONDS = 0.25


@dataclass(frozen=True)
class VideoInfo:
    """What the header and the first frame of a video say.

    Attributes:
        path: The file.
        num_frames: Number of positions on the grid, at least 1. Equal to the number of frames where the frame rate
            is constant.
        fps: Positions per second: the average frame rate.
        duration_seconds: Time from the start of the first frame to the end of the last.
        height: Height in pixels of an upright frame.
        width: Width in pixels of an upright frame.
        codec: FFmpeg's name of the decoder.
        rotation_degrees: Counter-clockwise turn (0, 90, 180 or 270) that makes the stored frames upright;
            :meth:`VideoReader.read` has applied it.
    """

    path: VideoSource
    num_frames: int
    fps: float
    duration_seconds: float
    height: int
    width: int
    codec: str
    rotation_degrees: int


class VideoReader(Closing):
    """An open video file. Use it in a ``with`` statement.

    Reading decodes the span that holds the wanted frames and no more: it jumps to the key frame before a wanted frame
    when that saves work, and decodes on from where it stands when it does not. Files that cannot be jumped in are
    decoded from the start.

    Args:
        path: The file, or the part of one.
        time_limit_seconds: From opening on; reading that takes longer is an error. None: no limit.

    Attributes:
        path: The file.
        info: Size, length and frame rate.
        seconds: Where the time went.

    Raises:
        VideoError: The file is missing, empty, not a video, or its first frame cannot be decoded.
    """

    def __init__(self, path: str | VideoSource, *, time_limit_seconds: float | None = None) -> None:
        started = time.perf_counter()
        self.path = Path(path) if isinstance(path, str) else path
        self.seconds = ReadSeconds()
        self._stream = FrameStream(self.path, time_limit_seconds)
        try:
            self.info, self._max_overshoot = _describe(self._stream)
        except BaseException:
            self.close()
            raise
        self.seconds.open = time.perf_counter() - started

    @property
    def num_decoded(self) -> int:
        """Frames decoded so far, including those passed on the way to a wanted one."""
        return self._stream.num_decoded

    @property
    def stream_index(self) -> int:
        """Which stream of the file is read, the first moving picture that is no cover."""
        return self._stream.stream.index

    @property
    def is_regular(self) -> bool:
        """Whether every decoder gives the same frames, to the bit.

        They find the same ones where the frame rate is constant and the container keeps good times, and turn them into
        the same RGB where no colour has to be guessed between more than 8 bits or at an odd edge.
        """
        return self._stream.is_constant and self._stream.has_good_times and self._stream.has_plain_pixels

    def read(self, indices: Sequence[int]) -> Clip:
        """Read frames.

        Args:
            indices: Grid positions, 0 to ``info.num_frames - 1``, in any order; a repeated one is decoded once.

        Returns:
            The frames in the order of the indices, upright.

        Raises:
            VideoError: An index is out of range, or a frame that the header promised cannot be decoded.
        """
        wanted = sorted(set(indices))
        if not wanted:
            raise VideoError(f"{self.path}: no frame index was given; at least one is needed")
        for index in (wanted[0], wanted[-1]):
            if not 0 <= index < self.info.num_frames:
                raise VideoError(
                    f"{self.path}: frame index {index} is out of range; "
                    f"the video has indices 0 to {self.info.num_frames - 1}"
                )
        started, before = time.perf_counter(), replace(self.seconds)
        distinct = torch.empty(len(wanted), self.info.height, self.info.width, 3, dtype=torch.uint8)  # [T,H,W,C]
        seconds = torch.empty(len(wanted), dtype=torch.float64)
        shown: PlacedFrame | None = None
        for row, frame in enumerate(self._find_all(wanted)):
            if frame is shown:  # one long frame fills several positions of the grid
                distinct[row], seconds[row] = distinct[row - 1], seconds[row - 1]
            else:
                distinct[row] = self._upright(frame)
                seconds[row] = frame.position / self.info.fps
            shown = frame
        self.seconds.seek = self._stream.seek_seconds
        passed = time.perf_counter() - started
        self.seconds.decode += passed - (self.seconds.seek - before.seek) - (self.seconds.convert - before.convert)
        if list(indices) == wanted:
            return Clip(distinct, seconds, self.path)
        rows = {index: row for row, index in enumerate(wanted)}
        order = torch.tensor([rows[index] for index in indices])
        return Clip(distinct[order], seconds[order], self.path)

    def _find_all(self, wanted: Sequence[int]) -> Iterator[PlacedFrame]:
        """Decode the frames that are shown at grid positions, in rising order."""
        span = wanted[-1] - wanted[0] + 1
        found = self._stream.pick([self._latest(index) for index in wanted]) if len(wanted) < span or span < 2 else None
        if found is not None:
            yield from found
            return
        for index in wanted:
            yield self._find(index)

    def _latest(self, index: int) -> float:
        """Compute until when the frame of a grid position may begin to be shown."""
        return index + (_CONSTANT_MARGIN if self._stream.is_constant else _VARIABLE_MARGIN)

    def _find(self, index: int) -> PlacedFrame:
        """Decode up to the frame that is shown at a grid position."""
        stream = self._stream
        latest = self._latest(index)
        stream.go_near(latest)
        while stream.upcoming is not None and stream.upcoming.position <= latest:
            stream.advance()
        if stream.upcoming is None:
            last = math.floor(stream.current_end - 0.5)  # with variable frame rate the last may be on show for long
            if index - last > (0 if stream.failure else self._max_overshoot):
                if stream.jump_no_more():
                    return self._find(index)
                raise VideoError(
                    f"{self.path}: frame index {index} of {self.info.num_frames} was asked for, but decoding ends "
                    f"after {last} ({stream.failure or 'end of file'}); repair the file or leave it out"
                )
        return stream.current

    def _upright(self, placed: PlacedFrame) -> Tensor:
        """Convert a frame to RGB and turn it upright."""
        started = time.perf_counter()
        turned = self.info.rotation_degrees % 180 != 0
        height, width = (self.info.width, self.info.height) if turned else (self.info.height, self.info.width)
        try:
            # The size matters in files that change it on the way; otherwise it is the frame's own.
            # One thread: a frame keeps its converter, and threads of a converter do not survive the fork of a worker,
            # which then waits for ever when it frees a frame of its parent.
            pixels = placed.frame.to_ndarray(format="rgb24", width=width, height=height, threads=1)  # [H,W,C]
        except (FFmpegError, ValueError) as error:
            raise VideoError(f"{self.path}: a frame cannot be converted to RGB: {error}") from None
        upright = torch.from_numpy(np.rot90(pixels, self.info.rotation_degrees // 90).copy())
        self.seconds.convert += time.perf_counter() - started
        return upright

    def close(self) -> None:
        """Close the file. Closing twice is allowed."""
        self._stream.close()

    def __repr__(self) -> str:
        info = self.info
        return (
            f"VideoReader({self.path.name!r}, {info.num_frames} frames, {info.height}x{info.width}, "
            f"{info.fps:.2f} fps, {info.codec})"
        )


def probe(path: str | VideoSource) -> VideoInfo:
    """Look at a video without reading more than its header and first frames.

    Args:
        path: The file.

    Raises:
        VideoError: As :class:`VideoReader`.
    """
    with VideoReader(path) as reader:
        return reader.info


def read_clip(path: str | VideoSource, indices: Sequence[int]) -> Clip:
    """Open a video, read frames, and close it.

    Args:
        path: The file.
        indices: Grid positions; see :meth:`VideoReader.read`.

    Raises:
        VideoError: As :class:`VideoReader` and :meth:`VideoReader.read`.
    """
    with VideoReader(path) as reader:
        return reader.read(indices)


def _describe(frames: FrameStream) -> tuple[VideoInfo, int]:
    """Build the description of an open file, and tell how far its grid may overshoot."""
    num_frames, duration, is_exact = _measure(frames)
    frame = frames.current.frame
    rotation = round(getattr(frame, "rotation", 0) / 90) * 90 % 360
    height, width = (frame.width, frame.height) if rotation % 180 else (frame.height, frame.width)
    codec = frames.stream.codec_context.name
    info = VideoInfo(frames.path, num_frames, frames.fps, duration, height, width, codec, rotation)
    overshoot = _MAX_OVERSHOOT if is_exact else max(_MAX_OVERSHOOT, round(_MAX_OVERSHOOT_SECONDS * frames.fps))
    return info, overshoot


def _measure(frames: FrameStream) -> tuple[int, float, bool]:
    """Find the length of a video.

    Returns:
        Number of grid positions, seconds, and whether that is the length of the pictures themselves.
    """
    stream = frames.stream
    if frames.num_positions is not None:  # pictures that nothing can decode may be among those that were counted
        return max(frames.num_positions, 1), max(frames.num_positions, 1) / frames.fps, False
    seconds: float | None = None
    is_exact = True
    if stream.duration and stream.time_base:
        seconds = float(stream.duration * stream.time_base)
    elif "DURATION" in stream.metadata:  # Matroska keeps the length of each stream in a tag
        seconds = _parse_duration(stream.metadata["DURATION"])
    if not seconds and frames.container_seconds:
        seconds, is_exact = frames.container_seconds, False
    if seconds:
        expected = round(seconds * frames.fps)
        # The number in the header counts where the duration agrees with it: not in a file that was cut off.
        is_plausible = stream.frames > 0 and abs(stream.frames - expected) <= _MAX_OVERSHOOT
        return max(stream.frames if is_plausible else expected, 1), seconds, is_exact
    num_packets, span = count_pictures(frames.path)
    num_frames = num_packets if span is None else math.floor(span * frames.fps + 0.5) + 1
    return max(num_frames, 1), max(num_frames, 1) / frames.fps, True


def _parse_duration(text: str) -> float | None:
    """Read ``HH:MM:SS.fraction``; None where it is something else."""
    try:
        hours, minutes, seconds = text.split(":")
        return float(int(hours) * 3600 + int(minutes) * 60 + Fraction(seconds))
    except ValueError:
        return None
