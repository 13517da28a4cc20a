"""Videos to features, row by row: on this machine or on a Ray cluster, whole or cut into spans.

Shapes: C channels, T frames, H height, W width, D width.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from everest.config import EvaluationConfig, num_sampled_frames
from everest.datasets import ClipRecord, Manifest, build_view_loader
from everest.datasets.clips import Views
from everest.datasets.ray_engine import RayEngine
from everest.errors import DataError
from everest.evaluation.many import Computed, compute_views
from everest.inference.cutting import VIDEOS_ON_RAY, VIDEOS_TOGETHER, cut_videos, kept_near
from everest.inference.feature_rows import FeatureRow
from everest.inference.windows import Windows
from everest.models.features import ClipFeatures, FeatureModel


@dataclass(frozen=True)
class FeatureReader:
    """Videos to rows.

    Attributes:
        model: Describes clips.
        manifest: The videos.
        windows: How they are cut.
        views: Of each video or span.
        num_workers: Decoding processes.
        engine: What does the work instead of them and this process, if any.
        device: Where its workers compute.
        folder: For what is needed for a while; None: where the system has such files.
    """

    model: FeatureModel
    manifest: Manifest
    windows: Windows | None
    views: EvaluationConfig
    num_workers: int = 0
    engine: RayEngine | None = None
    device: str = "auto"
    folder: Path | None = None

    def read_from(self, first: int) -> Iterator[tuple[int, list[FeatureRow], dict[str, str]]]:
        """Give one video after another: its number from 1, its rows, and why it cannot be read if so."""
        records = self.manifest.records
        if self.windows is None:
            yield from self._read([[record] for record in records[first:]], first)
            return
        together = VIDEOS_TOGETHER if self.engine is None else VIDEOS_ON_RAY
        for start in range(first, len(records), together):
            some = records[start : start + together]
            with kept_near(some, self.views, self.folder, self.engine) as views:
                cut = cut_videos(
                    some, self.windows, self.model.info, views, num_workers=self.num_workers, engine=self.engine
                )
                yield from replace(self, views=views)._read(cut, start)

    def _read(
        self, videos: Sequence[list[ClipRecord] | str], first: int
    ) -> Iterator[tuple[int, list[FeatureRow], dict[str, str]]]:
        records = tuple(span for video in videos if not isinstance(video, str) for span in video)
        found = self._on_ray(records) if self.engine is not None else self._here(records)
        for number, video in enumerate(videos, start=first):
            if isinstance(video, str):
                yield number + 1, [], {str(self.manifest.records[number].path): video}
                continue
            rows, failures = [], {}
            for span in video:
                error, features = _next(found, span)
                if error is not None:
                    failures[str(span.path)] = error
                else:
                    rows.append(_row(self.manifest, span, features))
            yield number + 1, rows, failures

    def _here(self, records: tuple[ClipRecord, ...]) -> Iterator[Computed]:
        info = self.model.info
        loader = build_view_loader(
            replace(self.manifest, records=records),
            info.clip,
            self.views,
            num_sampled_frames=num_sampled_frames(info),
            num_workers=self.num_workers,
            pin_memory=self.model.device.type == "cuda",
        )
        yield from _in_batches(self.model, loader, self.views.batch_size)

    def _on_ray(self, records: tuple[ClipRecord, ...]) -> Iterator[Computed]:
        assert self.engine is not None  # noqa: S101 - for the type checker: only asked where there is one
        function = Describe(self.model)
        return compute_views(self.engine, function, records, self.model.info, self.views, device=self.device)


@dataclass(frozen=True)
class Describe:
    """A feature model as a :class:`~everest.evaluation.many.ViewFunction`."""

    model: FeatureModel

    def to(self, device: torch.device) -> None:
        """Move the model."""
        self.model.model.to(device)

    def __call__(self, clips: Tensor) -> list[ClipFeatures]:
        """Describe each clip."""
        return self.model(clips)

    def combine(self, outputs: list[ClipFeatures]) -> list[ClipFeatures]:
        """Send back those of all views."""
        return outputs


def _next(found: Iterator[Computed], span: ClipRecord) -> Computed:
    """Give the next answer.

    Raises:
        DataError: There is none, and the video would count as one without rows.
    """
    try:
        return next(found)
    except StopIteration:
        problem = "nothing came back of it, nor of those after it; what is done is kept: start the same command again"
        raise DataError(f"{span.path}: {problem}") from None


def _in_batches(model: FeatureModel, loader: Iterable[Views], batch_size: int) -> Iterator[Computed]:
    """Run full batches of views, whatever the number of views of a video, and give their features video by video."""
    clips: list[Tensor] = []  # each [C,T,H,W]
    waiting: list[Views] = []
    features: list[ClipFeatures] = []

    def finished() -> Iterator[Computed]:
        while waiting and len(features) >= waiting[0].num_views:
            video = waiting.pop(0)
            yield video.error, features[: video.num_views]
            del features[: video.num_views]

    for video in loader:
        clips += video.to(model.device).unbind()
        waiting.append(replace(video, scaled=video.scaled[:, :0]))  # its pixels are in the clips
        while len(clips) >= batch_size:
            features += model(torch.stack(clips[:batch_size]))
            del clips[:batch_size]
        yield from finished()
    if clips:
        features += model(torch.stack(clips))
    yield from finished()


def _row(manifest: Manifest, span: ClipRecord, views: list[ClipFeatures]) -> FeatureRow:
    label = None if span.label is None else manifest.class_names[span.label]
    tokens = views[0].tokens
    values = views[0].values if tokens is not None else torch.stack([view.values for view in views]).mean(dim=0)
    return FeatureRow(
        str(span.path),
        span.start_seconds,
        span.end_seconds,
        label,
        values.numpy().astype(np.float32),
        None if tokens is None else tokens.numpy(),
    )
