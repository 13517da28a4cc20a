"""The classes of a video file. Frames are read and models run as in evaluation, so the same clip gets the same answer.

Shapes: K classes.
"""

import copy
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from everest.config import CheckpointInfo, EvaluationConfig
from everest.datasets import ClipRecord, Manifest
from everest.datasets.ray_engine import RayEngine
from everest.errors import ConfigError, VideoError, WeightsError
from everest.evaluation import choose_device, classify_videos, with_keep_ratio
from everest.evaluation.many import Classify, compute_views
from everest.evaluation.metrics import rank_classes
from everest.evaluation.views import OnProgress, OnVideo, refuse_infinite
from everest.inference.predictions import ClipPrediction, FailedPrediction
from everest.inference.timeline import Timeline, make_timeline
from everest.inference.windows import Windows
from everest.models import Classifier, load_model
from everest.training.engine import choose_dtype

DEFAULT_VIEWS = EvaluationConfig(num_segments=3, num_crops=1)
"""Start, middle and end of a video; the centre of the picture."""
ONE_VIEW = EvaluationConfig(num_segments=1, num_crops=1)  # of a window: from its middle, the centre of the picture


OnResult = Callable[[int, ClipPrediction | FailedPrediction], None]  # place of the file, what is said of it


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
    def load(
        cls, checkpoint: str | Path, device: str = "auto", keep_ratio: float | None = None, precision: str = "auto"
    ) -> Self:
        """Load a fine-tuned checkpoint.

        Args:
            checkpoint: A run folder or a weights file.
            device: ``auto`` takes an accelerator where there is one; or ``cpu``, ``cuda``, ``mps``.
            keep_ratio: Share of the tokens to look at; None: as in training.
            precision: What matrix products compute in: ``auto`` is what evaluation takes, bfloat16 on accelerators that
                have it and float32 elsewhere; or one of the two.

        Raises:
            WeightsError: The checkpoint cannot be read, or holds no classifier.
            ConfigError: There is no such device or precision, or the share is out of range.
        """
        chosen = choose_device(device)
        dtype = choose_dtype(precision, chosen)
        model, info = load_model(Path(checkpoint).expanduser())
        if not isinstance(model, Classifier):
            raise WeightsError(f"{checkpoint}: holds no classifier: fine-tune it first")
        return cls(model, with_keep_ratio(info, keep_ratio), device=chosen, dtype=dtype)

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
        check_span(start_seconds, end_seconds)
        span = ClipRecord(Path(path), start_seconds=start_seconds, end_seconds=end_seconds)
        prediction = self._predict([span], views, top)[0]
        if isinstance(prediction, FailedPrediction):
            raise VideoError(f"{prediction.source}: {prediction.reason}")
        return prediction

    def predict_many(
        self,
        paths: Sequence[str | Path | ClipRecord],
        on_progress: OnProgress | None = None,
        *,
        views: EvaluationConfig | None = None,
        top: int = 5,
        num_workers: int = 0,
        on_result: OnResult | None = None,
        engine: RayEngine | None = None,
        device: str = "auto",
    ) -> list[ClipPrediction | FailedPrediction]:
        """Name the classes of several videos; one that cannot be read does not stop the others.

        Args:
            paths: The files, or records of a manifest; none is allowed.
            on_progress: Called after each file with the number of files that are done and the number of all.
            views: As for :meth:`predict`.
            top: As for :meth:`predict`.
            num_workers: Decoding processes; 0 decodes in this one, -1 takes one process per spare core.
            on_result: Called with the place and the prediction of each file as soon as there is one.
            engine: A Ray cluster, which does all the work; None: this process and ``num_workers``.
            device: Where the model of its workers computes: ``auto`` takes the GPUs that the cluster has.

        Returns:
            One entry per file, in their order.

        Raises:
            ConfigError: ``top`` makes no sense, or the cluster has no such device.
        """
        given = [path if isinstance(path, ClipRecord) else ClipRecord(Path(path)) for path in paths]
        spans = [replace(record, label=None) for record in given]  # labels of classes that may not be ours

        def work(manifest: Manifest, chosen: EvaluationConfig, on_video: OnVideo) -> None:
            if engine is None:
                self._classify(manifest, chosen, on_video, num_workers, on_progress)
                return
            function = Classify(copy.deepcopy(self.model).cpu(), self.info, self.dtype)
            computed = compute_views(engine, function, manifest.records, self.info, chosen, device=device)
            for index, (error, probabilities) in enumerate(computed):
                on_video(index, torch.from_numpy(probabilities) if error is None else error)
                if on_progress is not None:
                    on_progress(index + 1, len(manifest))

        return self._predict(spans, views, top, on_result, work)

    def timeline(
        self,
        path: str | Path | ClipRecord,
        windows: Windows | None = None,
        *,
        views: EvaluationConfig = ONE_VIEW,
        top: int = 5,
        on_progress: OnProgress | None = None,
        num_workers: int = 0,
    ) -> Timeline:
        """Name what happens when in a long video.

        Args:
            path: The file, or a part of it.
            windows: How it is cut; None: one clip of the model after the other.
            views: Of each window.
            top: Classes to name in each.
            on_progress: Called after each window with the number of those that are done and the number of all.
            num_workers: Decoding processes; 0 decodes in this one, -1 takes one process per spare core.

        Raises:
            VideoError: The file cannot be read; a window that cannot be read is listed in the result.
            ConfigError: ``top`` makes no sense.
        """
        record = path if isinstance(path, ClipRecord) else ClipRecord(Path(path))
        spans = (windows or Windows()).cut(record, self.info)
        results = self.predict_many(spans, on_progress, views=views, top=top, num_workers=num_workers)
        found = make_timeline(record.path, results, spans)
        if not found.windows:
            raise VideoError(f"{record.path}: {found.failures[0][2]}")
        return found

    def _classify(
        self,
        manifest: Manifest,
        views: EvaluationConfig,
        on_video: OnVideo,
        num_workers: int = 0,
        on_progress: OnProgress | None = None,
    ) -> None:
        def tell(index: int, outcome: Tensor | str) -> None:
            on_video(index, outcome if isinstance(outcome, str) else refuse_infinite(outcome))

        classify_videos(
            self.model,
            self.info,
            manifest,
            views,
            device=self.device,
            dtype=self.dtype,
            num_workers=num_workers,
            on_progress=on_progress,
            on_video=tell,
        )

    def _predict(
        self,
        spans: list[ClipRecord],
        views: EvaluationConfig | None,
        top: int,
        on_result: OnResult | None = None,
        work: Callable[[Manifest, EvaluationConfig, OnVideo], None] | None = None,
    ) -> list[ClipPrediction | FailedPrediction]:
        if top < 1:
            raise ConfigError(f"top must be at least 1, given: {top}")
        if not spans:
            return []
        start = time.perf_counter()
        predictions: dict[int, ClipPrediction | FailedPrediction] = {}

        def take(index: int, outcome: Tensor | str) -> None:
            span = spans[index]
            if isinstance(outcome, str):
                predictions[index] = FailedPrediction(span.path, outcome)
            else:
                seconds = (time.perf_counter() - start) / (len(predictions) + 1)
                classes = self.named(outcome, top)
                predictions[index] = ClipPrediction(span.path, classes, span.start_seconds, span.end_seconds, seconds)
            if on_result is not None:
                on_result(index, predictions[index])

        (work or self._classify)(Manifest(tuple(spans), (), Path.cwd()), views or DEFAULT_VIEWS, take)
        seconds = (time.perf_counter() - start) / len(spans)
        in_order = (predictions[index] for index in range(len(spans)))
        return [replace(p, seconds=seconds) if isinstance(p, ClipPrediction) else p for p in in_order]

    def named(self, probabilities: Tensor, top: int) -> tuple[tuple[str, float], ...]:
        """Name the most probable classes, most probable first.

        Args:
            probabilities: Of all classes, shape [K].
            top: How many to name.
        """
        order: list[int] = rank_classes(probabilities)[:top].tolist()
        return tuple((self.class_names[i], float(probabilities[i])) for i in order)


def check_span(start: float | None, end: float | None) -> None:
    """Refuse a span that is empty or begins before the file; NaN is refused too.

    Raises:
        ConfigError: It is one.
    """
    first, last = 0.0 if start is None else start, math.inf if end is None else end
    if not 0.0 <= first < last:
        raise ConfigError(f"a span from {start} to {end} s is empty or not in the file; expected 0 <= start < end")
