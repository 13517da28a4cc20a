"""One record to one clip of a shard: what a worker of ``pack.py`` does.

Shapes: C channels, T frames, H height, W width.
"""

import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import torch
from torch import Tensor

from everest.datasets.records import ClipRecord
from everest.datasets.spans import chunked, span_of
from everest.errors import ConfigError, VideoError
from everest.video.encode import encode_video, psnr
from everest.video.reader import VideoReader
from everest.video.sampling import dense_indices
from everest.video.transforms import resize

MIN_PSNR = 24.0  # decibel; below it the pictures are not those of the source
NUM_COMPARED = 3  # frames that are compared
NUM_TIMED, TIMED_STRIDE = 16, 4  # the clip that is read once from the source and once from what was written
MAX_DENOMINATOR = 100_000  # of the frame rate


@dataclass(frozen=True)
class PackSettings:
    """How clips are re-encoded.

    Attributes:
        short_side: Pixels of the shorter side afterwards; smaller videos keep their size.
        keyframe_interval: Frames from one key frame to the next.
        crf: Quality of x264, 0 to 51.
        clips_per_shard: Clips in a shard.
    """

    short_side: int = 256
    keyframe_interval: int = 12
    crf: int = 20
    clips_per_shard: int = 256

    def __post_init__(self) -> None:
        if min(self.short_side, self.keyframe_interval, self.clips_per_shard) < 1 or not 0 <= self.crf <= 51:
            raise ConfigError(f"{self}: sizes and numbers start at 1, and crf goes from 0 to 51")


@dataclass(frozen=True)
class PackTask:
    """A record and where its clip goes for the time being."""

    record: ClipRecord
    target: Path
    settings: PackSettings


@dataclass(frozen=True)
class PackedClip:
    """A clip that was written and read back.

    Attributes:
        path: Where it lies for the time being.
        num_frames: Number of frames.
        rate: Frames per second, as a fraction.
        height, width: Of its frames.
        source_bytes: Of the source; the part that the record takes of it, by time.
        seconds_before, seconds_after: To read 16 frames at stride 4 from the source, and from what was written.
        psnr: Of the frames that were compared, in decibel.
    """

    path: Path
    num_frames: int
    rate: str
    height: int
    width: int
    source_bytes: int
    seconds_before: float
    seconds_after: float
    psnr: float


def pack_clip(task: PackTask) -> Generator[None, None, PackedClip]:
    """Re-encode the clip of a record, and check it. Every ``yield`` says that it gets on.

    Raises:
        VideoError: The record cannot be read, or what was written is not what was read.
    """
    record, settings = task.record, task.settings
    with VideoReader(record.source) as reader:
        info = reader.info
        first, num_frames = span_of(record, info)
        size = _packed_size(info.height, info.width, settings.short_side)
        rate = Fraction(info.fps).limit_denominator(MAX_DENOMINATOR)
        compared = sorted({0, num_frames // 2, num_frames - 1})
        kept: dict[int, Tensor] = {}

        def read() -> Iterator[Tensor]:
            for indices in chunked(first, num_frames, info):
                frames = _scale(reader.read(indices).frames, *size)
                kept.update({i: frames[first + i - indices.start].clone() for i in compared if first + i in indices})
                yield frames

        options = {"keyframe_interval": settings.keyframe_interval, "crf": settings.crf}
        written = yield from encode_video(read(), task.target, rate, **options)
    source_bytes = task.record.path.stat().st_size if record.member is None else record.member.num_bytes
    share = num_frames / max(info.num_frames, num_frames)
    before = _time_a_clip(record.source, first, num_frames)
    with VideoReader(task.target) as packed:
        if written != num_frames or packed.info.num_frames != num_frames:
            raise VideoError(f"{record.path}: {num_frames} frames were read but {packed.info.num_frames} came back")
        found = packed.read(compared).frames
    likeness = psnr(found, torch.stack([kept[i] for i in compared]))
    if likeness < MIN_PSNR:
        raise VideoError(
            f"{record.path}: re-encoded pictures differ from the source: {likeness:.1f} dB, below {MIN_PSNR:g}; "
            f"crf is {settings.crf}, and a lower one keeps more"
        )
    after = _time_a_clip(task.target, 0, num_frames)
    numbers = (num_frames, str(rate), *size, round(source_bytes * share), before, after, min(likeness, 99.0))
    return PackedClip(task.target, *numbers)


def _packed_size(height: int, width: int, short_side: int) -> tuple[int, int]:
    """Scale to the short side, never up, both sides even as the codec needs them."""
    scale = min(short_side / min(height, width), 1.0)
    return max(round(height * scale / 2) * 2, 2), max(round(width * scale / 2) * 2, 2)


def _scale(frames: Tensor, height: int, width: int) -> Tensor:
    """Resize frames [T, H, W, C]."""
    scaled = resize(frames.permute(3, 0, 1, 2), height, width)  # [C,T,h,w]
    return scaled.permute(1, 2, 3, 0).contiguous()  # [T,h,w,C]


def _time_a_clip(source: object, first: int, num_frames: int) -> float:
    start = max(num_frames - 1 - (NUM_TIMED - 1) * TIMED_STRIDE, 0) // 2
    indices = [first + i for i in dense_indices(num_frames, NUM_TIMED, TIMED_STRIDE, start)]
    started = time.perf_counter()
    with VideoReader(source) as reader:  # type: ignore[arg-type]
        reader.read(indices)
    return time.perf_counter() - started
