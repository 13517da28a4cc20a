"""What a trained classifier is used for, timed whole: videos in, accuracy, classes or features out.

Beside it what each of the two parts takes alone: decoding the views, and computing with views that are decoded.
"""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from everest.bench.hardware import describe_hardware, now
from everest.config import CheckpointInfo, EvaluationConfig, num_sampled_frames
from everest.datasets import Manifest, build_view_loader
from everest.datasets.clips import Views
from everest.datasets.workers import resolve_num_workers
from everest.errors import ConfigError, DataError
from everest.evaluation import align_labels, evaluate, evaluation_mode
from everest.evaluation.views import OnProgress
from everest.inference import Predictor
from everest.inference.embedding import embed
from everest.models import Classifier, classify_clips
from everest.models.features import FeatureModel

DECODING, COMPUTING, FEATURES = "decoding alone", "computing alone", "embed"


@dataclass(eq=False)
class _Bench:
    """What is used, and on what.

    Attributes:
        decoded: All views of each video.
    """

    model: Classifier
    info: CheckpointInfo
    data: Manifest
    config: EvaluationConfig
    device: torch.device
    dtype: torch.dtype
    num_workers: int
    decoded: list[Views] = field(default_factory=list)

    def decode(self) -> None:
        """Read every view and keep it."""
        loader = build_view_loader(
            self.data,
            self.info.clip,
            self.config,
            num_sampled_frames=num_sampled_frames(self.info),
            num_workers=self.num_workers,
            pin_memory=self.device.type == "cuda",
        )
        self.decoded = []
        for video in loader:
            if video.error is not None:
                raise DataError(f"{self.data.records[video.record_index].path}: {video.error}; time what can be read")
            self.decoded.append(video)

    def compute(self) -> None:
        """Classify the views that are decoded, in batches as evaluation makes them."""
        with (
            evaluation_mode(self.model),
            torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.dtype == torch.bfloat16),
        ):
            waiting: list[Tensor] = []  # each [C, T, H, W]
            for video in self.decoded:
                waiting.extend(video.to(self.device).unbind())
                while len(waiting) >= self.config.batch_size:
                    self._classify(waiting, self.config.batch_size)
            if waiting:
                self._classify(waiting, len(waiting))

    def _classify(self, waiting: list[Tensor], num_views: int) -> None:
        classify_clips(self.model, torch.stack(waiting[:num_views]), self.info)
        del waiting[:num_views]

    def evaluate(self) -> None:
        """Measure the accuracy, as ``everest evaluate`` does."""
        how: dict[str, Any] = {"device": self.device, "dtype": self.dtype, "num_workers": self.num_workers}
        evaluate(self.model, self.info, self.data, self.config, **how)

    def predict(self) -> None:
        """Name the classes of every video, as ``everest predict`` does."""
        predictor = Predictor(self.model, self.info, device=self.device, dtype=self.dtype)
        predictor.predict_many(self.data.records, views=self.config, num_workers=self.num_workers)

    def embed(self) -> None:
        """Write the features of every video, as ``everest embed`` does; always in float32."""
        model = FeatureModel(self.model, self.info)
        with tempfile.TemporaryDirectory(prefix="everest-features-") as folder:
            out = Path(folder) / "features.npz"
            embed(model, self.data, out, made_by={}, views=self.config, num_workers=self.num_workers)


def bench_inference(
    model: Classifier,
    info: CheckpointInfo,
    manifest: Manifest,
    views: EvaluationConfig,
    *,
    num_videos: int = 16,
    rounds: int = 3,
    device: torch.device | None = None,
    dtype: torch.dtype = torch.float32,
    num_workers: int = -1,
    on_progress: OnProgress | None = None,
) -> dict[str, Any]:
    """Time evaluation, prediction and features of videos, and the two parts of each.

    Args:
        model: Moved to the device.
        info: What travels with it.
        manifest: Labelled clips, of which some are taken, evenly spread.
        views: Of each of them, and how many run at a time.
        num_videos: That are taken; fewer where there are fewer.
        rounds: Times that each is timed, in turn, after a first one that does not count.
        device: Where to compute; None: where the model is.
        dtype: What evaluation and prediction compute in.
        num_workers: Decoding processes; -1 takes one per spare core.
        on_progress: Called after each with the number of timings that are done and the number of all.

    Returns:
        Values that JSON can hold: ``rows``, each with ``name``, ``seconds`` (median of the rounds), ``all_seconds``,
        ``videos_per_second``, ``views_per_second`` and, of what decodes and computes, ``of_both``: its time over that
        of both parts together, 1 where one waits for the other (None of features where the parts are not in float32,
        in which features are always made); ``num_videos``, ``num_views`` of each, ``batch_size``,
        ``num_workers`` that there were, ``precision``, ``hardware``.

    Raises:
        ConfigError: Nothing to time.
        DataError: A video cannot be read, or labels do not fit.
    """
    if min(num_videos, rounds) < 1:
        raise ConfigError(f"give at least one video and one round, not {num_videos} and {rounds}")
    data = align_labels(_spread(manifest, num_videos), info.class_names)
    device = device or next(model.parameters()).device
    num_workers = resolve_num_workers(num_workers)
    bench = _Bench(model.to(device), info, data, views, device, dtype, num_workers)
    todo: dict[str, Callable[[], None]] = {
        **{DECODING: bench.decode, COMPUTING: bench.compute},
        **{"evaluate": bench.evaluate, "predict": bench.predict, FEATURES: bench.embed},
    }
    found: dict[str, list[float]] = {name: [] for name in todo}
    for number in range(rounds + 1):
        for place, (name, work) in enumerate(todo.items(), start=1):
            started = now(device)
            work()
            found[name] += [now(device) - started] if number else []
            if on_progress is not None:
                on_progress(number * len(todo) + place, (rounds + 1) * len(todo))
    num_views = views.num_segments * views.num_crops
    return {
        "rows": _rows(found, len(data), num_views, dtype),
        **{"num_videos": len(data), "num_views": num_views, "batch_size": views.batch_size},
        **{"num_workers": num_workers, "precision": str(dtype).removeprefix("torch.")},
        "hardware": describe_hardware(device),
    }


def format_inference(values: dict[str, Any]) -> str:
    """Say the result of :func:`bench_inference` to people."""
    lines = [f"{'':16}{'s':>9}{'videos/s':>10}{'views/s':>9}{'of both':>9}"]
    for row in values["rows"]:
        both = "" if row["of_both"] is None else f"{row['of_both']:.2f}"
        lines.append(
            f"{row['name']:16}{row['seconds']:9.2f}{row['videos_per_second']:10.1f}{row['views_per_second']:9.1f}{both:>9}"
        )
    hardware = values["hardware"]
    lines.append(
        f"{values['num_videos']} videos, {values['num_views']} views each, {values['batch_size']} at a time, "
        f"{values['precision']} on {hardware['name']}, {hardware['threads']} threads"
        + ("" if values["precision"] == "float32" else "; features in float32")
        + "\n"
        "of both: its time over that of both parts alone; 1 where one waits for the other"
    )
    return "\n".join(lines)


def _spread(manifest: Manifest, num_videos: int) -> Manifest:
    """Some of the clips, evenly spread."""
    count = min(num_videos, len(manifest))
    places = [place * len(manifest) // count for place in range(count)]
    return replace(manifest, records=tuple(manifest.records[place] for place in places))


def _rows(found: dict[str, list[float]], num_videos: int, num_views: int, dtype: torch.dtype) -> list[dict[str, Any]]:
    parts = median(found[DECODING]) + median(found[COMPUTING])
    alone = {DECODING, COMPUTING} if dtype == torch.float32 else {DECODING, COMPUTING, FEATURES}
    rows = []
    for name, seconds in found.items():
        middle = median(seconds)
        rows.append(
            {
                "name": name,
                "seconds": middle,
                "all_seconds": seconds,
                "videos_per_second": num_videos / middle,
                "views_per_second": num_videos * num_views / middle,
                "of_both": None if name in alone else middle / parts,
            }
        )
    return rows
