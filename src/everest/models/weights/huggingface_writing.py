"""Writing folders that transformers reads: VideoMAEForPreTraining and VideoMAEForVideoClassification."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from everest.config import CheckpointInfo
from everest.models.weights.files import CONFIG_NAME
from everest.models.weights.huggingface import ATTENTION, BLOCK_KEYS, BLOCKS, HEAD_EPSILON, MODEL_TYPE, OUTER_KEYS
from everest.models.weights.writing import expect_plain, tell_kept, write_file, write_safetensors
from everest.models.zoo import SIZES, decoder_depth

_BILINEAR = 2
_BLOCK_KEYS = {ours: theirs for theirs, ours in BLOCK_KEYS.items()}
_OUTER_KEYS = {ours: theirs for theirs, ours in OUTER_KEYS.items()}


def write(state: Mapping[str, Tensor], info: CheckpointInfo, folder: Path) -> tuple[str, ...]:
    """Write a new folder.

    Args:
        state: Tensors by our keys.
        info: What travels with them.
        folder: It is made; files in it are replaced.

    Returns:
        What differs in the library, for people.

    Raises:
        WeightsError: The model has something that the library's VideoMAE has no place for.
    """
    expect_plain(info, "VideoMAE of transformers")
    write_safetensors(folder / "model.safetensors", to_transformers(state), {"format": "pt"})
    _write_json(folder / CONFIG_NAME, make_config(info))
    _write_json(folder / "preprocessor_config.json", make_preprocessor(info))
    return _differences(info)


def to_transformers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename our tensors; queries, keys and values are taken apart: [3 D, D] to three of [D, D]."""
    renamed: dict[str, Tensor] = {}
    for key, value in state.items():
        outer = next((ours for ours in _OUTER_KEYS if key.startswith(ours)), None)
        if outer is not None:
            renamed[_OUTER_KEYS[outer] + key.removeprefix(outer)] = value
            continue
        place = next((theirs, ours) for theirs, ours in BLOCKS.items() if key.startswith(ours))
        index, _, inside = key.removeprefix(place[1]).partition(".")
        block = f"{place[0]}{index}."
        if inside == "attn.qkv.weight":
            for name, part in zip(("query", "key", "value"), value.chunk(3), strict=True):
                renamed[f"{block}{ATTENTION}{name}.weight"] = part
        elif inside in {"attn.q_bias", "attn.v_bias"}:
            renamed[f"{block}{ATTENTION}{inside.removeprefix('attn.')}"] = value
        else:
            ours = next(ours for ours in _BLOCK_KEYS if inside.startswith(ours))
            renamed[block + _BLOCK_KEYS[ours] + inside.removeprefix(ours)] = value
    return renamed


def make_config(info: CheckpointInfo) -> dict[str, Any]:
    """Describe a model as the library's ``VideoMAEConfig`` does."""
    model, clip, size = info.model, info.clip, SIZES[info.model.size]
    is_classifier = info.task == "finetune"
    values: dict[str, Any] = {
        "architectures": ["VideoMAEForVideoClassification" if is_classifier else "VideoMAEForPreTraining"],
        "model_type": MODEL_TYPE,
        "image_size": clip.height if clip.height == clip.width else [clip.height, clip.width],
        "num_frames": clip.num_frames,
        "patch_size": model.patch_size,
        "tubelet_size": model.tubelet_size,
        "num_channels": 3,
        "hidden_size": size.width,
        "num_hidden_layers": size.depth,
        "num_attention_heads": size.num_heads,
        "intermediate_size": 4 * size.width,
        "decoder_hidden_size": size.decoder_width,
        "decoder_num_hidden_layers": decoder_depth(model, info.objective),
        "decoder_num_attention_heads": size.decoder_heads,
        "decoder_intermediate_size": 4 * size.decoder_width,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "initializer_range": 0.02,
        "layer_norm_eps": model.norm_epsilon,
        "qkv_bias": True,
        "norm_pix_loss": True,
        # True means a norm after the mean of a classifier, and none at the end of the encoder
        "use_mean_pooling": is_classifier or not model.encoder_norm,
    }
    if is_classifier:
        values["id2label"] = {str(index): name for index, name in enumerate(info.class_names)}
        values["label2id"] = {name: index for index, name in enumerate(info.class_names)}
    return values


def make_preprocessor(info: CheckpointInfo) -> dict[str, Any]:
    """Describe how frames become what the model takes: the short side resized, the centre taken, normalised."""
    return {
        "image_processor_type": "VideoMAEImageProcessor",
        "do_resize": True,
        "size": {"shortest_edge": max(info.clip.height, info.clip.width)},
        "resample": _BILINEAR,
        "do_center_crop": True,
        "crop_size": {"height": info.clip.height, "width": info.clip.width},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(info.mean),
        "image_std": list(info.std),
    }


def _differences(info: CheckpointInfo) -> tuple[str, ...]:
    notes = []
    given = info.model.head_norm_epsilon
    if given != HEAD_EPSILON:
        notes.append(
            f"transformers adds {HEAD_EPSILON:g} to the variance in the norm before the head, this model {given:g}: "
            f"outputs are {abs(HEAD_EPSILON - given) / 2:.1e} / variance smaller there, relatively"
        )
    if info.task == "finetune" and info.selection.method != "all":
        kept = f"{info.selection.method}, {tell_kept(info)}"
        notes.append(f"transformers computes all tokens, this model was trained on some ({kept})")
    return tuple(notes)


def _write_json(path: Path, values: dict[str, Any]) -> None:
    content = (json.dumps(values, indent=2, ensure_ascii=False) + "\n").encode()
    write_file(path, lambda file: file.write(content))
