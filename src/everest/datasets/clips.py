"""Records to clips: decoding, sampling and augmentation, once per video.

Shapes: R clips of one video, S segments, V views, F distinct frames, C channels, T frames, H height, W width.
"""

import hashlib
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from everest.config import AugmentConfig, ClipConfig, Decoder, EvaluationConfig
from everest.datasets.flow_files import MotionReader
from everest.datasets.handover import Places
from everest.datasets.pool import Lost, run_parallel
from everest.datasets.records import ClipRecord
from everest.datasets.spans import FramePlan, chunked, read_frames, read_span, sampled_step, span_of
from everest.datasets.store import bring
from everest.datasets.watch import Watch, Watched
from everest.errors import DataError, UnreadableError, VideoError
from everest.video.augment import ClipChanges, change_clip, draw_box, draw_changes, take_box
from everest.video.backends import open_video
from everest.video.sampling import dense_indices, random_start, segment_indices, view_starts
from everest.video.transforms import resize_short_side, resize_to_cover, to_channels_first, view_crops

CACHE_MARGIN = 1.15  # short side of cached frames, relative to the clip: room for crops that are not the whole

SampleKey = tuple[int, int, int]
"""Epoch, position in the epoch, number of the record."""


@dataclass(frozen=True, eq=False, repr=False)
class Sample:
    """Training clips of one video.

    Attributes:
        clips: R augmented clips, each of shape [C, T, H, W], uint8.
        label: Class index; -1 where there is none.
        record_index: The record that was read: not the one asked for where that one cannot be read.
        failures: Path and reason of every file that could not be read on the way.
        changes: What is left to do to the pixels of each clip on the device; empty where nothing is.
        motion: Where the points of each clip's tokens go, [N', J] each; empty where nobody asked.
    """

    clips: tuple[Tensor, ...]
    label: int
    record_index: int
    failures: tuple[tuple[str, str], ...] = ()
    changes: tuple[ClipChanges, ...] = ()
    motion: tuple[Tensor, ...] = ()

    @property
    def frames(self) -> Tensor:
        """The clips as one tensor, shape [R, C, T, H, W]."""
        return stack_clips(self.clips)

    def __repr__(self) -> str:
        return (
            f"Sample({len(self.clips)} x {list(self.clips[0].shape)}, label {self.label}, record {self.record_index}, "
            f"{len(self.failures)} failures)"
        )


@dataclass(frozen=True, eq=False, repr=False)
class Views:
    """All views of one video for evaluation, each frame kept once: views overlap in time and in space.

    Attributes:
        scaled: The frames of all segments, scaled so that a crop fits in, shape [C, F, h, w], uint8. F is 0 where the
            video cannot be read.
        rows: The frames of each segment, shape [S, T], int64.
        crop_size: Height and width of a crop.
        num_crops: Crops of each segment.
        label: Class index; -1 where there is none.
        record_index: The record.
        error: Why the video cannot be read; None where it can.
    """

    scaled: Tensor
    rows: Tensor
    crop_size: tuple[int, int]
    num_crops: int
    label: int
    record_index: int
    error: str | None = None

    @property
    def num_views(self) -> int:
        """Number of views, V; 0 where the video cannot be read."""
        return len(self.rows) * self.num_crops

    @property
    def frames(self) -> Tensor:
        """The views as one tensor, shape [V, C, T, H, W]; the crops of the first segment come first."""
        views = self.scaled.new_empty(self.num_views, self.scaled.shape[0], self.rows.shape[1], *self.crop_size)
        for place, view in zip(views, self.unbind(), strict=True):  # half the time of stacking views that overlap
            place.copy_(view)
        return views  # [V,C,T,H,W]

    def unbind(self) -> Iterator[Tensor]:
        """Give the views one by one, each of shape [C, T, H, W]; the crops of a segment share memory."""
        for rows in self.rows:
            segment = self.scaled.index_select(1, rows)  # [C,T,h,w]
            yield from view_crops(segment, *self.crop_size, self.num_crops)  # each [C,T,H,W]

    def to(self, device: torch.device) -> "Views":
        """Move the frames to a device."""
        scaled, rows = (tensor.to(device, non_blocking=True) for tensor in (self.scaled, self.rows))
        return replace(self, scaled=scaled, rows=rows)

    def pin_memory(self) -> "Views":
        """Move the frames to pinned memory."""
        return replace(self, scaled=self.scaled.pin_memory(), rows=self.rows.pin_memory())

    def __repr__(self) -> str:
        shape = [self.num_views, self.scaled.shape[0], self.rows.shape[1], *self.crop_size]
        fate = "" if self.error is None else f", error {self.error!r}"
        return f"Views({shape}, label {self.label}, record {self.record_index}{fate})"


class TrainClips(Dataset[Sample]):
    """Random clips of videos for training.

    An item is asked for by (epoch, position in the epoch, record index). Its randomness comes from these numbers and
    the seed alone, so it does not matter which process prepares it. A video that cannot be read is replaced
    by the next record and reported in the sample.

    Args:
        records: The clips to draw from.
        clip: Length, size and sampling.
        augment: Random changes.
        num_sampled_frames: Frames per clip where frames are chosen later; they cover the same time as
            ``clip.num_frames``, more densely. None: ``clip.num_frames``.
        clips_per_video: Clips taken from each opened video, R (repeated augmentation).
        same_frames: They show the same frames; False: each begins at a time of its own.
        seed: Base of all randomness.
        memory_cache: Keep the decoded frames of every record, shrunk to what training needs.
        decoder: What reads the files.
        time_limit_seconds: A video that takes longer counts as one that cannot be read.
        change_later: Crop, resize and flip only, and say in the sample what else was drawn, for a GPU to do it.
        max_failures: An item gives up after so many videos that cannot be read, one after the other; None: after all.
        motion: Gives samples their trajectories; None: they have none.

    Raises:
        DataError: There are no records; or, on access, an item gives up.
    """

    def __init__(
        self,
        records: Sequence[ClipRecord],
        clip: ClipConfig,
        augment: AugmentConfig,
        *,
        num_sampled_frames: int | None = None,
        clips_per_video: int = 1,
        same_frames: bool = False,
        seed: int = 0,
        memory_cache: bool = False,
        decoder: Decoder = "auto",
        time_limit_seconds: float = 60.0,
        change_later: bool = False,
        max_failures: int | None = None,
        motion: MotionReader | None = None,
    ) -> None:
        if not records:
            raise DataError("no clips to train on; at least one is needed")
        self.records = tuple(records)
        self.clip = clip
        self.augment = augment
        self.num_sampled_frames = num_sampled_frames or clip.num_frames
        self.clips_per_video = clips_per_video
        self.same_frames = same_frames
        self.seed = seed
        self.memory_cache = memory_cache
        self.decoder: Decoder = decoder
        self.time_limit_seconds = time_limit_seconds
        self.change_later = change_later
        self.max_failures = len(records) if max_failures is None else max_failures
        self.motion = motion
        self.watch: Watch | None = None
        self._unreadable: dict[int, str] = {}
        self._cache: dict[int, tuple[Tensor, float] | str] = {}  # frames [T,H,W,C] and rate, or what is wrong

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, key: SampleKey) -> Sample:
        epoch, position, wanted = key
        failures: dict[str, str] = {}
        for offset in range(len(self.records)):
            index = (wanted + offset) % len(self.records)
            record = self.records[index]
            try:
                with reading(self, index, self._unreadable):
                    clips, changes, motion = self._clips(index, epoch, position)
            except VideoError as error:
                failures[str(record.source)] = _reason(error, record)
                if len(failures) > self.max_failures:  # as when the disk or the server is gone
                    break
                continue
            label = -1 if record.label is None else record.label
            return Sample(clips, label, index, tuple(failures.items()), changes, motion)
        path, reason = next(iter(failures.items()))
        raise UnreadableError(
            f"none of the {len(failures)} videos can be read; the first one: {path}: {reason}", failures
        )

    def mark_unreadable(self, record_index: int, reason: str) -> None:
        """Treat a record as one that cannot be read, for this reason, from now on."""
        self._unreadable[record_index] = reason

    def preload(self, num_workers: int = 1) -> None:
        """Fill the memory cache, so that worker processes share it instead of each filling their own.

        Args:
            num_workers: Processes that decode; one that hangs or dies costs its video only. 0: this process decodes.
        """
        limit = self.time_limit_seconds
        done = run_parallel(
            self._decode_for_cache, range(len(self.records)), num_workers=num_workers, time_limit_seconds=limit
        )
        for index, entry in done:
            if isinstance(entry, Lost):
                self._cache[index] = entry.reason
            else:
                frames, fps = entry
                self._cache[index] = torch.from_numpy(frames), fps

    def _clips(
        self, index: int, epoch: int, position: int
    ) -> tuple[tuple[Tensor, ...], tuple[ClipChanges, ...], tuple[Tensor, ...]]:
        generators = [make_generator(self.seed, epoch, position, repeat) for repeat in range(self.clips_per_video)]

        rows: list[list[int]] = []

        def plan(num_available: int, fps: float) -> list[list[int]]:
            rows.extend(self.plan(num_available, fps, generators))
            return rows

        size = (self.clip.height, self.clip.width)
        clips = self._cached(index, plan) if self.memory_cache else self._read(index, plan)
        boxes = [draw_box(frames, self.augment, *size, g) for frames, g in zip(clips, generators, strict=True)]
        cropped = tuple(take_box(frames, box, *size) for frames, box in zip(clips, boxes, strict=True))
        changes = tuple(draw_changes(self.augment, *size, generator) for generator in generators)
        motion = () if self.motion is None else self.motion.track(self.records[index], rows, boxes, *size)
        if self.change_later:
            return cropped, changes, motion
        return tuple(change_clip(*pair) for pair in zip(cropped, changes, strict=True)), (), motion

    def _read(self, index: int, plan: FramePlan) -> list[Tensor]:
        limit = self.time_limit_seconds
        return read_span(self.records[index], plan, decoder=self.decoder, time_limit_seconds=limit)

    def plan(self, num_available: int, fps: float, generators: Sequence[torch.Generator]) -> list[list[int]]:
        """Draw the frames of all clips of a video, as positions within the span of a record."""
        if self.same_frames:
            return [self.clip_indices(num_available, fps, generators[0])] * len(generators)
        return [self.clip_indices(num_available, fps, generator) for generator in generators]

    def clip_indices(self, num_available: int, fps: float, generator: torch.Generator) -> list[int]:
        """Draw the frames of a random clip, as positions within the span of a record."""
        if self.clip.sampling == "segments":
            return segment_indices(num_available, self.num_sampled_frames, generator)
        step = sampled_step(self.clip, self.num_sampled_frames, fps)
        start = random_start(num_available, self.num_sampled_frames, step, generator)
        return dense_indices(num_available, self.num_sampled_frames, step, start)

    def _cached(self, index: int, plan: FramePlan) -> list[Tensor]:
        if index not in self._cache:
            frames, fps = self._decode_for_cache(index)
            self._cache[index] = torch.from_numpy(frames), fps
        entry = self._cache[index]
        if isinstance(entry, str):
            raise VideoError(entry)
        decoded, rate = entry
        rows = plan(len(decoded), rate)
        return [decoded.index_select(0, torch.tensor(row)).permute(3, 0, 1, 2) for row in rows]  # each [C,T,H,W]

    def _decode_for_cache(self, index: int) -> tuple[NDArray[np.uint8], float]:
        """Give all frames of a record [T, H, W, C], shrunk, and their rate; as numpy, to travel between processes."""
        short_side = math.ceil(CACHE_MARGIN * max(self.clip.height, self.clip.width))
        with open_video(self.records[index].source, self.decoder, self.time_limit_seconds) as reader:
            first, num_available = span_of(self.records[index], reader.info)
            chunks = [
                _shrink(reader.read(indices).frames, short_side)
                for indices in chunked(first, num_available, reader.info)
            ]
            return torch.cat(chunks).numpy(), reader.info.fps


class ViewClips(Dataset[Views]):
    """The views of every video for evaluation: ``num_segments`` clips with ``num_crops`` crops each.

    There is no randomness. A video is opened once for all its views. One that cannot be read gives no views and
    says why: it is never replaced by another.

    Args:
        records: The clips to evaluate.
        clip: Length, size and sampling.
        evaluation: Numbers of segments and crops.
        num_sampled_frames: As for :class:`TrainClips`.
    """

    def __init__(
        self,
        records: Sequence[ClipRecord],
        clip: ClipConfig,
        evaluation: EvaluationConfig,
        *,
        num_sampled_frames: int | None = None,
    ) -> None:
        self.records = tuple(records)
        self.clip = clip
        self.evaluation = evaluation
        self.num_sampled_frames = num_sampled_frames or clip.num_frames
        self.watch: Watch | None = None
        self._unreadable: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> Views:
        record = self.records[index]
        label = -1 if record.label is None else record.label
        size, num_crops = (self.clip.height, self.clip.width), self.evaluation.num_crops
        decoder, limit = self.evaluation.decoder, self.evaluation.time_limit_seconds
        try:
            with reading(self, index, self._unreadable):
                decoded, rows = read_frames(record, self.plan, decoder=decoder, time_limit_seconds=limit)
        except VideoError as error:
            scaled = torch.empty(3, 0, *size, dtype=torch.uint8)  # [C,F=0,H,W]
            rows = torch.empty(0, self.num_sampled_frames, dtype=torch.int64)  # [S=0,T]
            return Views(scaled, rows, size, num_crops, label, index, _reason(error, record))
        scaled = resize_to_cover(to_channels_first(decoded), *size)  # [C,F,h,w]
        return Views(scaled, rows, size, num_crops, label, index)

    def mark_unreadable(self, record_index: int, reason: str) -> None:
        """Treat a record as one that cannot be read, for this reason, from now on."""
        self._unreadable[record_index] = reason

    def plan(self, num_available: int, fps: float) -> list[list[int]]:
        """Choose the frames of every segment, as positions within the span of a record."""
        num_frames, num_segments = self.num_sampled_frames, self.evaluation.num_segments
        if self.clip.sampling == "segments":
            offsets = ((segment + 0.5) / num_segments for segment in range(num_segments))
            return [segment_indices(num_available, num_frames, None, offset=offset) for offset in offsets]
        step = sampled_step(self.clip, num_frames, fps)
        starts = view_starts(num_available, num_frames, step, num_segments)
        return [dense_indices(num_available, num_frames, step, start) for start in starts]


@contextmanager
def reading(clips: Watched, record_index: int, unreadable: dict[int, str]) -> Iterator[None]:
    """Note that a record is being read, unless it is known that it cannot be.

    Raises:
        VideoError: It is known that it cannot be read.
    """
    if record_index in unreadable:
        raise VideoError(unreadable[record_index])
    bring(clips.records[record_index].source)
    with clips.watch.reading(record_index) if clips.watch is not None else nullcontext():
        yield


def make_generator(*numbers: int) -> torch.Generator:
    """Make a generator whose stream depends on all numbers and their order."""
    digest = hashlib.blake2b(repr(numbers).encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)


def stack_clips(clips: Sequence[Tensor], places: Places | None = None) -> Tensor:
    """Put clips together: [C, T, H, W] each to [B, C, T, H, W], uint8, contiguous, in one of the places if given."""
    shape = (len(clips), *clips[0].shape)
    return torch.stack(list(clips), out=clips[0].new_empty(shape) if places is None else places.empty(shape))


def _shrink(frames: Tensor, short_side: int) -> Tensor:
    """Resize frames [T, H, W, C] to a short side, if theirs is longer."""
    if min(frames.shape[1:3]) <= short_side:
        return frames
    smaller = resize_short_side(frames.permute(3, 0, 1, 2), short_side)  # [C,T,h,w]
    return smaller.permute(1, 2, 3, 0).contiguous()  # [T,h,w,C]


def _reason(error: VideoError, record: ClipRecord) -> str:
    return str(error).removeprefix(f"{record.source}: ").removeprefix(f"{record.path}: ")
