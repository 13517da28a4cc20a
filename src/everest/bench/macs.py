"""Multiply-adds of one clip's forward pass, counted by PyTorch's own counter while the model runs.

Counted are matrix products, convolutions and attention: all else is less than a hundredth. Our models run on the meta
device, which computes shapes but no values; only the scoring of tokens, and the plain peer with its boolean masks, need
values and run on the CPU with one clip.
"""

import re
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from everest.bench.plain import PlainAutoencoder, PlainClassifier, plain_choice
from everest.bench.tasks import NUM_CLASSES, Peer, build_model, describe_task, moving_clips
from everest.config import Arch, CheckpointInfo, ModelSize, Scoring, SelectionMethod, Task
from everest.models import Classifier, MaskedAutoencoder, grid_of
from everest.models.supervised.mvit import MViT
from everest.tokens import TokenSelection, count_tokens, patchify
from everest.video import normalize

PARTS = {
    "embedding": r"\.encoder\.(patch_embed(\.proj)?|stem)$",
    "encoder": r"\.encoder\.(blocks\.\d+|time_block|time_blocks\.\d+)$",
    "decoder": r"\.(decoder\.blocks\.\d+|encoder_to_decoder)$",
    "head": r"\.head$",
}
"""Modules of each part, by the end of their name. ``embedding`` includes the scoring of all tokens."""


@torch.no_grad()
def count_macs(
    size: ModelSize,
    task: Task,
    selection: SelectionMethod,
    *,
    num_frames: int = 16,
    height: int = 224,
    width: int = 224,
    num_classes: int = NUM_CLASSES,
    peer: Peer | None = None,
    scoring: Scoring = "auto",
    keep_ratio: float | None = None,
    arch: Arch = "vit",
    tubelet_size: int = 2,
) -> dict[str, Any]:
    """Count the multiply-adds of one clip.

    Args:
        size: Model size.
        task: Pre-training or fine-tuning.
        selection: Which tokens are computed.
        num_frames: Frames of the clip.
        height: Height of the clip in pixels.
        width: Width of the clip in pixels.
        num_classes: Of the classifier.
        peer: ``plain`` for the plain peer instead of our model.
        scoring: How the tokens that change are found; ``auto`` counts as exact.
        keep_ratio: Share of all tokens that is kept; None: the paper's.
        arch: The network.
        tubelet_size: Frames of a tubelet.

    Returns:
        ``gmacs`` (10^9 multiply-adds of the forward pass, scoring included), ``gmacs_by_part``, ``gmacs_training``
        (forward and backward: each product again for its weights and, except for pixels and scores, for its input),
        ``tokens`` (``total``, ``visible``, ``target``), and what was asked for.

    Raises:
        ConfigError: A name or a number that is not accepted.
    """
    shape: dict[str, Any] = {"num_frames": num_frames, "height": height, "width": width, "num_classes": num_classes}
    shape |= {"arch": arch, "tubelet_size": tubelet_size}
    info = describe_task(size, task, selection, scoring=scoring, keep_ratio=keep_ratio, **shape)
    grid = grid_of(info.model, info.clip)
    counts = count_tokens(grid, info.selection, task)
    with torch.device("cpu" if peer else "meta"):
        model = build_model(info, peer).eval()
    assert isinstance(model, MaskedAutoencoder | Classifier | PlainAutoencoder | PlainClassifier)  # noqa: S101
    by_part = (
        _count_plain(model, info) if isinstance(model, PlainAutoencoder | PlainClassifier) else _count(model, info)
    )
    embedded = grid.num_tokens if peer else counts.num_visible  # those whose embedding has a gradient
    by_weights = embedded * grid.num_pixels * _embedding_width(model) / 1e9
    if isinstance(model.encoder, MViT):  # pixels have no gradient there either
        by_weights = by_part["embedding"]
    gmacs = sum(by_part.values())
    return {
        "size": size,
        "task": task,
        "selection": selection,
        "peer": peer,
        "arch": arch,
        "num_parameters": sum(parameter.numel() for parameter in model.parameters()),
        "clip": {"num_frames": num_frames, "height": height, "width": width},
        "tokens": {"total": grid.num_tokens, "visible": counts.num_visible, "target": counts.num_target},
        "gmacs": gmacs,
        "gmacs_by_part": by_part,
        "gmacs_training": by_part["embedding"] + by_weights + 3 * (gmacs - by_part["embedding"]),
    }


def format_macs(values: dict[str, Any]) -> str:
    """Say the result of :func:`count_macs` to people, in a few lines."""
    tokens, clip = values["tokens"], values["clip"]
    of = "" if values["arch"] == "vit" else f"{values['arch']} "
    name = f"{of}{values['size']} {values['task']}, {values['selection']}" + (", plain peer" if values["peer"] else "")
    shape = f"{clip['num_frames']}x{clip['height']}x{clip['width']}"
    parts = ", ".join(f"{part} {gmacs:.2f}" for part, gmacs in values["gmacs_by_part"].items())
    return "\n".join(
        [
            f"{name}: {values['gmacs']:.2f} GMAC for a clip of {shape} ({parts})",
            f"tokens: {tokens['visible']} encoded and {tokens['target']} predicted of {tokens['total']}",
        ]
    )


def _count(model: MaskedAutoencoder | Classifier, info: CheckpointInfo) -> dict[str, float]:
    """Count ours: score with values on the CPU, then run without values.

    On the CPU the counter would miss attention, whose kernel there it does not know.
    """
    grid, encoder = grid_of(info.model, info.clip), model.encoder
    patches, scored = torch.empty(1, grid.num_tokens, grid.num_pixels, device="meta"), info.selection.method == "rero"
    if scored:
        encoder.patch_embed.to_empty(device="cpu")
        patches = patchify(normalize(moving_clips(1, info), info.mean, info.std), grid)
    with FlopCounterMode(display=False) as scoring:
        chosen = encoder.select(patches, info.selection, info.task)
    if scored:
        encoder.patch_embed.to("meta")
    embedded = None if chosen.embedded is None else chosen.embedded.to("meta")
    selection = TokenSelection(chosen.visible.to("meta"), chosen.target.to("meta"), grid, embedded=embedded)
    by_part = _by_part(model, patches.to("meta"), selection)
    by_part["embedding"] += scoring.get_total_flops() / 2e9
    return by_part


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
