"""Open a video file and learn what its header says, without decoding anything."""

import errno
from abc import ABC, abstractmethod
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import av
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Disposition
from av.video.stream import VideoStream

from everest.errors import VideoError
from everest.video.protocols import ffmpeg_options
from everest.video.source import VideoSource, open_member
from everest.video.timing import Deadline

# Formats that hold pictures or text, which FFmpeg would decode as if they were videos.
_NOT_VIDEO = ("_pipe", "image2", "tty")
# Height times width that is read at most: a little over 8K. Damaged headers claim much more.
MAX_PIXELS = 8192 * 4608
CODEC_OPTIONS = {"max_pixels": str(MAX_PIXELS)}  # for pictures that are larger than the header says


def open_stream(path: VideoSource) -> tuple[InputContainer, VideoStream]:
    """Open a video and choose its first stream that is not a cover picture.

    Args:
        path: The file, or the part of one.

    Returns:
        The container, which the caller closes, and the stream, set to decode in the calling thread.

    Raises:
        VideoError: There is no such file, or it holds no moving picture.
    """
    if isinstance(path, Path):
        problem = "no such file" if not path.exists() else "is a folder" if path.is_dir() else ""
        problem = problem or ("" if path.is_file() else "is a pipe or device")  # opening one could wait for ever
        if problem:
            raise VideoError(f"{path}: {problem}; a video file is expected")
        if path.stat().st_size == 0:
            raise VideoError(f"{path}: the file is empty")
    # The prefix keeps a name such as "concat:x" from being taken for a network or list protocol.
    opened: Any = f"file:{path}" if isinstance(path, Path) else open_member(path)
    options = CODEC_OPTIONS | ffmpeg_options(is_file=isinstance(path, Path))
    try:
        container: InputContainer = av.open(opened, options=options, metadata_errors="ignore")
    except FFmpegError as error:
        hint = ", as of a playlist, which is not followed" if error.errno == errno.EINVAL else ""
        raise VideoError(f"{path}: not a readable video ({say_reason(error)}{hint})") from None
    return container, prepare_stream(container, path, "a video file is expected", refused=_NOT_VIDEO)


def prepare_stream(
    container: InputContainer, name: object, expected: str, *, refused: tuple[str, ...] = ()
) -> VideoStream:
    """Choose the first stream that is not a cover picture, and set it to decode in the calling thread.

    Args:
        container: Closed where an error is raised.
        name: Of what was opened, for the message.
        expected: End of the message.
        refused: Endings of the names of formats that are not taken.

    Raises:
        VideoError: There is none, or none that can be decoded.
    """
    try:
        return _prepare(container, refused)
    except BaseException as error:
        container.close()
        if isinstance(error, VideoError):
            raise VideoError(f"{name}: {error}; {expected}") from None
        raise


def _prepare(container: InputContainer, refused: tuple[str, ...]) -> VideoStream:
    streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not streams or container.format.name.endswith(refused):
        raise VideoError("holds no moving picture")
    stream, context = streams[0], streams[0].codec_context
    if context is None:
        raise VideoError("its codec is unknown")
    if context.width * context.height > MAX_PIXELS:  # memory may not be enough, so before any is taken
        raise VideoError(f"claims pictures of {context.height} x {context.width} pixels")
    # More threads are not safe beside worker processes, and cost more than they gain on small pictures.
    stream.thread_type = "NONE"
    context.thread_count = 1
    context.options = dict(CODEC_OPTIONS)
    return stream


def packets_of(container: InputContainer, stream: VideoStream) -> Iterator[Any]:
    """Read packets to the end of the file; an empty one stands at the end.

    Raises:
        FFmpegError: Reading breaks off.
    """
    try:
        yield from container.demux(stream)
    except IndexError:  # PyAV 18.1 stumbles, after the last packet, over other streams that began in the middle
        return


def count_pictures(path: VideoSource, deadline: Deadline | None = None) -> tuple[int, float | None]:
    """Count the pictures of a file whose header does not tell their number or duration; nothing is decoded.

    Args:
        path: The file. It is read to its end.
        deadline: Looked at with every packet; None: no limit.

    Returns:
        Number of packets that hold a picture, and the span of their time stamps in seconds (None without any).
    """
    container, stream = open_stream(path)
    stamps: list[int] = []
    num_packets = 0
    with container:
        try:
            for packet in packets_of(container, stream):
                if deadline is not None:
                    deadline.check()
                num_packets += packet.size > 0
                stamps += [] if packet.pts is None else [packet.pts]
        except FFmpegError as error:
            raise VideoError(f"{path}: reading breaks off after {num_packets} packets: {say_reason(error)}") from None
        span = float((max(stamps) - min(stamps)) * (stream.time_base or 0)) if stamps else None
    return num_packets, span


def frame_rate(stream: VideoStream, path: VideoSource) -> Fraction:
    """Read the average frame rate.

    Where the container does not tell it, the pictures may; what FFmpeg guesses from the first time stamps is twice as
    much for MPEG-1 in a transport stream.
    """
    rate = stream.average_rate or stream.codec_context.framerate or stream.guessed_rate
    if not rate:
        raise VideoError(f"{path}: the file states no frame rate; convert it to mp4 first")
    return Fraction(rate)


def say_reason(error: FFmpegError) -> str:
    """Say in a few words what FFmpeg did not like."""
    return (error.strerror or type(error).__name__).rstrip(".").lower()


class Closing(ABC):
    """What can be closed, and is at the end of a ``with`` statement."""

    @abstractmethod
    def close(self) -> None:
        """Close it. Closing twice is allowed."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
