"""Models for tests of the page: small, with fresh weights."""

from pathlib import Path

import torch

from everest.config import CheckpointInfo, ClipConfig, ModelConfig, SelectionConfig
from everest.models import build_autoencoder, build_classifier, save_weights

CLIP = ClipConfig(num_frames=8, height=64, width=48, stride=2)
MODEL = ModelConfig(size="tiny")
PRETRAIN = CheckpointInfo(
    task="pretrain", model=MODEL, clip=CLIP, selection=SelectionConfig(keep_ratio=0.5, encode_ratio=0.2)
)
FINETUNE = CheckpointInfo(
    task="finetune",
    model=MODEL,
    clip=CLIP,
    selection=SelectionConfig(keep_ratio=0.6, encode_ratio=0.6),
    class_names=("waves", "<b>falls</b>", "sits"),
)


def save_small_models(folder: Path) -> tuple[Path, Path]:
    """Write a pre-trained model and a classifier whose answers differ from clip to clip."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        classifier = build_classifier(MODEL, CLIP, len(FINETUNE.class_names))
        torch.nn.init.normal_(classifier.head.weight, std=0.3)
        autoencoder = build_autoencoder(MODEL, CLIP)
    paths = folder / "pretrained.safetensors", folder / "classifier.safetensors"
    save_weights(autoencoder, PRETRAIN, paths[0])
    save_weights(classifier, FINETUNE, paths[1])
    return paths
