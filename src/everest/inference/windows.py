"""Long videos by sliding windows: the spans of a video that are looked at one by one."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from everest.config import CheckpointInfo, num_sampled_frames
from everest.datasets import ClipRecord
from everest.datasets.spans import sampled_step
from everest.errors import ConfigError, VideoError
from everest.video.backends import open_video

MIN_SECONDS = 1e-3


@dataclass(frozen=True)
class Windows:
    """How a video is cut into spans.

    Attributes:
        window_seconds: Length of a span; None: the time of one clip of the model.
        hop_seconds: From the start of one span to that of the next; None: the length, so that they follow each other.
    """

    window_seconds: float | None = None
    hop_seconds: float | None = None

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value is not None and not (MIN_SECONDS <= value < math.inf):
                raise ConfigError(f"{name} must be {MIN_SECONDS} seconds or more, given: {value}")

    def cut(self, record: ClipRecord, info: CheckpointInfo) -> list[ClipRecord]:
        """Find the spans of a video or of a part of one.

        The last span ends where the video does, so it may overlap the one before by more than the others do; a video
        that is shorter than a span is one span.

        Args:
            record: A video, or a part of one.
            info: What the model takes: how long one of its clips is.

        Raises:
            VideoError: The video cannot be opened.
        """
        with open_video(record.source) as reader:
            seconds, fps = reader.info.duration_seconds, reader.info.fps
        first = record.start_seconds or 0.0
        last = seconds if record.end_seconds is None else min(record.end_seconds, seconds)
        window, hop = self.lengths(info, fps)
        return [replace(record, start_seconds=start, end_seconds=end) for start, end in spans(first, last, window, hop)]

    def lengths(self, info: CheckpointInfo, fps: float) -> tuple[float, float]:
        """Compute the length of a window and the time from one start to the next, in seconds.

        Args:
            info: What the model takes: how long one of its clips is.
            fps: Frames per second of the video.
        """
        num_frames = num_sampled_frames(info)
        own = num_frames * sampled_step(info.clip, num_frames, fps) / fps
        window = self.window_seconds or own
        return window, self.hop_seconds or window


def spans(first: float, last: float, window: float, hop: float) -> Iterator[tuple[float, float]]:
    """Give starts and ends of windows, in seconds.

    Args:
        first: Where the first one starts.
        last: Where the last one ends.
        window: Length of each.
        hop: From one start to the next.

    Raises:
        VideoError: Nothing lies between the two.
    """
    if last <= first:
        raise VideoError(f"there is nothing from {first:g} s to {last:g} s")
    number = 0
    while True:
        start = first + number * hop  # not added up: errors would grow
        if start + window >= last - MIN_SECONDS:
            yield max(first, min(start, last - window)), last  # no gap, even of a rounding error
            return
        yield start, start + window
        number += 1
