"""Video that comes as it is shown: cameras, broadcasts, playlists. Nobody can jump in it, and nobody knows its end.

Shapes: T frames, H height, W width, C channels (always 3, RGB).
"""

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Self

import av
import numpy as np
import torch
from av.container import InputContainer
from av.error import FFmpegError
from torch import Tensor

from everest.errors import VideoError
from everest.video.opening import CODEC_OPTIONS, Closing, prepare_stream, say_reason
from everest.video.protocols import BROADCASTS, live_options
from everest.video.source import is_url
from everest.video.urls import Url, address_of, hide_secrets

_CAMERA_FORMAT = "video4linux2"
_PLAYLISTS = (".m3u8", ".mpd")
_GUESSED_FPS = 25.0
_MAX_GAP_SECONDS = 10.0  # a larger step of the time stamps is a new start of the sender's clock


@dataclass(frozen=True)
class LiveFrame:
    """One frame as it came.

    Attributes:
        seconds: Since the first frame of the stream.
        frame: As decoded: neither converted nor turned.
        size: Height and width of the stream's first frame; a sender may change them on the way.
    """

    seconds: float
    frame: Any
    size: tuple[int, int]

    def pixels(self) -> Tensor:
        """Convert it to RGB of the stream's size and turn it upright, shape [H, W, C], uint8."""
        height, width = self.size
        array = self.frame.to_ndarray(format="rgb24", height=height, width=width, threads=1)  # [H,W,C]
        turns = round(getattr(self.frame, "rotation", 0) / 90) % 4
        return torch.from_numpy(np.rot90(array, turns).copy())


def is_live(location: str) -> bool:
    """Whether something is a camera, a broadcast or a playlist at a URL, and not a file."""
    scheme, mark, rest = location.partition("://")
    if mark:
        is_playlist = rest.partition("?")[0].lower().endswith(_PLAYLISTS)
        return scheme.lower() in BROADCASTS or (scheme.lower() in {"http", "https"} and is_playlist)
    return _is_camera(location)


def is_pushed(location: str) -> bool:
    """Whether a live source goes on while nobody reads, so that what was not read in time is lost."""
    return location.partition("://")[0].lower() in BROADCASTS or _is_camera(location)


def expect_live(location: str) -> None:
    """Refuse what is there and is a file or folder.

    Raises:
        VideoError: It is neither a camera nor at a URL.
    """
    path = Path(location)
    try:
        is_no_device = not is_url(location) and path.exists() and not path.is_char_device()
    except (OSError, ValueError):  # no path at all: opening it says why
        return
    if is_no_device:
        raise VideoError(f"{location}: is neither a camera nor at a URL; a file is read without --live")


class LiveStream(Closing):
    """An open stream. Use it in a ``with`` statement, and iterate over its frames once.

    Args:
        location: A URL of ``rtsp``, ``rtmp``, ``rtp``, ``udp``, ``tcp`` or ``srt``; that of a playlist (``.m3u8``,
            ``.mpd``); or a camera such as ``/dev/video0``.
        timeout_seconds: How long the sender may say nothing.

    Attributes:
        name: The source as it may be shown, without passwords.
        fps: Frames per second that it claims; 25 where it claims nothing that can be.

    Raises:
        VideoError: It cannot be opened, or holds no moving picture.
    """

    def __init__(self, location: str, *, timeout_seconds: float = 20.0) -> None:
        self.name = str(Url(location)) if is_url(location) else location
        self._container = self._open(location, timeout_seconds)
        stream: Any = prepare_stream(self._container, self.name, "a stream of video is expected")
        rate = stream.average_rate or stream.guessed_rate or stream.base_rate
        self.fps = float(rate) if rate and 1 <= rate <= 1000 else _GUESSED_FPS
        self._stream = stream

    def _open(self, location: str, timeout_seconds: float) -> InputContainer:
        expect_live(location)
        is_camera = not is_url(location)
        try:
            return av.open(
                address_of(location),
                format=_CAMERA_FORMAT if is_camera else None,
                options=CODEC_OPTIONS | ({} if is_camera else live_options(location)),
                timeout=timeout_seconds,
                metadata_errors="ignore",
            )
        except (FFmpegError, OSError, ValueError) as error:
            raise VideoError(f"{self.name}: cannot be opened: {_say(error)}") from None

    def __iter__(self) -> Iterator[LiveFrame]:
        """Decode frame after frame, as they come.

        Raises:
            VideoError: The stream broke off; a sender that ends it well ends the iteration.
        """
        clock, size = _Clock(1 / self.fps), None
        try:
            for frame in self._container.decode(self._stream):
                stamp = frame.pts if frame.pts is not None else frame.dts
                base = frame.time_base or self._stream.time_base or Fraction(0)
                size = size or (frame.height, frame.width)
                yield LiveFrame(clock.place(None if stamp is None else float(stamp * base)), frame, size)
        except (FFmpegError, OSError) as error:
            raise VideoError(f"{self.name}: broke off: {_say(error)}") from None

    def close(self) -> None:
        """Close it. Closing twice is allowed."""
        self._container.close()

    def __enter__(self) -> Self:
        return self

    def __repr__(self) -> str:
        return f"LiveStream({self.name!r}, {self.fps:.2f} fps)"


class _Clock:
    """Turns the sender's time stamps into seconds since the first frame that never fall or leap.

    Args:
        step: Seconds to the next frame where the stamps do not tell.
    """

    def __init__(self, step: float) -> None:
        self._step, self._offset = step, 0.0
        self._last: float | None = None

    def place(self, stamp: float | None) -> float:
        """Place a frame with its time stamp in seconds, None where it has none."""
        if self._last is None:
            self._offset = stamp or 0.0
            self._last = 0.0
            return 0.0
        seconds = None if stamp is None else stamp - self._offset
        if seconds is None or not self._last < seconds < self._last + _MAX_GAP_SECONDS:
            seconds = self._last + self._step
            self._offset = self._offset if stamp is None else stamp - seconds
        self._last = seconds
        return seconds


def _say(error: Exception) -> str:
    reason = say_reason(error) if isinstance(error, FFmpegError) else str(error)
    return hide_secrets(reason)


@functools.cache
def _is_camera(location: str) -> bool:
    try:
        return Path(location).is_char_device() and Path(location).name.startswith("video")
    except (OSError, ValueError):
        return False
