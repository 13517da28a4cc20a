"""How long reading takes: seconds of each stage, and the time after which it is given up."""

import time
from dataclasses import dataclass

from everest.errors import VideoError
from everest.video.source import VideoSource


@dataclass
class ReadSeconds:
    """Seconds that a reader has spent so far.

    Attributes:
        open: Opening the file and decoding the frame that describes it.
        seek: Jumping, and reading packets, decoded or not.
        decode: Decoding.
        convert: Converting frames to RGB.
    """

    open: float = 0.0
    seek: float = 0.0
    decode: float = 0.0
    convert: float = 0.0


class Deadline:
    """The moment at which a reader gives up. Looking at the clock takes some 50 nanoseconds.

    Args:
        source: What is read, for the message.
        limit_seconds: From now on; None: never.
    """

    def __init__(self, source: VideoSource, limit_seconds: float | None) -> None:
        self._source, self._limit_seconds = source, limit_seconds
        self._end = float("inf") if limit_seconds is None else time.monotonic() + limit_seconds

    def check(self) -> None:
        """Give up if the time is over.

        Raises:
            VideoError: It is.
        """
        if time.monotonic() > self._end:
            raise VideoError(f"{self._source}: reading took longer than {self._limit_seconds:g} s and was stopped")
