"""Checkpoints of VideoMAE and of all who kept its keys: the EVEREST release, VideoMAE V2, and MME's fine-tuned ones.

Pre-trained: ``encoder.patch_embed.proj``, ``encoder.blocks.N.attn.qkv.weight``, ``decoder.blocks.N``, ``mask_token``
and so on, which are our keys. Fine-tuned: ``patch_embed``, ``blocks``, ``fc_norm``, ``head``, without ``encoder.``.
Position tables are fixed and not saved. The scripts leave their arguments in the file, which say what clip the model
takes.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from everest.config import CheckpointInfo, SelectionConfig
from everest.errors import WeightsError
from everest.models.weights.adapter import Adapter, Facts, Renamed, part_of, share, tidy_attention, whole
from everest.models.weights.files import Raw
from everest.models.weights.writing import expect_plain, write_file, write_safetensors

_ENCODER = ("patch_embed.", "blocks.", "norm.")
_EPSILON = 1e-6
V2_MARKS = ("decoder_mask_type", "decoder_mask_ratio")  # arguments of VideoMAE V2's dual masking
V2_TYPE = "VideoMAEv2"


def recognise(raw: Raw) -> str | None:
    """Know the pre-trained and the fine-tuned layout by the patch embedding and the first block."""
    for prefix in ("encoder.", ""):
        keys = (f"{prefix}patch_embed.proj.weight", f"{prefix}blocks.0.attn.qkv.weight")
        if all(key in raw.tensors for key in keys) and not _of_others(raw):
            return f"has {keys[0]} and {keys[1]}"
    return None


def read(raw: Raw) -> Renamed:
    """Rename a checkpoint, and read what its arguments say."""
    state, unused, notes = tidy_attention(from_release(raw.tensors))
    table = state.pop("encoder.pos_embed", None)
    return Renamed(part_of(state), state, unused=unused, notes=notes, facts=facts_of_args(raw, table))


def from_release(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename a state dict of the EVEREST release (or of VideoMAE) to ours.

    Pre-training checkpoints have our names already. Fine-tuned ones lack the prefix ``encoder.``.

    Args:
        state: Tensors by the release's keys.
    """
    if any(key.startswith("encoder.") for key in state):
        return dict(state)
    return {f"encoder.{k}" if k.startswith(_ENCODER) or k == "pos_embed" else k: v for k, v in state.items()}


def to_release(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename ours to those of the release: the inverse of :func:`from_release`."""
    if any(key.startswith("decoder.") for key in state):
        return dict(state)
    return {key.removeprefix("encoder."): value for key, value in state.items()}


def facts_of_args(raw: Raw, positions: Tensor | None = None) -> Facts:
    """Read from the arguments of VideoMAE's scripts, and of those made of them, which clip the model takes.

    Args:
        raw: With or without arguments.
        positions: The encoder's table, where it is saved.
    """
    args = raw.args
    side = whole(args, "input_size")
    return Facts(
        num_frames=whole(args, "num_frames"),
        height=side,
        width=side,
        stride=whole(args, "sampling_rate"),
        norm_epsilon=_EPSILON,
        head_norm_epsilon=_EPSILON,
        selection=_selection(raw),
        positions=positions,
    )


def _selection(raw: Raw) -> SelectionConfig | None:
    """Which tokens a model was trained on, as the arguments of VideoMAE and of the release say it."""
    args = raw.args
    if args.get("mcm") is True:  # fine-tuning of the release on the tokens that change
        keep = share(args, "mcm_ratio")
        return None if keep is None else SelectionConfig(method="rero", keep_ratio=keep, encode_ratio=keep)
    encode, keep = share(args, "mask_ratio"), share(args, "motion_centric_masking_ratio")
    if args.get("mask_type") == "motion-centric" and encode is not None and keep is not None and encode <= keep:
        return SelectionConfig(method="rero", keep_ratio=keep, encode_ratio=encode)
    if args.get("mask_type") == "tube" and encode is not None:
        return SelectionConfig(method="tube", keep_ratio=1.0, encode_ratio=encode)
    return None


def _of_others(raw: Raw) -> bool:
    """Whether it is of MME, MVD or VideoMAE V2, which kept most of the names, and whose adapters know it."""
    marks = ("decoder.0.", "encoder_to_decoder.0.", "mask_token_", "decoder_img.", "decoder_vid.")
    if "pos_embed" in raw.tensors or any(key.startswith(marks) for key in raw.tensors):
        return True
    return any(mark in raw.args for mark in V2_MARKS) or str(raw.config.get("model_type", "")).startswith(V2_TYPE)


def write(state: Mapping[str, Tensor], info: CheckpointInfo, path: Path) -> tuple[str, ...]:
    """Write ``{"model": ...}`` for VideoMAE's and the release's scripts, or the bare tensors as safetensors.

    Args:
        state: Tensors by our keys.
        info: What travels with them.
        path: A new file, ``.pth`` or ``.safetensors``.

    Raises:
        WeightsError: The model has something that VideoMAE has no place for.
    """
    expect_plain(info, "VideoMAE")
    if not info.model.encoder_norm and info.task == "pretrain":
        raise WeightsError("VideoMAE's encoder closes with a norm, and this one does not: it cannot be written so")
    renamed = to_release(state)
    if path.suffix == ".safetensors":
        write_safetensors(path, renamed)
    else:
        write_file(path, lambda file: torch.save({"model": renamed}, file))
    notes = []
    if (info.model.norm_epsilon, info.model.head_norm_epsilon) != (_EPSILON, _EPSILON):
        notes.append(f"VideoMAE's norms add {_EPSILON:g} to the variance, this model's other numbers")
    if info.class_names:
        notes.append("class names are not part of this format")
    return tuple(notes)


ADAPTER = Adapter(
    "videomae", "VideoMAE (or EVEREST's release, VideoMAE V2, fine-tuned MME: same keys)", recognise, read, write
)
