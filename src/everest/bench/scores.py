"""Other ways to find the tokens that change: what they cost, and how often they pick other tokens.

Shapes: B clips, C channels, T frames, H height, W width, N tokens.
"""

from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any, TypedDict

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from everest.bench.described import describe_task
from everest.bench.footage import read_clips
from everest.bench.hardware import describe_hardware, now
from everest.config import SCORINGS_OF, WHOLE_CLIP_ARCHS, Camera, CheckpointInfo, Distance, ModelSize, Scoring
from everest.datasets import Manifest
from everest.errors import ConfigError
from everest.models import build_autoencoder, load_model
from everest.models.encoder import Encoder
from everest.models.scoring import score_tokens
from everest.models.tubelets import Tubelets, cut
from everest.tokens import num_tokens, rank_by_score


class Way(TypedDict, total=False):
    """How tokens are scored, as :func:`~everest.models.scoring.score_tokens` takes it."""

    scoring: Scoring
    distance: Distance
    camera: Camera


SCORINGS: dict[str, Way] = {
    **{name: Way(scoring=name) for name in SCORINGS_OF["l2"] if name != "auto"},
    "l1": Way(scoring="exact", distance="l1"),
    "cosine": Way(scoring="exact", distance="cosine"),
    "pixels, l1": Way(scoring="pixels", distance="l1"),
    "pixels, cosine": Way(scoring="pixels", distance="cosine"),
    "moving camera": Way(scoring="exact", camera="moving"),
}
"""What is compared: measured on embeddings or pixels, by the paper's distance or others, beside a camera's motion."""
KEEP_RATIOS = (0.3, 0.6)
_ROUNDS = 5
_TOGETHER = 4  # clips that are scored at a time, as in a small batch


def bench_scores(
    manifest: Manifest,
    *,
    checkpoint: Path | None = None,
    size: ModelSize = "base",
    num_clips: int = 48,
    device: torch.device | None = None,
    seed: int = 0,
    on_progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Compare the ways to score tokens on real clips.

    Args:
        manifest: Where the clips are taken from, evenly; files that cannot be read are replaced, as in training.
        checkpoint: Whose embedding is asked; None: one that has learnt nothing, of the given size, for 16 frames of
            224 x 224.
        size: Of the model without a checkpoint.
        num_clips: Clips to compare on.
        device: Where to compute; None: the CPU.
        seed: Of clips and weights.
        on_progress: Called with the number of finished and of all ways.

    Returns:
        Values that JSON can hold: ``scorings``, each with ``name``, ``ms_per_clip`` (median), ``gmacs`` of a clip,
        ``agreement`` (the share of the tokens kept by exact scores that it keeps too: ``keep_ratio``, ``mean`` and
        ``lowest`` over clips); ``num_clips``, ``hardware`` and what was asked for.

    Raises:
        ConfigError: No clip is asked for.
        DataError: No file can be read.
        WeightsError: The checkpoint cannot be read.
    """
    if num_clips < 1:
        raise ConfigError(f"compare on at least one clip, given: {num_clips}")
    device = device or torch.device("cpu")
    encoder, info = _encoder(checkpoint, size, seed)
    encoder.to(device).eval()
    clips = read_clips(manifest, info.clip, num_clips, seed)  # [B,C,T,H,W]
    batches = [cut(part.to(device), encoder.grid, info.mean, info.std) for part in torch.split(clips, _TOGETHER)]
    exact = _score(SCORINGS["exact"], encoder, batches)
    rows = []
    for name, way in SCORINGS.items():
        rows.append({"name": name, **_measure(way, encoder, batches, exact)})
        if on_progress is not None:
            on_progress(len(rows), len(SCORINGS))
    return {
        "scorings": rows,
        "num_clips": len(clips),
        "checkpoint": None if checkpoint is None else str(checkpoint),
        "size": info.model.size,
        "clip": info.clip.model_dump(mode="json"),
        "manifest_digest": manifest.digest,
        "hardware": describe_hardware(device),
    }


def format_scores(values: dict[str, Any]) -> str:
    """Say the result of :func:`bench_scores` to people."""
    titles = "".join(f"{f'same of {ratio:.0%} kept':>24}" for ratio in KEEP_RATIOS)
    lines = [f"{'':20}{'ms/clip':>9}{'GMAC':>8}{titles}"]
    for row in values["scorings"]:
        same = "".join(f"{r['mean']:>11.2%} (from {r['lowest']:.1%})" for r in row["agreement"])
        lines.append(f"{row['name']:20}{row['ms_per_clip']:9.2f}{row['gmacs']:8.3f}{same}")
    weights = values["checkpoint"] or "an embedding that has learnt nothing"
    lines.append(f"{values['num_clips']} clips, {values['size']}, {weights}")
    return "\n".join(lines)


def _encoder(checkpoint: Path | None, size: ModelSize, seed: int) -> tuple[Encoder, CheckpointInfo]:
    if checkpoint is not None:
        model, info = load_model(checkpoint)
        if info.model.arch in WHOLE_CLIP_ARCHS:
            raise ConfigError(f"{checkpoint}: model.arch={info.model.arch} takes whole clips and scores no token")
        return model.encoder, info
    info = describe_task(size, "pretrain", "rero")
    torch.manual_seed(seed)
    return build_autoencoder(info.model, info.clip).encoder, info


def _score(way: Way, encoder: Encoder, batches: list[Tensor | Tubelets]) -> Tensor:
    """Score all clips in one way: [B, N]."""
    return torch.cat([score_tokens(encoder.patch_embed, batch, encoder.grid, **way)[0] for batch in batches])


def _measure(way: Way, encoder: Encoder, batches: list[Tensor | Tubelets], exact: Tensor) -> dict[str, Any]:
    """Score all clips in one way, again and again."""
    seconds = []
    for _ in range(1 + _ROUNDS):
        started = now(exact.device)
        scores = _score(way, encoder, batches)
        seconds.append(now(exact.device) - started)
    with FlopCounterMode(display=False) as counter:
        _score(way, encoder, batches)
    return {
        "ms_per_clip": 1e3 * median(seconds[1:]) / len(exact),
        "gmacs": counter.get_total_flops() / 2e9 / len(exact),
        "agreement": [{"keep_ratio": ratio, **_agreement(scores, exact, ratio)} for ratio in KEEP_RATIOS],
    }


def _agreement(scores: Tensor, exact: Tensor, keep_ratio: float) -> dict[str, float]:
    """The share of the tokens kept by exact scores that are kept by others too; mean and lowest over clips."""
    num_kept = num_tokens(keep_ratio, exact.shape[1])
    ours, theirs = (
        torch.zeros_like(each, dtype=torch.bool).scatter_(1, rank_by_score(each)[:, :num_kept], True)
        for each in (scores, exact)
    )
    share = (ours & theirs).sum(dim=1) / num_kept  # [B]
    return {"mean": float(share.mean()), "lowest": float(share.min())}
