"""Accuracy and cost of a classifier by the share of tokens that it looks at.

Shapes: V views of a video, C channels, T frames, H height, W width, K classes.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import mean
from typing import Any

import torch
from torch import Tensor

from everest.bench.hardware import describe_hardware
from everest.bench.timeline import counted_flop
from everest.config import CheckpointInfo, EvaluationConfig, num_sampled_frames
from everest.datasets import Manifest, build_view_loader
from everest.errors import ConfigError, DataError
from everest.evaluation import align_labels, evaluation_mode, wilson_interval
from everest.evaluation.dial import with_keep_ratio
from everest.evaluation.views import OnProgress
from everest.models import Classifier, classify_clips
from everest.tokens import count_tokens

RATIOS = (1.0, 0.8, 0.6, 0.4, 0.3, 0.2, 0.1)


@dataclass
class _Place:
    """What is known of one place of the dial."""

    info: CheckpointInfo
    num_right: int = 0
    seconds: list[float] = field(default_factory=list)  # a view, for each video


def bench_dial(
    model: Classifier,
    info: CheckpointInfo,
    manifest: Manifest,
    views: EvaluationConfig,
    *,
    ratios: Sequence[float] = RATIOS,
    device: torch.device | None = None,
    num_workers: int = -1,
    on_progress: OnProgress | None = None,
) -> dict[str, Any]:
    """Evaluate a classifier at several keep ratios, every video decoded once for all of them.

    Args:
        model: Moved to the device.
        info: What travels with it.
        manifest: Labelled clips.
        views: How many of each; all views of a video are computed together.
        ratios: Shares of all tokens.
        device: Where to compute; None: where the model is.
        num_workers: Decoding processes; -1 takes one per spare core.
        on_progress: Called after each video with the number of videos that are done and the number of all.

    Returns:
        Values that JSON can hold: ``rows``, each with ``keep_ratio``, ``tokens`` that are computed, ``top1`` with its
        95 % ``top1_interval``, ``num_right``, ``gmacs`` of a view, ``ms_per_view`` (mean, without decoding) and
        ``times_trained`` (its time over that of the trained ratio); ``trained_keep_ratio`` (1 where it was trained on
        all tokens), ``num_clips``, ``num_views``, ``failures``, ``hardware``.

    Raises:
        ConfigError: No ratio is given, or one is out of range.
        DataError: Labels are missing or do not fit, or not a single video can be read.
    """
    if not ratios:
        raise ConfigError("give at least one keep ratio, such as 0.6")
    trained = 1.0 if info.selection.method == "all" else info.selection.keep_ratio
    places = {ratio: _Place(with_keep_ratio(info, ratio)) for ratio in sorted({*ratios, trained}, reverse=True)}
    device = device or next(model.parameters()).device
    model.to(device)
    data = align_labels(manifest, info.class_names)
    loader = build_view_loader(
        data, info.clip, views, num_sampled_frames=num_sampled_frames(info), num_workers=num_workers
    )
    failures, num_clips, one_view = [], 0, None
    with evaluation_mode(model):
        for done, video in enumerate(loader, start=1):
            if video.error is not None:
                failures.append({"path": str(data.records[video.record_index].path), "reason": video.error})
            else:
                clips = video.to(device).frames  # [V,C,T,H,W]
                if one_view is None:  # the first time is slower
                    one_view = clips[:1]
                    _run_all(model, clips, places)
                for place, (probabilities, seconds) in zip(
                    places.values(), _run_all(model, clips, places), strict=True
                ):
                    place.seconds.append(seconds)
                    place.num_right += int(probabilities.mean(dim=0).argmax()) == video.label
                num_clips += 1
            if on_progress is not None:
                on_progress(done, len(data))
        if one_view is None:
            raise DataError(f"{manifest.source}: none of the {len(manifest)} clips can be read")
        rows = [_row(model, ratio, place, num_clips, one_view) for ratio, place in places.items()]
    base = next(row["ms_per_view"] for row in rows if row["keep_ratio"] == trained)
    return {
        "rows": [{**row, "times_trained": row["ms_per_view"] / base} for row in rows],
        "trained_keep_ratio": trained,
        "num_clips": num_clips,
        "num_views": views.num_segments * views.num_crops,
        "failures": failures,
        "hardware": describe_hardware(device),
    }


def format_dial(values: dict[str, Any]) -> str:
    """Say the result of :func:`bench_dial` to people."""
    lines = [f"{'kept':>6}{'tokens':>8}{'GMAC':>9}{'ms/view':>10}{'time':>8}{'top-1':>8}   95 % interval"]
    for row in values["rows"]:
        mark = " *" if row["keep_ratio"] == values["trained_keep_ratio"] else ""
        low, high = row["top1_interval"]
        lines.append(
            f"{row['keep_ratio']:6.2f}{row['tokens']:8}{row['gmacs']:9.3f}{row['ms_per_view']:10.2f}"
            f"{row['times_trained']:7.2f}x{row['top1']:8.1%}   {low:.1%} to {high:.1%}{mark}"
        )
    read = f"{values['num_clips']} clips, {values['num_views']} views each; {len(values['failures'])} cannot be read"
    return "\n".join([*lines, f"* as it was trained; {read}"])


def _run_all(model: Classifier, clips: Tensor, places: dict[float, _Place]) -> list[tuple[Tensor, float]]:
    """Classify at every place: probabilities [V, K] and seconds a view."""
    found = []
    for place in places.values():
        started = time.perf_counter()
        probabilities = classify_clips(model, clips, place.info).cpu()  # waits for the device
        found.append((probabilities, (time.perf_counter() - started) / len(clips)))
    return found


def _row(model: Classifier, ratio: float, place: _Place, num_clips: int, one_view: Tensor) -> dict[str, Any]:
    flop = counted_flop(lambda: classify_clips(model, one_view, place.info))
    return {
        "keep_ratio": ratio,
        "tokens": count_tokens(model.grid, place.info.selection, "finetune").num_visible,
        "top1": place.num_right / num_clips,
        "top1_interval": list(wilson_interval(place.num_right, num_clips)),
        "num_right": place.num_right,
        "gmacs": flop / 2e9,
        "ms_per_view": 1e3 * mean(place.seconds),
    }
