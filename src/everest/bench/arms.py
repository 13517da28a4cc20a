"""The ways to read clips that ``everest bench loader`` compares.

Shapes: R clips of an item, V views, C channels, T frames, H height, W width.
"""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import Dataset

from everest.bench.decord_clips import DecordClips, has_decord
from everest.config import AugmentConfig, ClipConfig, Decoder, EvaluationConfig
from everest.datasets import ClipRecord, Manifest, TrainClips, ViewClips
from everest.datasets.clips import SampleKey, Views, make_generator, stack_clips
from everest.datasets.handover import Places
from everest.datasets.spans import FramePlan, read_span, span_of
from everest.datasets.view_loader import PlacedViews
from everest.errors import DataError, VideoError
from everest.video import normalize, open_video, view_crops
from everest.video.augment import crop_clip
from everest.video.torchcodec import why_no_torchcodec

BASELINE, PACKED = "decord + Pillow per frame", "packed shards"
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Arm:
    """One way to read clips.

    Attributes:
        name: For people.
        dataset: Gives the item of a key: uint8 [R, C, T, H, W], float32 [C, T, H, W], or None where it cannot be read.
        clips_per_item: R, or the number of views.
        compared_with: Name of the arm whose clips per second are taken as 1; None: itself.
        is_training: Items are training clips, which are brought to float32; views stay uint8 until the model has them.
        read_by_stage: Reads an item and says how many seconds each stage took; None where that is not known.
    """

    name: str
    dataset: "Dataset[Tensor | None] | Dataset[Views | None]"
    clips_per_item: int = 1
    compared_with: str | None = None
    is_training: bool = True
    read_by_stage: Callable[[SampleKey], tuple[Tensor, dict[str, float]]] | None = None

    def read(self, key: SampleKey) -> Tensor | Views | None:
        """Read an item in this process."""
        return self.dataset[key]

    def name_of(self, index: int) -> str:
        """Name the file of a record."""
        records: tuple[ClipRecord, ...] = getattr(self.dataset, "records", ())
        return str(records[index].path)

    def finish(self, item: Tensor | Views, device: torch.device) -> Tensor:
        """Bring an item to where it could be computed on: training clips as floats, views as the model takes them."""
        if isinstance(item, Views):
            return item.to(device).frames  # [V,C,T,H,W]
        moved = item.to(device, non_blocking=True)
        return normalize(moved, MEAN, STD) if self.is_training and moved.dtype == torch.uint8 else moved


class OurClips(Dataset["Tensor | None"]):
    """Training clips of one record, uint8 [R, C, T, H, W]; None where it cannot be read."""

    def __init__(
        self,
        manifest: Manifest,
        clip: ClipConfig,
        decoder: Decoder,
        clips_per_video: int = 1,
        same_frames: bool = False,
    ) -> None:
        self.records = manifest.records
        self._places = Places()
        self.clips = TrainClips(
            manifest.records,
            clip,
            AugmentConfig(crop="multi_scale"),
            clips_per_video=clips_per_video,
            same_frames=same_frames,
            decoder=decoder,
        )

    def __getitem__(self, key: SampleKey) -> Tensor | None:
        try:
            sample = self.clips[key]
        except DataError:
            return None
        return stack_clips(sample.clips, self._places) if sample.record_index == key[2] else None

    def read_by_stage(self, key: SampleKey) -> tuple[Tensor, dict[str, float]]:
        """Do what :class:`TrainClips` does, with a watch."""
        epoch, position, index = key
        clips, record = self.clips, self.records[index]
        generators = [make_generator(clips.seed, epoch, position, r) for r in range(clips.clips_per_video)]
        with open_video(record.source, clips.decoder) as reader:
            first, num_available = span_of(record, reader.info)
            rows = clips.plan(num_available, reader.info.fps, generators)
            wanted = sorted({first + i for indices in rows for i in indices})
            decoded = reader.read(wanted)
            seconds = asdict(reader.seconds)
        started = time.perf_counter()
        place = {index: row for row, index in enumerate(wanted)}
        places = (torch.tensor([place[first + i] for i in indices]) for indices in rows)
        frames = [decoded.frames.index_select(0, each).permute(3, 0, 1, 2) for each in places]
        done = stack_clips(
            [
                crop_clip(clip, clips.augment, clips.clip.height, clips.clip.width, generator)
                for clip, generator in zip(frames, generators, strict=True)
            ]
        )  # [R,C,T,H,W]
        return done, {**seconds, "transform": time.perf_counter() - started}


class OurViews(Dataset["Views | None"]):
    """All evaluation views of a record, decoded once."""

    def __init__(self, manifest: Manifest, clip: ClipConfig, views: EvaluationConfig) -> None:
        self.records = manifest.records
        self.views = PlacedViews(ViewClips(manifest.records, clip, views))

    def __getitem__(self, key: SampleKey) -> Views | None:
        found = self.views[key[2]]
        return found if isinstance(found, Views) and found.error is None else None


class ViewByView(Dataset["Tensor | None"]):
    """The same views, the video opened and decoded anew for each of them, as the release does."""

    def __init__(self, manifest: Manifest, clip: ClipConfig, views: EvaluationConfig) -> None:
        self.records = manifest.records
        self.views = ViewClips(manifest.records, clip, views)
        self._places = Places()

    def __getitem__(self, key: SampleKey) -> Tensor | None:
        clip, evaluation = self.views.clip, self.views.evaluation
        found = []
        try:
            for segment in range(evaluation.num_segments):
                for crop in range(evaluation.num_crops):
                    frames = read_span(self.records[key[2]], self._plan_of(segment))
                    found.append(view_crops(frames[0], clip.height, clip.width, evaluation.num_crops)[crop])
        except VideoError:
            return None
        return stack_clips(found, self._places)  # [V,C,T,H,W]

    def _plan_of(self, segment: int) -> FramePlan:
        return lambda num_available, fps: [self.views.plan(num_available, fps)[segment]]


def build_arms(
    manifest: Manifest,
    packed: Manifest | None,
    clip: ClipConfig,
    clips_per_video: int,
    views: EvaluationConfig | None,
) -> list[Arm]:
    """List the ways that can be measured here, the baseline first where decord is installed."""
    arms: list[Arm] = []
    if has_decord() and all(isinstance(record.source, Path) for record in manifest.records):  # it reads whole files
        arms.append(Arm(BASELINE, DecordClips(manifest.records, clip)))
    baseline = BASELINE if arms else None
    decoders: tuple[Decoder, ...] = ("pyav",) if why_no_torchcodec() else ("pyav", "torchcodec")
    for decoder in decoders:
        ours = OurClips(manifest, clip, decoder)
        arms.append(Arm(decoder, ours, compared_with=baseline, read_by_stage=ours.read_by_stage))
    if clips_per_video > 1:
        arms += _several(manifest, clip, clips_per_video, "pyav", "pyav")
    if packed is not None:
        if len(packed) != len(manifest):
            raise DataError(f"{packed.source}: {len(packed)} packed clips, but {len(manifest)} in {manifest.source}")
        shards = OurClips(packed, clip, "pyav")
        arms.append(Arm(PACKED, shards, compared_with=baseline, read_by_stage=shards.read_by_stage))
        if clips_per_video > 1:
            arms += _several(packed, clip, clips_per_video, "packed", PACKED)
    if views is not None:
        num_views = views.num_segments * views.num_crops
        single, once = f"{num_views} views, view by view", f"{num_views} views, decoded once"
        arms.append(Arm(once, OurViews(manifest, clip, views), num_views, single, is_training=False))
        arms.append(Arm(single, ViewByView(manifest, clip, views), num_views, is_training=False))
    return arms


def _several(manifest: Manifest, clip: ClipConfig, number: int, name: str, single: str) -> list[Arm]:
    """Several clips of each opened video: at times of their own, and of the same frames."""
    arms = []
    for same_frames, what in ((False, f"{number} clips per video"), (True, f"{number} of the same frames")):
        several = OurClips(manifest, clip, "pyav", number, same_frames)
        arms.append(Arm(f"{name}, {what}", several, number, single, read_by_stage=several.read_by_stage))
    return arms
