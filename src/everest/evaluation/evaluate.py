"""The evaluation of a classifier on labelled clips.

Shapes: n clips that were read, K classes.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from everest.config import CheckpointInfo, EvaluationConfig
from everest.datasets import Manifest
from everest.errors import DataError
from everest.evaluation.kept import KeptResults, what_results_depend_on
from everest.evaluation.labels import align_labels
from everest.evaluation.metrics import (
    confusion_matrix,
    majority_accuracy,
    per_class_accuracy,
    rank_classes,
    top_k_accuracy,
    wilson_interval,
)
from everest.evaluation.views import OnProgress, VideoProbabilities, classify_videos
from everest.models import Classifier

NUM_LISTED = 5  # files that a summary names
PROBABILITY_DIGITS = 6  # in JSON


@dataclass(frozen=True)
class ClassAccuracy:
    """One class: its name, its clips, and the share of them that is recognised (None without clips)."""

    name: str
    num_clips: int
    accuracy: float | None


@dataclass(frozen=True, eq=False)
class ClipResult:
    """What the classifier says of one clip.

    Attributes:
        record_index: Place in the manifest.
        path: The video.
        start_seconds: Where the clip begins; None: at the start of the file.
        end_seconds: Where it ends; None: at the end of the file.
        label: True class index.
        probabilities: Mean over the views, shape [K], float64.
    """

    record_index: int
    path: Path
    start_seconds: float | None
    end_seconds: float | None
    label: int
    probabilities: Tensor


@dataclass(frozen=True)
class ClipFailure:
    """A clip that is in none of the numbers because it cannot be read."""

    record_index: int
    path: Path
    reason: str


@dataclass(frozen=True, eq=False, repr=False)
class Evaluation:
    """How well a classifier does on labelled clips. Accuracies are shares, 0 to 1, of the clips that were read.

    Attributes:
        num_clips: Clips that were read, n.
        num_views: Views of each.
        top1: Share whose most probable class is right.
        top1_interval: Wilson's 95 % interval of it, for independent clips.
        top5: Share whose class is among the five most probable; None for five classes or fewer, where it is always 1.
        majority: What naming the most frequent class every time would reach.
        per_class: Accuracy of each class.
        confusion: Clips by true (rows) and predicted (columns) class, shape [K, K], int64.
        predictions: What is said of each clip, in the order of the manifest.
        failures: Clips that cannot be read. They are in none of the numbers, and never replaced.
        class_names: Names by class index.
        manifest_digest: Of the whole manifest, as ``everest data index`` prints it: equal for equal data.
        part_digest: Of the clips that were evaluated.
        note: What was decided about the data; empty where nothing was.
        seconds: Time that decoding and computing took.
    """

    num_clips: int
    num_views: int
    top1: float
    top1_interval: tuple[float, float]
    top5: float | None
    majority: float
    per_class: tuple[ClassAccuracy, ...]
    confusion: Tensor
    predictions: tuple[ClipResult, ...]
    failures: tuple[ClipFailure, ...]
    class_names: tuple[str, ...]
    manifest_digest: str
    part_digest: str
    note: str
    seconds: float

    @property
    def clips_per_second(self) -> float:
        """Clips, with all their views, per second of decoding and computing."""
        return self.num_clips / self.seconds if self.seconds > 0 else math.inf

    def __repr__(self) -> str:
        return (
            f"Evaluation(top-1 {self.top1:.4f} of {self.num_clips} clips in {self.num_views} views, "
            f"{len(self.class_names)} classes, {len(self.failures)} failures)"
        )

    def summary(self) -> str:
        """Tell a person, in a few lines."""
        low, high = self.top1_interval
        right = round(self.top1 * self.num_clips)
        lines = [f"top-1 {self.top1:.1%} ({right} of {self.num_clips} clips; 95 % interval {low:.1%} to {high:.1%})"]
        if self.top5 is not None:
            lines.append(f"top-5 {self.top5:.1%}")
        lines.append(f"always the most frequent of {len(self.class_names)} classes: {self.majority:.1%}")
        lines.append(f"{self.num_views} views per clip, {self.seconds:.1f} s, {self.clips_per_second:.1f} clips/s")
        if self.note:
            lines.append(f"note: {self.note}")
        if self.failures:
            lines.append(f"{len(self.failures)} more clips cannot be read and are in none of these numbers:")
            lines += [f"  {failure.path}: {failure.reason}" for failure in self.failures[:NUM_LISTED]]
        if len(self.failures) > NUM_LISTED:
            lines.append(f"  and {len(self.failures) - NUM_LISTED} more")
        return "\n".join(lines)

    def to_dict(self, *, predictions: bool = True) -> dict[str, Any]:
        """Give everything as plain values that JSON can hold.

        Args:
            predictions: Include the probabilities of every clip, the largest part by far.
        """
        values: dict[str, Any] = {
            "num_clips": self.num_clips,
            "num_views": self.num_views,
            "num_failures": len(self.failures),
            "top1": self.top1,
            "top1_interval": list(self.top1_interval),
            "top5": self.top5,
            "majority": self.majority,
            "manifest_digest": self.manifest_digest,
            "part_digest": self.part_digest,
            "note": self.note,
            "seconds": self.seconds,
            "clips_per_second": self.clips_per_second,
            "class_names": list(self.class_names),
            "per_class": [vars(entry) for entry in self.per_class],
            "confusion": self.confusion.tolist(),
            "failures": [{**vars(failure), "path": str(failure.path)} for failure in self.failures],
        }
        if predictions:
            values["predictions"] = [_result_dict(result) for result in self.predictions]
        return values


def evaluate(
    model: Classifier,
    info: CheckpointInfo,
    manifest: Manifest,
    views: EvaluationConfig,
    *,
    device: torch.device | None = None,
    dtype: torch.dtype = torch.float32,
    num_workers: int = -1,
    on_progress: OnProgress | None = None,
    on_skip: Callable[[int], None] | None = None,
    divided: bool = False,
    keep: Path | None = None,
    replaces: bool = False,
) -> Evaluation:
    """Measure a classifier on labelled clips.

    Results belong to records of the manifest, not to file names: two files of one name are two results. A video that
    cannot be read is listed, and never replaced by another one.

    Args:
        model: Moved to the device; its mode stays as it is.
        info: What travels with it.
        manifest: The clips of one split; classes are matched by name, see :func:`align_labels`.
        views: How many, and how many at a time. Probabilities are averaged over the views of a clip.
        device: Where to compute; None: where the model is.
        dtype: What matrix products compute in: float32 or bfloat16.
        num_workers: Decoding processes; 0 decodes in this one, -1 takes one process per spare core.
        on_progress: Called after each clip with the number of clips that are done and the number of all.
        on_skip: Called with the number of clips that are known from an earlier start, if there are any.
        divided: Share the clips out over the processes of a run; see :func:`~everest.evaluation.classify_videos`.
        keep: A folder for what was found so far, until :func:`forget_results` deletes it: the same call goes on there.
        replaces: What the folder holds of another evaluation is deleted; else it is refused.

    Raises:
        DataError: Labels are missing or do not fit the checkpoint, not a single video can be read, or the folder holds
            the beginning of another evaluation.
        WeightsError: The model's output is not finite.
    """
    data = align_labels(manifest, info.class_names)
    classify = partial(
        classify_videos,
        model,
        info,
        views=views,
        device=device,
        dtype=dtype,
        num_workers=num_workers,
        divided=divided,
    )
    start = time.perf_counter()
    if keep is None:
        found = classify(data, on_progress=on_progress)
        seconds = time.perf_counter() - start
    else:
        depends_on = what_results_depend_on(model, info, data, views, dtype)
        with KeptResults(keep, depends_on, data, len(info.class_names), replaces=replaces, divided=divided) as kept:
            if on_skip is not None and len(kept):
                on_skip(len(kept))
            found = kept.complete(classify, on_progress)
            seconds = kept.seconds
    if not len(found.record_indices):
        first, reason = next(iter(found.failures.items()))
        raise DataError(
            f"{manifest.place}: none of the {len(manifest)} clips can be read; the first one: "
            f"{manifest.records[first].path}: {reason}"
        )
    return _measure(found, data, manifest, views.num_segments * views.num_crops, seconds)


def _measure(found: VideoProbabilities, data: Manifest, given: Manifest, num_views: int, seconds: float) -> Evaluation:
    """Compute all numbers from the probabilities."""
    results = _results(found, data)
    labels = torch.tensor([result.label for result in results])  # [n]
    predicted = rank_classes(found.probabilities)[:, 0]  # [n]
    confusion = confusion_matrix(predicted, labels, data.num_classes)
    num_right = int(confusion.diagonal().sum())
    counts: list[int] = confusion.sum(dim=1).tolist()
    return Evaluation(
        num_clips=len(results),
        num_views=num_views,
        top1=num_right / len(results),
        top1_interval=wilson_interval(num_right, len(results)),
        top5=top_k_accuracy(found.probabilities, labels, 5) if data.num_classes > 5 else None,
        majority=majority_accuracy(labels),
        per_class=tuple(map(ClassAccuracy, data.class_names, counts, per_class_accuracy(confusion))),
        confusion=confusion,
        predictions=results,
        failures=tuple(ClipFailure(i, data.records[i].path, why) for i, why in sorted(found.failures.items())),
        class_names=data.class_names,
        manifest_digest=given.source_digest,
        part_digest=given.digest,
        note=data.note,
        seconds=seconds,
    )


def _results(found: VideoProbabilities, data: Manifest) -> tuple[ClipResult, ...]:
    results = []
    for index, probabilities in zip(found.record_indices.tolist(), found.probabilities, strict=True):
        record = data.records[index]
        assert record.label is not None  # noqa: S101 - for the type checker: align_labels refuses clips without
        results.append(
            ClipResult(index, record.path, record.start_seconds, record.end_seconds, record.label, probabilities)
        )
    return tuple(results)


def _result_dict(result: ClipResult) -> dict[str, Any]:
    rounded = [round(value, PROBABILITY_DIGITS) for value in result.probabilities.tolist()]
    return {**vars(result), "path": str(result.path), "probabilities": rounded}
