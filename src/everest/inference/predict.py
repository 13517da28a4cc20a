"""The classes of a video file. Frames are read and models run as in evaluation, so the same clip gets the same answer.

Shapes: K classes.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from everest.config import CheckpointInfo, EvaluationConfig
from everest.datasets import ClipRecord, Manifest
from everest.errors import ConfigError, VideoError, WeightsError
from everest.evaluation import choose_device, classify_videos, with_keep_ratio
from everest.evaluation.metrics import rank_classes
from everest.evaluation.views import OnProgress
from everest.models import Classifier, load_model

DEFAULT_VIEWS = EvaluationConfig(num_segments=3, num_crops=1)  # start, middle and end; the centre of the picture


@dataclass(frozen=True)
class ClipPrediction:
    """The most probable classes of a video or of a span of it.

    Attributes:
        source: The file, as it was given.
        classes: Names and probabilities (0 to 1), most probable first.
        start_seconds: Where the span begins; None: at the start of the file.
        end_seconds: Where it ends; None: at the end of the file.
        seconds: Time that the prediction took; of files that were predicted together, their mean.
    """

    source: Path
    classes: tuple[tuple[str, float], ...]
    start_seconds: float | None
    end_seconds: float | None
    seconds: float

    @property
    def best(self) -> str:
        """Name of the most probable class."""
        return self.classes[0][0]

    def __repr__(self) -> str:
        named = ", ".join(f"{name} {probability:.1%}" for name, probability in self.classes)
        return f"ClipPrediction({self.source.name!r}: {named})"


@dataclass(frozen=True)
class FailedPrediction:
    """A file that cannot be read, and why."""

    source: Path
    reason: str


class Predictor:
    """Names the classes of videos.

    Args:
        model: A fine-tuned classifier; moved to the device and set to evaluation mode.
        info: What travels with it.
        device: Where to compute; None: where the model is.
        dtype: What matrix products compute in: float32 or bfloat16.
    """

    def __init__(
        self,
        model: Classifier,
        info: CheckpointInfo,
        *,
        device: torch.device | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.model = model.to(device or next(model.parameters()).device).eval()
        self.info = info
        self.dtype = dtype

    @classmethod
    def load(cls, checkpoint: str | Path, device: str = "auto", keep_ratio: float | None = None) -> Self:
        """Load a fine-tuned checkpoint.

        Args:
            checkpoint: A run folder or a weights file.
            device: ``auto`` takes an accelerator where there is one; or ``cpu``, ``cuda``, ``mps``.
            keep_ratio: Share of the tokens to look at; None: as in training.

        Raises:
            WeightsError: The checkpoint cannot be read, or holds no classifier.
            ConfigError: There is no such device, or the share is out of range.
        """
        chosen = choose_device(device)
        model, info = load_model(Path(checkpoint).expanduser())
        if not isinstance(model, Classifier):
            raise WeightsError(f"{checkpoint}: holds no classifier: fine-tune it first")
        return cls(model, with_keep_ratio(info, keep_ratio), device=chosen)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names by class index."""
        return self.info.class_names

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return next(self.model.parameters()).device

    def __repr__(self) -> str:
        return f"Predictor({self.info.model.size}, {len(self.class_names)} classes, {self.device})"

    def predict(
        self,
        path: str | Path,
        views: EvaluationConfig | None = None,
        top: int = 5,
        start_seconds: float | None = None,
        end_seconds: float | None = None,
    ) -> ClipPrediction:
        """Name the classes of one video.

        Args:
            path: The file.
            views: None: three clips (start, middle, end) and one crop (the centre). More views cost more time and
                are a little more accurate.
            top: Classes to name, at least 1; there may be fewer.
            start_seconds: Where to begin; None: at the start of the file.
            end_seconds: Where to end; None: at the end of the file.

        Raises:
            VideoError: The file cannot be read.
            ConfigError: ``top`` or the span makes no sense.
        """
        _check_span(start_seconds, end_seconds)
        span = ClipRecord(Path(path), start_seconds=start_seconds, end_seconds=end_seconds)
        prediction = self._predict([span], views, top, 0, None)[0]
        if isinstance(prediction, FailedPrediction):
            raise VideoError(f"{prediction.source}: {prediction.reason}")
        return prediction

    def predict_many(
        self,
        paths: Sequence[str | Path],
        on_progress: OnProgress | None = None,
        *,
        views: EvaluationConfig | None = None,
        top: int = 5,
        num_workers: int = 0,
    ) -> list[ClipPrediction | FailedPrediction]:
        """Name the classes of several videos; one that cannot be read does not stop the others.

        Args:
            paths: The files; none is allowed.
            on_progress: Called after each file with the number of files that are done and the number of all.
            views: As for :meth:`predict`.
            top: As for :meth:`predict`.
            num_workers: Decoding processes; 0 decodes in this one, -1 takes one process per spare core.

        Returns:
            One entry per file, in their order.

        Raises:
            ConfigError: ``top`` makes no sense.
        """
        return self._predict([ClipRecord(Path(path)) for path in paths], views, top, num_workers, on_progress)

    def _predict(
        self,
        spans: list[ClipRecord],
        views: EvaluationConfig | None,
        top: int,
        num_workers: int,
        on_progress: OnProgress | None,
    ) -> list[ClipPrediction | FailedPrediction]:
        if top < 1:
            raise ConfigError(f"top must be at least 1, given: {top}")
        if not spans:
            return []
        start = time.perf_counter()
        found = classify_videos(
            self.model,
            self.info,
            Manifest(tuple(spans), (), Path.cwd()),
            views or DEFAULT_VIEWS,
            device=self.device,
            dtype=self.dtype,
            num_workers=num_workers,
            on_progress=on_progress,
        )
        seconds = (time.perf_counter() - start) / len(spans)
        predictions: list[ClipPrediction | FailedPrediction] = [
            FailedPrediction(span.path, found.failures.get(index, "")) for index, span in enumerate(spans)
        ]
        for index, probabilities in zip(found.record_indices.tolist(), found.probabilities, strict=True):
            span = spans[index]
            classes = self._named(probabilities, top)
            predictions[index] = ClipPrediction(span.path, classes, span.start_seconds, span.end_seconds, seconds)
        return predictions

    def _named(self, probabilities: Tensor, top: int) -> tuple[tuple[str, float], ...]:
        """Name the most probable classes: [K] to pairs."""
        order: list[int] = rank_classes(probabilities)[:top].tolist()
        return tuple((self.class_names[i], float(probabilities[i])) for i in order)


def _check_span(start: float | None, end: float | None) -> None:
    """Refuse a span that is empty or begins before the file; NaN is refused too."""
    first, last = 0.0 if start is None else start, math.inf if end is None else end
    if not 0.0 <= first < last:
        raise ConfigError(f"a span from {start} to {end} s is empty or not in the file; expected 0 <= start < end")
