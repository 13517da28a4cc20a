"""Weights on disk: safetensors that carry what is needed to use them, and adapters for foreign checkpoints.

Parameter names are those of the field (VideoMAE's and the EVEREST release's), so that a pre-trained file needs no
renaming; a classifier's encoder only has its prefix ``encoder.`` removed there.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import safetensors
import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from everest.config import CheckpointInfo
from everest.errors import ConfigError, WeightsError
from everest.models.autoencoder import MaskedModel
from everest.models.classifier import Classifier
from everest.models.zoo import build_classifier, build_masked_model
from everest.settings import parse

METADATA_KEY = "everest"
WEIGHTS_NAME = "weights.safetensors"


@dataclass(frozen=True)
class LoadReport:
    """What became of each key when weights were loaded.

    Attributes:
        matched: Keys that were copied.
        missing: Keys of the model that the file does not have; they keep their fresh values.
        unexpected: Keys of the file that the model does not have.
    """

    matched: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]

    def __str__(self) -> str:
        return f"{len(self.matched)} tensors loaded, {_some(self.missing)} fresh, {_some(self.unexpected)} not used"


def save_weights(model: nn.Module, info: CheckpointInfo, path: Path) -> None:
    """Write a model and all that inference needs into one safetensors file, atomically.

    Args:
        model: A :class:`MaskedModel` or :class:`Classifier`.
        info: What travels with the weights.
        path: Where to; an existing file is replaced only when the new one is complete.

    Raises:
        WeightsError: The file cannot be written.
    """
    state = {key: value.detach().to("cpu").contiguous() for key, value in model.state_dict().items()}
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # save_file leaves files that only their owner can read, and parts under other names when it is killed.
        partial.write_bytes(save(state, metadata={METADATA_KEY: info.model_dump_json()}))
        partial.replace(path)
    except (OSError, safetensors.SafetensorError) as error:
        partial.unlink(missing_ok=True)
        raise WeightsError(f"{path}: cannot be written: {error}") from None


def read_info(path: Path) -> CheckpointInfo:
    """Read what travels with the weights, without the weights.

    Raises:
        WeightsError: Not a file that :func:`save_weights` wrote.
    """
    if not path.is_file():
        raise WeightsError(f"{path}: no such weights file")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except (safetensors.SafetensorError, OSError) as error:
        raise WeightsError(f"{path}: not a readable safetensors file ({error})") from None
    if METADATA_KEY not in metadata:
        raise WeightsError(f"{path}: holds weights but not how to use them; it was not written by EVEREST")
    try:
        return parse(CheckpointInfo, json.loads(metadata[METADATA_KEY]))
    except (ConfigError, json.JSONDecodeError) as error:
        raise WeightsError(f"{path}: written by another version of EVEREST ({error})") from None


def find_weights(checkpoint: Path) -> Path:
    """Find the weights file that CHECKPOINT means: a weights file, or a run folder that holds one.

    Raises:
        WeightsError: Neither.
    """
    path = checkpoint / WEIGHTS_NAME if checkpoint.is_dir() else checkpoint
    if not path.is_file():
        expected = (
            f"a run folder that holds {WEIGHTS_NAME}" if checkpoint.is_dir() else "a run folder or a weights file"
        )
        raise WeightsError(f"{checkpoint}: expected {expected}")
    return path


def load_model(checkpoint: Path) -> tuple[MaskedModel | Classifier, CheckpointInfo]:
    """Build the model that a checkpoint holds and give it its weights.

    Args:
        checkpoint: A run folder or a weights file.

    Returns:
        The model in evaluation mode on the CPU, and what travelled with it.

    Raises:
        WeightsError: The file is damaged or does not fit its own description.
    """
    path = find_weights(checkpoint)
    info = read_info(path)
    if info.task == "finetune" and not info.class_names:
        raise WeightsError(f"{path}: says that it is a classifier, but names no class")
    model: MaskedModel | Classifier
    with torch.random.fork_rng():  # loading does not move the random state on
        if info.task == "pretrain":
            model = build_masked_model(info.model, info.clip, info.objective)
        else:
            model = build_classifier(info.model, info.clip, len(info.class_names))
    load_state(model, _read_state(path), source=str(path), strict=True)
    return model.eval(), info


def initialize_from(classifier: Classifier, checkpoint: Path, class_names: tuple[str, ...] = ()) -> LoadReport:
    """Start fine-tuning from a checkpoint.

    The encoder is copied; so is the final norm of a pre-trained encoder, into the norm before the head. The head of
    another classifier is copied where it has the same classes.

    Args:
        classifier: The model to start; changed in place.
        checkpoint: A run folder or a weights file, pre-trained or fine-tuned.
        class_names: Of the classifier; a head is only taken over from the very same classes.

    Raises:
        WeightsError: A tensor of the encoder is missing or of another shape; a checkpoint that does not fit is
            refused, never half loaded.
    """
    path = find_weights(checkpoint)
    state = {
        "fc_norm." + k.removeprefix("encoder.norm.") if k.startswith("encoder.norm.") else k: v
        for k, v in _read_state(path).items()
    }
    info = read_info(path)
    if info.class_names != class_names:
        state = {k: v for k, v in state.items() if not k.startswith("head.")}
    return load_state(classifier, state, source=str(path), may_miss=("head.", "fc_norm."))


def load_state(
    model: nn.Module,
    state: Mapping[str, Tensor],
    *,
    source: str,
    may_miss: tuple[str, ...] = (),
    strict: bool = False,
) -> LoadReport:
    """Copy tensors into a model, or refuse.

    Args:
        model: Changed in place.
        state: Tensors by key.
        source: Name of the checkpoint, for messages.
        may_miss: Prefixes of keys that may be absent.
        strict: Refuse keys that the model does not have.

    Raises:
        WeightsError: A key is missing or of another shape (or unexpected, if strict); nothing has been changed then.
    """
    own = model.state_dict()
    wrong = [
        f"{k} {list(state[k].shape)} instead of {list(own[k].shape)}"
        for k in own
        if k in state and state[k].shape != own[k].shape
    ]
    missing = tuple(k for k in own if k not in state)
    unexpected = tuple(k for k in state if k not in own)
    problems = [
        ("of another shape", wrong),
        ("missing", [k for k in missing if not k.startswith(may_miss)]),
        ("unexpected", list(unexpected) if strict else []),
    ]
    if any(keys for _, keys in problems):
        told = "; ".join(f"{_some(keys)} {what}" for what, keys in problems if keys)
        raise WeightsError(f"{source} does not fit the model: {told}; use the model size and shape it was trained with")
    matched = {k: v for k, v in state.items() if k in own}
    model.load_state_dict(matched, strict=False)
    return LoadReport(tuple(matched), missing, unexpected)


def from_release(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename a state dict of the EVEREST release (or of VideoMAE) to ours.

    Pre-training checkpoints have our names already. Fine-tuned ones lack the prefix ``encoder.``.

    Args:
        state: Tensors by the release's keys.
    """
    if any(key.startswith("encoder.") for key in state):
        return dict(state)
    return {f"encoder.{k}" if k.startswith(("patch_embed.", "blocks.")) else k: v for k, v in state.items()}


def _read_state(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (safetensors.SafetensorError, OSError) as error:
        raise WeightsError(f"{path}: not a readable safetensors file ({error})") from None


def _some(keys: tuple[str, ...] | list[str]) -> str:
    """Count keys and name the first three."""
    names = f" ({', '.join(keys[:3])}{', ...' if len(keys) > 3 else ''})" if keys else ""
    return f"{len(keys)}{names}"
