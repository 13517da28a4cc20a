"""Many long videos to timelines: all are cut, all windows are predicted together, and put together by video."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from everest.config import CheckpointInfo, EvaluationConfig
from everest.datasets import ClipRecord
from everest.datasets.ray_engine import RayEngine
from everest.inference.cutting import cut_videos
from everest.inference.predictions import ClipPrediction, FailedPrediction
from everest.inference.timeline import Timeline, make_timeline
from everest.inference.windows import Windows

Predict = Callable[[Sequence[ClipRecord], Sequence[ClipRecord | str]], Sequence[ClipPrediction | FailedPrediction]]
"""Predicts clips: as they are called, and where each is read."""


def predict_timelines(
    predict: Predict,
    records: Sequence[ClipRecord],
    near: Sequence[ClipRecord | str],
    *,
    windows: Windows,
    info: CheckpointInfo,
    views: EvaluationConfig,
    engine: RayEngine | None = None,
) -> list[Timeline]:
    """Name what happens when in long videos.

    Args:
        predict: Predicts the windows.
        records: The videos, as they were given.
        near: Where each of them is read, or why it cannot be.
        windows: How they are cut.
        info: What the model takes.
        views: How files are read.
        engine: A Ray cluster that cuts them; None: processes of this machine.

    Returns:
        One for each video; where it cannot be opened, without windows and with the reason.
    """
    there = [record for record in near if not isinstance(record, str)]
    found = iter(cut_videos(there, windows, info, views, num_workers=-1, engine=engine) if there else [])
    cut = [record if isinstance(record, str) else next(found) for record in near]
    spans = [span for video in cut if not isinstance(video, str) for span in video]
    named = [
        replace(record, start_seconds=span.start_seconds, end_seconds=span.end_seconds)
        for record, video in zip(records, cut, strict=True)
        if not isinstance(video, str)
        for span in video
    ]
    results = iter(predict(named, spans))
    return [
        Timeline(record.path, (), ((None, None, video),))
        if isinstance(video, str)
        else make_timeline(record.path, [next(results) for _ in video], video)
        for record, video in zip(records, cut, strict=True)
    ]
