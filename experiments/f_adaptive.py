"""Is it better to give each clip as many tokens as its motion asks for, as many on average?

    python experiments/f_adaptive.py --data runs/experiments/data --out runs/experiments

What EVEREST's pre-training gave is fine-tuned with 40 and with 60 % of the tokens of every clip, and with adaptive
selection, whose share of the change to be covered is chosen so that the training clips of the task keep as many, as the
pre-trained embedding scores them. What the classifier keeps of the test clips in the end is in the results.
"""

from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from a_pretraining import EVEREST
from b_keep_ratio import keep
from command import parser_of, run_from
from lists import Bench
from looking import clips_of, encoder_of, views_of
from profiles import Settings
from torch import Tensor
from trials import Arm, Tuning

from everest.models.scoring import score_tokens
from everest.models.tubelets import cut
from everest.tokens.others.adaptive import count_by_coverage

LEAST = 0.05  # share that every clip keeps, the default of adaptive selection


def scores_of(bench: Bench, task: str, run: Path, split: str) -> Tensor:
    """Score the tokens of each clip of a part of a task, as an encoder sees them in evaluation: [clips, N]."""
    encoder, info = encoder_of(run)
    rows = []
    for clip in clips_of(views_of(bench, task, split, info)):
        patches = cut(clip, encoder.grid, info.mean, info.std)
        rows.append(score_tokens(encoder.patch_embed, patches, encoder.grid)[0])
    return torch.cat(rows)


def kept_of(bench: Bench, task: str, run: Path) -> dict[str, Any]:
    """Say which share of the tokens a classifier keeps of the test clips: the mean, and the least and most."""
    config = encoder_of(run)[1].selection
    if config.method != "adaptive":
        return {}
    scores = scores_of(bench, task, run, "test")
    counts = count_by_coverage(scores, config.coverage, int(LEAST * scores.shape[1]), scores.shape[1])
    kept = (counts / scores.shape[1]).tolist()
    return {"coverage": config.coverage, "kept": [round(each, 4) for each in (mean(kept), min(kept), max(kept))]}


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
        coverage = coverage_for(scores_of(bench, task, init, "train"), ratio)
        return {**keep("adaptive", 1.0), "selection.coverage": coverage, "selection.min_keep_ratio": LEAST}

    return settings


ARMS = (
    Arm(
        "everest",
        EVEREST,
        {f"{ratio:.0%} of each": keep("rero", ratio) for ratio in (0.6, 0.4)}
        | {f"{ratio:.0%} on average": adaptive(ratio) for ratio in (0.6, 0.4)},
        probed=(),
        also=kept_of,
    ),
)


def run(words: Sequence[str] | None = None) -> int:
    """From the command line."""
    return run_from(parser_of(__doc__).parse_args(words), "f", ARMS)


if __name__ == "__main__":
    raise SystemExit(run())
