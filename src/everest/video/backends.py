"""What reads the files: PyAV, or torchcodec where somebody asks for it.

Both give the same frames; ``docs/decisions/0012-decoding.md`` says what was measured.
"""

import functools
import logging
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from types import TracebackType
from typing import Protocol, Self

from everest.config import Decoder
from everest.errors import VideoError
from everest.video.clip import Clip
from everest.video.reader import VideoInfo, VideoReader
from everest.video.source import VideoSource
from everest.video.timing import ReadSeconds
from everest.video.torchcodec import TorchCodecReader, why_no_torchcodec

_LOG = logging.getLogger("everest")


class Reader(Protocol):
    """An open video; see :class:`VideoReader`."""

    path: VideoSource
    info: VideoInfo
    seconds: ReadSeconds

    def read(self, indices: Sequence[int]) -> Clip:
        """Read frames; see :meth:`VideoReader.read`."""

    def close(self) -> None:
        """Close the file. Closing twice is allowed."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def open_video(source: VideoSource, decoder: Decoder = "auto", time_limit_seconds: float | None = None) -> Reader:
    """Open a video.

    Args:
        source: The file, or the part of one.
        decoder: ``pyav`` or ``torchcodec``; ``auto`` is PyAV, which was measured to be as fast and is right on more
            files. torchcodec is given what it reads right: mp4, mov, mkv and webm of constant frame rate, with 8 bits
            for a colour and an even height and width.
        time_limit_seconds: From opening on; reading that takes longer is an error. None: no limit.

    Raises:
        VideoError: The file cannot be opened, or torchcodec was asked for and is not there.
    """
    if decoder == "torchcodec" and (problem := why_no_torchcodec()):
        raise VideoError(f"decoder torchcodec: {problem}; take decoder pyav, or install it")
    reader = VideoReader(source, time_limit_seconds=time_limit_seconds)
    if decoder != "torchcodec":
        return reader
    if not reader.is_regular:
        _say_once(
            "torchcodec reads mp4, mov, mkv and webm of constant frame rate, 8 bits and even size; "
            "other files are read by PyAV"
        )
        return reader
    stream_index = reader.stream_index
    reader.close()
    return TorchCodecReader(reader.info, stream_index=stream_index, time_limit_seconds=time_limit_seconds)


def describe_decoder(decoder: Decoder = "auto") -> str:
    """Say what reads the files, in one line."""
    name = "PyAV" if decoder != "torchcodec" else "torchcodec"
    package = {"PyAV": "av", "torchcodec": "torchcodec"}[name]
    try:
        return f"decoding with {name} {version(package)}"
    except PackageNotFoundError:
        return f"decoding with {name}"


@functools.cache
def _say_once(line: str) -> None:
    _LOG.warning(line)
