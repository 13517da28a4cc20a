"""A small classifier with fresh weights, as tests of prediction take it."""

import torch

from everest.config import CheckpointInfo, ClipConfig, ModelConfig, SelectionConfig
from everest.datasets import load_data
from everest.inference import Predictor
from everest.models import build_classifier

INFO = CheckpointInfo(
    task="finetune",
    model=ModelConfig(size="tiny"),
    clip=ClipConfig(num_frames=8, height=32, width=48, fps=7.5),
    selection=SelectionConfig(keep_ratio=0.6, encode_ratio=0.1),
    class_names=load_data("bundled").class_names,
)


def a_predictor(info: CheckpointInfo = INFO) -> Predictor:
    """Fresh weights; the head, which starts near zero, is scaled up so that probabilities are far from equal."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = build_classifier(info.model, info.clip, len(info.class_names))
        torch.nn.init.normal_(model.head.weight, std=0.3)
    return Predictor(model, info)
