"""How many tokens each selection keeps of real clips, what choosing them costs, and what computing them costs then.

Shapes: B clips, C channels, T frames, H height, W width.
"""

from collections.abc import Callable
from dataclasses import replace
from statistics import mean
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from everest.bench.described import describe_task
from everest.bench.footage import read_clips
from everest.bench.hardware import describe_hardware, now
from everest.config import ModelSize, SelectionConfig
from everest.datasets import Manifest
from everest.errors import ConfigError
from everest.models import Classifier, build_classifier
from everest.models.tubelets import Tubelets, cut
from everest.tokens import TokenSelection

ARMS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("all tokens", {"method": "all", "keep_ratio": 1.0}),
    ("ReRo, 60 %", {"method": "rero", "keep_ratio": 0.6}),
    ("ReRo, 30 %", {"method": "rero", "keep_ratio": 0.3}),
    ("adaptive, 95 % of the change", {"method": "adaptive", "keep_ratio": 1.0, "coverage": 0.95}),
    ("adaptive, 80 % of the change", {"method": "adaptive", "keep_ratio": 1.0, "coverage": 0.8}),
    ("run-length (RLT)", {"method": "rlt", "keep_ratio": 1.0}),
    ("K-centred, 60 %", {"method": "k_centered", "keep_ratio": 0.6}),
)
"""Name, and settings of the selection in fine-tuning."""

_TOGETHER = 4  # clips of a batch


def bench_selections(
    manifest: Manifest,
    *,
    size: ModelSize = "small",
    num_clips: int = 24,
    device: torch.device | None = None,
    seed: int = 0,
    on_progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Run a classifier on real clips with every selection that looks at them.

    Args:
        manifest: Where the clips are taken from, evenly; files that cannot be read are replaced, as in training.
        size: Of the model, which has learnt nothing, for 16 frames of 224 x 224.
        num_clips: Clips to run on.
        device: Where to compute; None: the CPU.
        seed: Of clips and weights.
        on_progress: Called with the number of finished and of all selections.

    Returns:
        Values that JSON can hold: ``selections``, each with ``name``, its settings, ``tokens`` (``mean``, ``lowest``
        and ``highest`` over clips), ``choose_ms`` and ``forward_ms`` of a clip (totals over all clips by their number;
        the forward pass is of the classifier, without gradients), and ``gmacs`` of a clip without those of choosing;
        ``num_tokens`` of a clip, ``num_clips``, ``hardware`` and what was asked for.

    Raises:
        ConfigError: No clip is asked for.
        DataError: No file can be read.
    """
    if num_clips < 1:
        raise ConfigError(f"compare on at least one clip, given: {num_clips}")
    device = device or torch.device("cpu")
    info = describe_task(size, "finetune", "rero")
    torch.manual_seed(seed)
    model = build_classifier(info.model, info.clip, len(info.class_names)).to(device).eval()
    with torch.device("meta"):
        unreal = build_classifier(info.model, info.clip, len(info.class_names)).eval()  # for counting
    clips = read_clips(manifest, info.clip, num_clips, seed)  # [B,C,T,H,W]
    batches = [cut(part.to(device), model.grid, info.mean, info.std) for part in torch.split(clips, _TOGETHER)]
    rows = []
    for name, settings in ARMS:
        config = SelectionConfig(encode_ratio=0.1, **settings)
        rows.append({"name": name, **settings, **_measure(model, unreal, config, batches)})
        if on_progress is not None:
            on_progress(len(rows), len(ARMS))
    return {
        "selections": rows,
        "num_tokens": model.grid.num_tokens,
        "num_clips": len(clips),
        "size": size,
        "manifest_digest": manifest.digest,
        "hardware": describe_hardware(device),
    }


def format_selections(values: dict[str, Any]) -> str:
    """Say the result of :func:`bench_selections` to people."""
    lines = [f"{'':30}{'tokens':>8}{'fewest to most':>16}{'share':>8}{'GMAC':>8}{'choose, ms':>12}{'forward, ms':>13}"]
    for row in values["selections"]:
        tokens = row["tokens"]
        spread = f"{tokens['lowest']} to {tokens['highest']}"
        lines.append(
            f"{row['name']:30}{tokens['mean']:8.0f}{spread:>16}{tokens['mean'] / values['num_tokens']:8.0%}"
            f"{row['gmacs']:8.2f}{row['choose_ms']:12.1f}{row['forward_ms']:13.1f}"
        )
    lines.append(
        f"{values['num_clips']} clips of {values['num_tokens']} tokens, {values['size']} classifier, forward pass, "
        f"{values['hardware']['name']}; all numbers are means of a clip"
    )
    return "\n".join(lines)


@torch.no_grad()
def _measure(
    model: Classifier, unreal: Classifier, config: SelectionConfig, batches: list[Tensor | Tubelets]
) -> dict[str, Any]:
    """Choose tokens and classify, once for warming up and once for the clock."""
    chosen: list[TokenSelection] = []
    choosing = computing = 0.0
    for number, patches in enumerate([batches[0], *batches]):
        started = now(patches.device)
        selection = model.encoder.select(patches, config, "finetune")
        between = now(patches.device)
        model(patches, selection)
        if number:  # the first one warms up
            choosing, computing = choosing + between - started, computing + now(patches.device) - between
            chosen.append(selection)
    lengths = [n for s in chosen for n in ([c.num_visible for c in s.counts] or [s.visible.shape[1]] * s.num_clips)]
    flops = 0
    for selection in chosen:
        patches = torch.empty(selection.num_clips, model.grid.num_tokens, model.grid.num_pixels, device="meta")
        numbers = replace(
            selection, visible=selection.visible.to("meta"), target=selection.target.to("meta"), embedded=None
        )
        with FlopCounterMode(display=False) as counter:
            unreal(patches, numbers)
        flops += counter.get_total_flops()
    return {
        "tokens": {"mean": mean(lengths), "lowest": min(lengths), "highest": max(lengths)},
        "gmacs": flops / 2e9 / len(lengths),
        "choose_ms": 1e3 * choosing / len(lengths),
        "forward_ms": 1e3 * computing / len(lengths),
    }
