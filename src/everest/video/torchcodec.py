"""The second way to read videos: torchcodec, which needs FFmpeg on the system and is therefore optional.

Shapes: T frames, H height, W width, C channels (always 3, RGB).
"""

import functools
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from everest.errors import VideoError
from everest.video.clip import Clip
from everest.video.opening import Closing
from everest.video.reader import VideoInfo
from everest.video.source import open_member
from everest.video.timing import Deadline, ReadSeconds

# The frame that is on show so far into a grid position is the one that begins there, however stamps are rounded.
_INTO = 0.5


@functools.cache
def why_no_torchcodec() -> str:
    """Say why torchcodec cannot be used; empty where it can."""
    try:
        import torchcodec.decoders  # noqa: F401
    except ImportError as error:
        return f"torchcodec is not installed ({error})"
    except (RuntimeError, OSError) as error:  # its libraries look for those of FFmpeg when they are loaded
        return f"torchcodec cannot be loaded ({str(error).strip().splitlines()[0]}); it needs FFmpeg on the system"
    return ""


class TorchCodecReader(Closing):
    """An open video file, with the meaning of :class:`~everest.video.VideoReader`.

    The whole file is scanned when it is opened, without decoding: without that, torchcodec guesses where frames are.

    Args:
        info: The file, as :class:`~everest.video.VideoReader` describes it; of constant frame rate.
        stream_index: Which stream of the file that is; torchcodec would choose the one with the largest pictures.
        time_limit_seconds: From opening on; looked at after each call of torchcodec only.

    Attributes:
        path: The file.
        info: Size, length and frame rate.
        seconds: Where the time went; torchcodec does not tell jumps and conversion from decoding.

    Raises:
        VideoError: torchcodec cannot open the file.
    """

    def __init__(self, info: VideoInfo, *, stream_index: int, time_limit_seconds: float | None = None) -> None:
        import torchcodec.decoders as untyped

        decoders: Any = untyped
        started = time.perf_counter()
        self.path, self.info = info.path, info
        self.seconds = ReadSeconds()
        self._deadline = Deadline(self.path, time_limit_seconds)
        content: Any = str(self.path) if isinstance(self.path, Path) else open_member(self.path).getvalue()
        try:
            self._decoder: Any = decoders.VideoDecoder(
                content, stream_index=stream_index, dimension_order="NHWC", num_ffmpeg_threads=1, seek_mode="exact"
            )
            self._begin = float(self._decoder.metadata.begin_stream_seconds)
        except (RuntimeError, ValueError, TypeError) as error:
            raise VideoError(f"{self.path}: torchcodec cannot open the file ({_first_line(error)})") from None
        self._deadline.check()
        self.seconds.open = time.perf_counter() - started

    def read(self, indices: Sequence[int]) -> Clip:
        """Read frames.

        Args:
            indices: Grid positions, 0 to ``info.num_frames - 1``, in any order.

        Returns:
            The frames in the order of the indices, upright.

        Raises:
            VideoError: An index is out of range, or a frame cannot be decoded.
        """
        if not len(indices) or not 0 <= min(indices) <= max(indices) < self.info.num_frames:
            given = f"{min(indices)} to {max(indices)}" if len(indices) else "none"
            last = self.info.num_frames - 1
            raise VideoError(f"{self.path}: frame indices {given} were asked for; the video has 0 to {last}")
        started = time.perf_counter()
        end = float(self._decoder.metadata.end_stream_seconds) - _INTO / self.info.fps
        times = [min(self._begin + (index + _INTO) / self.info.fps, end) for index in indices]
        try:
            batch = self._decoder.get_frames_played_at(times)
        except (RuntimeError, ValueError, IndexError) as error:
            raise VideoError(f"{self.path}: frames cannot be decoded ({_first_line(error)})") from None
        self._deadline.check()
        self.seconds.decode += time.perf_counter() - started
        return Clip(batch.data, batch.pts_seconds.to(torch.float64) - self._begin, self.path)

    def close(self) -> None:
        """Close the file. Closing twice is allowed."""
        self._decoder = None


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
