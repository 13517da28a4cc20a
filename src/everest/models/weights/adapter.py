"""What every adapter gives: tensors by our names, what the file says of its model, and what was left out and why.

Shapes: N tokens, D width.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from everest.config import CheckpointInfo, ObjectiveName, SelectionConfig
from everest.models.weights.files import Raw

Part = Literal["pretrain", "finetune", "encoder"]

DECODER_UNUSED = "the decoder is not needed for fine-tuning"
KEY_BIAS_UNUSED = (
    "a bias of the keys adds the same number to all scores of a query, which the softmax cancels; here it is 0"
)
TABLE_UNUSED = "a fixed table of positions, made anew"


@dataclass(frozen=True)
class Facts:
    """What a file says of its model beside the tensors; None where it does not.

    Attributes:
        num_frames, height, width: Of a clip.
        stride: Frames of the video from one sampled frame to the next.
        class_names: By class index.
        mean, std: Per channel, of values scaled to 0..1.
        norm_epsilon, head_norm_epsilon: Of the model's norms.
        num_heads, decoder_heads: Which tensors do not tell.
        selection: Which tokens it was trained on.
        positions: The saved table of the encoder, shape [1, N, D].
        encoder_norm: Whether a pre-training encoder closes with a norm; all but transformers' do.
    """

    num_frames: int | None = None
    height: int | None = None
    width: int | None = None
    stride: int | None = None
    class_names: tuple[str, ...] | None = None
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    norm_epsilon: float | None = None
    head_norm_epsilon: float | None = None
    num_heads: int | None = None
    decoder_heads: int | None = None
    selection: SelectionConfig | None = None
    positions: Tensor | None = None
    encoder_norm: bool = True


@dataclass(frozen=True)
class Renamed:
    """A checkpoint by our names.

    Attributes:
        part: A pre-training model, a classifier, or an encoder alone.
        state: Tensors by our keys.
        objective: What a pre-training model predicts.
        unused: Reason by key, of tensors of the file that are not in ``state``.
        notes: What is worth knowing of the way from there to here.
        facts: What the file says of its model.
    """

    part: Part
    state: dict[str, Tensor]
    objective: ObjectiveName = "pixels"
    unused: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    facts: Facts = field(default_factory=Facts)


Write = Callable[[Mapping[str, Tensor], CheckpointInfo, Path], tuple[str, ...]]


@dataclass(frozen=True)
class Adapter:
    """One format: how it is recognised, read and, where that makes sense, written.

    Attributes:
        name: What the command line calls it.
        title: For people.
        recognise: Says by what it knows a checkpoint; None if it does not.
        read: Renames one; what is recognised and cannot be used is a WeightsError.
        write: Writes our tensors in this format and returns what the reader should know; None: not written.
    """

    name: str
    title: str
    recognise: Callable[[Raw], str | None]
    read: Callable[[Raw], Renamed]
    write: Write | None = None


def part_of(state: Mapping[str, Tensor]) -> Part:
    """Tell from our keys what a state dict is of."""
    if any(key.startswith(("decoder", "mask_token", "encoder_to_decoder")) for key in state):
        return "pretrain"
    return "finetune" if "head.weight" in state else "encoder"


def tidy_attention(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str], tuple[str, ...]]:
    """Bring the biases of attention to ours: of queries and values, and none of keys.

    Args:
        state: Tensors by our keys, with ``attn.qkv.bias`` [3 D] instead of ``attn.q_bias`` and ``attn.v_bias``, or with
            an ``attn.k_bias``, or without any.

    Returns:
        The tensors with both biases, reasons for what was left out, by key, and notes.
    """
    tidy = dict(state)
    dropped: dict[str, Tensor] = {}
    absent = 0
    for key in [key for key in state if key.endswith(".attn.qkv.weight")]:
        attention = key.removesuffix("qkv.weight")
        joint = tidy.pop(f"{attention}qkv.bias", None)
        if joint is not None and joint.ndim == 1 and len(joint) % 3 == 0:
            tidy[f"{attention}q_bias"], dropped[f"{attention}qkv.bias"], tidy[f"{attention}v_bias"] = joint.chunk(3)
        if f"{attention}k_bias" in tidy:
            dropped[f"{attention}k_bias"] = tidy.pop(f"{attention}k_bias")
        if f"{attention}q_bias" not in tidy and f"{attention}v_bias" not in tidy:
            absent += 1
            for name in ("q_bias", "v_bias"):
                tidy[f"{attention}{name}"] = torch.zeros_like(state[key][0])  # [D]
    biased = {key for key, value in dropped.items() if bool((value != 0).any())}
    notes = []
    if biased:
        notes.append(f"key biases of {len(biased)} blocks left out: {KEY_BIAS_UNUSED}")
    if absent:
        notes.append(f"{absent} blocks have no biases of queries and values in the file: 0 here, which is the same")
    unused = {key: KEY_BIAS_UNUSED for key in dropped if key.endswith("k_bias")}
    return tidy, unused, tuple(notes)


def whole(values: Mapping[str, Any], name: str) -> int | None:
    """Take a whole number above 0 out of settings that anybody may have written; None where there is none."""
    value = values.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def share(values: Mapping[str, Any], name: str) -> float | None:
    """Take 1 minus a ratio, as the share that is kept, out of such settings."""
    value = values.get(name)
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < 1:
        return None
    return round(1 - value, 6)
