"""A tiny classifier with weights that tell clips apart."""

import torch

from everest.config import CheckpointInfo, ClipConfig, FrameSelectionConfig, ModelConfig, SelectionConfig
from everest.datasets import Manifest, load_data
from everest.models import Classifier, build_classifier

BUNDLED = load_data("bundled")


def an_info(*, frames: bool = False, **clip: object) -> CheckpointInfo:
    sizes = {"num_frames": 8, "height": 32, "width": 48, "fps": 7.5, **clip}
    return CheckpointInfo(
        task="finetune",
        model=ModelConfig(size="tiny"),
        clip=ClipConfig.model_validate(sizes),
        selection=SelectionConfig(keep_ratio=0.6, encode_ratio=0.1),
        frame_selection=FrameSelectionConfig(enabled=frames),
        class_names=BUNDLED.class_names,
    )


def a_classifier(info: CheckpointInfo) -> Classifier:
    """Fresh weights; the head, which starts near zero, is scaled up so that probabilities are far from equal."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = build_classifier(info.model, info.clip, len(info.class_names))
        torch.nn.init.normal_(model.head.weight, std=0.3)
    return model.eval()


def some_clips(count: int) -> Manifest:
    """Clips spread over the bundled ones, of several files and classes."""
    step = len(BUNDLED) // count
    return Manifest(BUNDLED.records[::step][:count], BUNDLED.class_names, BUNDLED.source)
