"""Multiply-adds of one clip's forward pass, counted by PyTorch's own counter while the model runs.

Counted are matrix products, convolutions and attention: all else is less than a hundredth. Our models run on the meta
device, which computes shapes but no values; only the scoring of tokens, and the plain peer with its boolean masks, need
values and run on the CPU with one clip.
"""

import re
from dataclasses import replace
from typing import Any, Unpack

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from everest.bench.described import Peer, TaskOptions, asked_for, describe_task, name_of
from everest.bench.distilled import count_teachers
from everest.bench.made_up import moving_clips
from everest.bench.plain import PlainAutoencoder, PlainClassifier, plain_choice
from everest.bench.tasks import build_model, expect_no_peer
from everest.config import VARYING, CheckpointInfo, ModelSize, SelectionMethod, Task
from everest.models import Classifier, MaskedModel, grid_of
from everest.models.choosing import SCORED
from everest.models.supervised.mvit import MViT
from everest.tokens import TokenCounts, count_tokens, patchify
from everest.video import normalize

PARTS = {
    "embedding": r"\.encoder\.(patch_embed(\.proj)?|stem)$",
    "encoder": r"\.encoder\.(blocks\.\d+|time_block|time_blocks\.\d+)$",
    "decoder": r"\.(decoder(\.0|_img|_vid)?\.blocks\.\d+|encoder_to_decoder(\.0)?|down_(img|vid))$",
    "head": r"\.head$",
}
"""Modules of each part, by the end of their name. ``embedding`` includes the scoring of all tokens."""


def count_macs(
    size: ModelSize,
    task: Task,
    selection: SelectionMethod,
    *,
    peer: Peer | None = None,
    **options: Unpack[TaskOptions],
) -> dict[str, Any]:
    """Count the multiply-adds of one clip.

    Args:
        size: Model size.
        task: Pre-training or fine-tuning.
        selection: Which tokens are computed.
        peer: ``plain`` for the plain peer instead of our model.
        **options: As :func:`~everest.bench.described.describe_task` takes them; scoring ``auto`` counts as exact.

    Returns:
        As :func:`count_task`.

    Raises:
        ConfigError: A name or a number that is not accepted.
    """
    return count_task(describe_task(size, task, selection, **options), peer)


@torch.no_grad()
def count_task(info: CheckpointInfo, peer: Peer | None = None) -> dict[str, Any]:
    """Count the multiply-adds of one clip.

    Args:
        info: From :func:`~everest.bench.described.describe_task`.
        peer: ``plain`` for the plain peer instead of our model.

    Returns:
        ``gmacs`` (10^9 multiply-adds of the forward pass, scoring and teachers included), ``gmacs_by_part``,
        ``gmacs_training`` (forward and backward: each product again for its weights and, except for pixels and scores,
        for its input; of teachers forward only), ``num_parameters``, ``tokens`` (``total``, ``visible``, ``target``),
        and what was asked for.

    Raises:
        ConfigError: There is no such peer, or none of this objective or network.
    """
    expect_no_peer(info, peer)
    grid = grid_of(info.model, info.clip)
    counts = count_tokens(grid, info.selection, info.task)
    with torch.device("cpu" if peer else "meta"):
        model = build_model(info, peer).eval()
    assert isinstance(model, MaskedModel | Classifier | PlainAutoencoder | PlainClassifier)  # noqa: S101
    if isinstance(model, PlainAutoencoder | PlainClassifier):
        by_part, embedded = _count_plain(model, info), grid.num_tokens  # those whose embedding has a gradient
    else:
        by_part, counts = _count(model, info)
        embedded = counts.num_visible
    by_weights = embedded * grid.num_pixels * _embedding_width(model) / 1e9
    if isinstance(model.encoder, MViT):  # pixels have no gradient there either
        by_weights = by_part["embedding"]
    once = by_part["embedding"]  # what has no backward pass, or one of its own
    if info.objective.name == "mvd":
        by_part["teachers"] = count_teachers(info)
        once += by_part["teachers"]
    gmacs = sum(by_part.values())
    return {
        **asked_for(info, peer),
        "num_parameters": sum(parameter.numel() for parameter in model.parameters()),
        "tokens": {"total": grid.num_tokens, "visible": counts.num_visible, "target": counts.num_target},
        "gmacs": gmacs,
        "gmacs_by_part": by_part,
        "gmacs_training": once + by_weights + 3 * (gmacs - once),
    }


def format_macs(values: dict[str, Any]) -> str:
    """Say the result of :func:`count_macs` to people, in a few lines."""
    tokens, clip = values["tokens"], values["clip"]
    shape = f"{clip['num_frames']}x{clip['height']}x{clip['width']}"
    parts = ", ".join(f"{part} {gmacs:.2f}" for part, gmacs in values["gmacs_by_part"].items())
    return "\n".join(
        [
            f"{name_of(values)}: {values['gmacs']:.2f} GMAC for a clip of {shape} ({parts})",
            f"tokens: {tokens['visible']} encoded and {tokens['target']} predicted of {tokens['total']}"
            + (", of a made-up clip: others keep others" if values["selection"] in VARYING else ""),
        ]
    )


def _count(model: MaskedModel | Classifier, info: CheckpointInfo) -> tuple[dict[str, float], TokenCounts]:
    """Count ours: choose with values on the CPU, then run without values; with the tokens that were chosen.

    On the CPU the counter would miss attention, whose kernel there it does not know.
    """
    grid, encoder = grid_of(info.model, info.clip), model.encoder
    patches = patchify(normalize(moving_clips(1, info), info.mean, info.std), grid)
    scored = info.selection.method in SCORED
    if scored:
        encoder.patch_embed.to_empty(device="cpu")
    with FlopCounterMode(display=False) as scoring:
        chosen = encoder.select(patches, info.selection, info.task)
    if scored:
        encoder.patch_embed.to("meta")
    embedded = None if chosen.embedded is None else chosen.embedded.to("meta")
    selection = replace(
        chosen, visible=chosen.visible.to("meta"), target=chosen.target.to("meta"), scores=None, embedded=embedded
    )
    by_part = _by_part(model, patches.to("meta"), selection)
    by_part["embedding"] += scoring.get_total_flops() / 2e9
    return by_part, TokenCounts(chosen.visible.shape[1], chosen.target.shape[1])


def _embedding_width(model: nn.Module) -> int:
    """Channels that a tubelet is embedded in."""
    names = ("encoder.patch_embed.proj.weight", "encoder.stem.weight")
    return next(len(weight) for name, weight in model.named_parameters() if name in names)


def _count_plain(model: nn.Module, info: CheckpointInfo) -> dict[str, float]:
    return _by_part(model, normalize(moving_clips(1, info), info.mean, info.std), plain_choice(info))


def _by_part(model: nn.Module, *inputs: object) -> dict[str, float]:
    """Run a model and add up what its modules multiply, in 10^9 multiply-adds."""
    with FlopCounterMode(display=False, depth=99) as counter:
        model(*inputs)
    flops = {name: sum(by_operation.values()) for name, by_operation in counter.get_flop_counts().items()}
    return {
        part: sum(count for name, count in flops.items() if re.search(pattern, name)) / 2e9
        for part, pattern in PARTS.items()
    }
