"""VideoMAE of the transformers library, in both directions; the library itself is not needed.

A folder holds ``config.json``, ``model.safetensors`` and ``preprocessor_config.json``. Queries, keys and values are
separate matrices there, and keys have no bias. Files have ``q_bias`` and ``v_bias`` in all versions; version 5 calls
them ``query.bias`` and ``value.bias`` in memory. Blocks and the encoder's norm take their epsilon from the config
(1e-12 where nobody changes it), the norms before the heads have PyTorch's 1e-5, whatever the config says.

Shapes: D width.
"""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from everest.config import SelectionConfig
from everest.errors import WeightsError
from everest.models.weights.adapter import TABLE_UNUSED, Facts, Renamed, part_of, tidy_attention, whole
from everest.models.weights.files import Raw

MODEL_TYPE = "videomae"
HEAD_EPSILON = 1e-5
DEFAULT_EPSILON = 1e-12
OUTER_KEYS = {
    "videomae.embeddings.patch_embeddings.projection.": "encoder.patch_embed.proj.",
    "videomae.layernorm.": "encoder.norm.",
    "fc_norm.": "fc_norm.",
    "classifier.": "head.",
    "mask_token": "mask_token",
    "encoder_to_decoder.": "encoder_to_decoder.",
    "decoder.norm.": "decoder.norm.",
    "decoder.head.": "decoder.head.",
}
"""Beginnings of keys outside blocks, in their files and ours."""
BLOCKS = {"videomae.encoder.layer.": "encoder.blocks.", "decoder.decoder_layers.": "decoder.blocks."}
BLOCK_KEYS = {
    "layernorm_before.": "norm1.",
    "attention.output.dense.": "attn.proj.",
    "layernorm_after.": "norm2.",
    "intermediate.dense.": "mlp.fc1.",
    "output.dense.": "mlp.fc2.",
}
"""The same inside blocks, but for queries, keys and values."""
ATTENTION = "attention.attention."
_BIASES = {
    "q_bias": "attn.q_bias",
    "query.bias": "attn.q_bias",
    "v_bias": "attn.v_bias",
    "value.bias": "attn.v_bias",
    "k_bias": "attn.k_bias",
    "key.bias": "attn.k_bias",
}
_FIRST = re.compile(r"(videomae\.)?encoder\.layer\.0\.attention\.attention\.query\.weight")


def recognise(raw: Raw) -> str | None:
    """Know it by the name of the first block's queries; other models of the library have other configs."""
    if raw.config.get("model_type", MODEL_TYPE) != MODEL_TYPE:
        return None
    mark = next((key for key in raw.tensors if _FIRST.fullmatch(key)), None)
    return None if mark is None else f"has {mark}"


def read(raw: Raw) -> Renamed:
    """Rename a checkpoint, and read what its config says.

    Raises:
        WeightsError: The config asks for something that our models have not.
    """
    _check_config(raw)
    tensors = dict(raw.tensors)
    if not any(key.startswith("videomae.") for key in tensors):  # VideoMAEModel alone
        tensors = {f"videomae.{key}": value for key, value in tensors.items()}
    state: dict[str, Tensor] = {}
    unused: dict[str, str] = {}
    for key, value in tensors.items():
        if key.endswith("position_embeddings"):
            unused[key] = TABLE_UNUSED
        elif not _is_projection(key):
            state[_to_ours(key)] = value
    for prefix in sorted({key.split(ATTENTION)[0] for key in tensors if _is_projection(key)}):
        state[f"{_block(prefix)}attn.qkv.weight"] = _joined(raw, tensors, f"{prefix}{ATTENTION}")
    state, dropped, notes = tidy_attention(state)
    if raw.config.get("norm_pix_loss", True) is not True:
        notes = (*notes, "it was trained to predict pixels that are not normalised; our objective normalises them")
    return Renamed(part_of(state), state, "pixels", unused | dropped, notes, _facts(raw, state))


def _is_projection(key: str) -> bool:
    return ATTENTION in key and key.endswith((".query.weight", ".key.weight", ".value.weight"))


def _joined(raw: Raw, tensors: Mapping[str, Tensor], attention: str) -> Tensor:
    """Put queries, keys and values together: three of [D, D] to [3 D, D]."""
    parts = [tensors.get(f"{attention}{name}.weight") for name in ("query", "key", "value")]
    present = [part for part in parts if part is not None]
    if len(present) < 3 or any(part.shape != present[0].shape for part in present):
        raise WeightsError(f"{raw.path}: {attention} lacks query, key or value, or they are of different shapes")
    return torch.cat(present)  # [3 D, D]


def _block(prefix: str) -> str:
    """Rename the beginning of a block's keys; what is not known stays, and loading says so."""
    return next((f"{ours}{prefix.removeprefix(k)}" for k, ours in BLOCKS.items() if prefix.startswith(k)), prefix)


def _to_ours(key: str) -> str:
    """Rename one key; what is not known stays, and loading says so."""
    for theirs, ours in OUTER_KEYS.items():
        if key.startswith(theirs):
            return ours + key.removeprefix(theirs)
    match = re.fullmatch(r"(videomae\.encoder\.layer\.|decoder\.decoder_layers\.)(\d+\.)(.+)", key)
    if match is None:
        return key
    inside = match[3]
    block = f"{BLOCKS[match[1]]}{match[2]}"
    if inside.removeprefix(ATTENTION) in _BIASES:
        return block + _BIASES[inside.removeprefix(ATTENTION)]
    for theirs, ours in BLOCK_KEYS.items():
        if inside.startswith(theirs):
            return block + ours + inside.removeprefix(theirs)
    return key


def _check_config(raw: Raw) -> None:
    config = raw.config
    wanted = {"hidden_act": "gelu", "num_channels": 3}
    wrong = [f"{k}={config[k]!r} instead of {v!r}" for k, v in wanted.items() if config.get(k, v) != v]
    for width, inner in (
        ("hidden_size", "intermediate_size"),
        ("decoder_hidden_size", "decoder_intermediate_size"),
    ):
        given, inside = whole(config, width), whole(config, inner)
        if given is not None and inside is not None and inside != 4 * given:
            wrong.append(f"{inner}={inside} instead of 4 x {width}")
    if wrong:
        raise WeightsError(f"{raw.path}: its config has {'; '.join(wrong)}, which our models have not")


def _facts(raw: Raw, state: Mapping[str, Tensor]) -> Facts:
    config = raw.config
    height, width = _sides(config.get("image_size"))
    head = state.get("head.weight")
    epsilon = config.get("layer_norm_eps", DEFAULT_EPSILON)
    everything = "decoder.head.weight" not in state
    mean, std = _normalization(raw)
    return Facts(
        num_frames=whole(config, "num_frames"),
        height=height,
        width=width,
        class_names=None if head is None else _class_names(config, len(head)),
        mean=mean,
        std=std,
        norm_epsilon=epsilon if isinstance(epsilon, float) and 0 < epsilon < 1 else DEFAULT_EPSILON,
        head_norm_epsilon=HEAD_EPSILON,
        num_heads=whole(config, "num_attention_heads"),
        decoder_heads=whole(config, "decoder_num_attention_heads") if "decoder.head.weight" in state else None,
        selection=SelectionConfig(method="all", keep_ratio=1.0, encode_ratio=1.0) if everything else None,
        encoder_norm="encoder.norm.weight" in state,
    )


def _sides(size: Any) -> tuple[int | None, int | None]:
    """Read ``image_size``: a number, or height and width."""
    values = [size, size] if isinstance(size, int) else size
    if not isinstance(values, list) or len(values) != 2 or not all(type(v) is int and v > 0 for v in values):
        return None, None
    return values[0], values[1]


def _class_names(config: Mapping[str, Any], num_classes: int) -> tuple[str, ...] | None:
    """Read ``id2label``; None where it is missing or was never filled in."""
    labels = config.get("id2label")
    if not isinstance(labels, dict):
        return None
    names = tuple(str(labels.get(str(index), "")) for index in range(num_classes))
    if len(labels) != num_classes or not all(names):
        return None
    return None if all(name == f"LABEL_{index}" for index, name in enumerate(names)) else names


def _normalization(raw: Raw) -> tuple[Any, Any]:
    """Read mean and deviation of the preprocessor; the library's own default is .5 where it names none."""
    if not raw.preprocessor:
        return None, None
    if raw.preprocessor.get("do_normalize") is False:
        return (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    found = []
    for key in ("image_mean", "image_std"):
        values = raw.preprocessor.get(key, [0.5, 0.5, 0.5])
        if not isinstance(values, list) or len(values) != 3 or not all(isinstance(v, int | float) for v in values):
            raise WeightsError(f"{raw.path.parent}: {key} of its preprocessor_config.json must be three numbers")
        found.append(tuple(map(float, values)))
    return found[0], found[1]
