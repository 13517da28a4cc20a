"""Is it better to give each clip as many tokens as its motion asks for, at the same cost on average?

    python experiments/f_adaptive.py --data runs/experiments/data --out runs/experiments

What EVEREST's pre-training gave is fine-tuned with 40 and with 60 % of the tokens of every clip, and with adaptive
selection, whose share of the change to be covered is chosen so that the training clips of the task keep as many.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from a_pretraining import EVEREST
from b_keep_ratio import keep
from profiles import Settings
from torch import Tensor
from trials import Arm, Bench, Tuning, main

import everest
from everest.models import Encoder, load_model
from everest.models.scoring import score_tokens
from everest.models.tubelets import cut
from everest.tokens.others.adaptive import count_by_coverage
from everest.video import read_clip, resize_short_side, to_channels_first

LEAST = 0.05  # share that every clip keeps, the default of adaptive selection


def scores_of(bench: Bench, task: str, run: Path) -> Tensor:
    """Score the tokens of the middle of each training clip, as the pre-trained encoder sees them: [clips, N]."""
    model, info = load_model(run)
    encoder = model.encoder
    assert isinstance(encoder, Encoder)  # noqa: S101 - a pre-trained ViT
    num_frames, side, _ = encoder.grid.clip_shape
    rows = []
    for record in everest.load_data(bench.manifest(task)).split("train").records:
        video = everest.video.probe(record.source)
        indices = [min(place, video.num_frames - 1) for place in range(num_frames)]
        frames = resize_short_side(to_channels_first(read_clip(record.source, indices)), side)  # [C, T, H, W]
        left, top = (frames.shape[3] - side) // 2, (frames.shape[2] - side) // 2
        clip = frames[None, :, :, top : top + side, left : left + side].contiguous()
        rows.append(score_tokens(encoder.patch_embed, cut(clip, encoder.grid, info.mean, info.std), encoder.grid)[0])
    return torch.cat(rows)


def coverage_for(scores: Tensor, ratio: float) -> float:
    """Find the share of the change that keeps a share of the tokens on average, to a thousandth."""
    low, high, num_tokens = 0.0, 1.0, scores.shape[1]
    while high - low > 1e-3:
        middle = (low + high) / 2
        kept = count_by_coverage(scores, middle, int(LEAST * num_tokens), num_tokens).float().mean() / num_tokens
        low, high = (middle, high) if kept < ratio else (low, middle)
    return round((low + high) / 2, 4)


def adaptive(ratio: float) -> Tuning:
    """Keep a share of the tokens on average, each clip what it asks for."""

    def settings(bench: Bench, task: str, init: Path | None) -> Settings:
        assert init is not None  # noqa: S101 - the arm is pre-trained
        coverage = coverage_for(scores_of(bench, task, init), ratio)
        return {**keep("adaptive", 1.0), "selection.coverage": coverage, "selection.min_keep_ratio": LEAST}

    return settings


ARMS = (
    Arm(
        "everest",
        EVEREST,
        {f"{ratio:.0%} of each": keep("rero", ratio) for ratio in (0.6, 0.4)}
        | {f"{ratio:.0%} on average": adaptive(ratio) for ratio in (0.6, 0.4)},
        probed=(),
    ),
)


def run(words: Sequence[str] | None = None) -> int:
    """From the command line."""
    return main(__doc__, "f", ARMS, words)


if __name__ == "__main__":
    raise SystemExit(run())
