"""A model in the layout of Hugging Face's transformers, which computes all tokens, beside ours on all tokens.

Shapes: B clips, T frames, T' sampled frames, H height, W width, N tokens, D width, K classes.
"""

import importlib.util
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from everest.config import CheckpointInfo, FrameSelectionConfig, SelectionConfig
from everest.errors import ConfigError
from everest.inference.exporting.reference import Reference, Run
from everest.models import Classifier
from everest.models.autoencoder import MaskedModel
from everest.models.weights import huggingface_writing
from everest.video.transforms import normalize

FILES = ("config.json", "model.safetensors", "preprocessor_config.json")
ALL_TOKENS = SelectionConfig(method="all", keep_ratio=1.0, encode_ratio=1.0)


def require_transformers() -> None:
    """Say that the library is missing before anything is computed.

    Raises:
        ConfigError: It is.
    """
    if importlib.util.find_spec("transformers") is None:
        raise ConfigError(
            "comparing a folder for Hugging Face with PyTorch needs transformers: pip install 'everest-video[hf]' "
            "(everest weights convert writes one without comparing)"
        )


def write_folder(model: Classifier | MaskedModel, info: CheckpointInfo, folder: Path) -> tuple[str, ...]:
    """Write a folder.

    Args:
        model: A plain ViT.
        info: What travels with it.
        folder: A new one.

    Returns:
        What differs in the library, for people.

    Raises:
        WeightsError: The library's VideoMAE has no place for something that the model has.
    """
    notes = huggingface_writing.write(model.state_dict(), info, folder)
    if info.frame_selection.enabled:
        notes += ("transformers takes the frames that it is given: choosing them is not part of the folder",)
    return notes


def reference_of_all(model: Classifier | MaskedModel, info: CheckpointInfo) -> Reference:
    """Ours, on all tokens of frames that are given: what the folder is compared with."""
    changed = {"selection": ALL_TOKENS, "frame_selection": FrameSelectionConfig(), "task": "finetune"}
    return Reference(model, info.model_copy(update=changed))


def open_folder(folder: Path, info: CheckpointInfo) -> Run:
    """Open what :func:`write_folder` wrote just now: nothing is downloaded, and no code comes with it."""
    os.environ.setdefault("DISABLE_SAFETENSORS_CONVERSION", "1")
    import transformers

    is_classifier = bool(info.class_names)
    kind: Any = transformers.VideoMAEForVideoClassification if is_classifier else transformers.VideoMAEModel
    with _quiet(transformers.logging):
        model = kind.from_pretrained(folder, local_files_only=True, dtype=torch.float32).eval()

    def run(frames: Tensor) -> dict[str, Tensor]:
        pixels = normalize(frames.permute(0, 4, 1, 2, 3), info.mean, info.std).transpose(1, 2)  # [B, T, 3, H, W]
        with torch.no_grad():
            if is_classifier:
                logits: Tensor = model(pixels).logits
                return {"logits": logits, "probabilities": logits.softmax(dim=-1)}
            tokens: Tensor = model(pixels).last_hidden_state  # [B, N, D]
        return {"tokens": tokens, "features": tokens.mean(dim=1)}

    return run


@contextmanager
def _quiet(logging: Any) -> Iterator[None]:
    """Keep the library from telling of a decoder that is not used, and of its progress."""
    before, has_bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(before)
        if has_bars:
            logging.enable_progress_bar()
