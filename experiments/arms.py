"""What is compared: ways to choose tokens in pre-training, each at the same counts, and no pre-training at all."""

from collections.abc import Mapping

# 8 frames of 64 x 64 pixels in patches of 8 are 4 x 8 x 8 = 256 tokens.
CLIP = {
    "clip.num_frames": 8,
    "clip.height": 64,
    "clip.width": 64,
    "clip.stride": 1,  # clips are rendered at the distance that a task asks for
    "model.patch_size": 8,
    "model.size": "tiny",
    "augment.crop_scales": [1.0, 0.875],
    "run.tensorboard": False,
    "run.report": False,
    "run.save_every_minutes": 60,
    "data.memory_cache": True,
}

PRETRAINING: Mapping[str, Mapping[str, object] | None] = {
    "none": None,
    "videomae": {"selection.method": "tube", "selection.encode_ratio": 0.1},
    "random": {"selection.method": "random_equal", "selection.keep_ratio": 0.3, "selection.encode_ratio": 0.1},
    "running-cell": {"selection.method": "running_cell", "selection.keep_ratio": 0.3, "selection.encode_ratio": 0.1},
    "everest": {"selection.method": "rero", "selection.keep_ratio": 0.3, "selection.encode_ratio": 0.1},
}
"""Arm -> settings of its pre-training; None: fresh weights."""

FINETUNING: Mapping[str, Mapping[str, object]] = {
    "all tokens": {"selection.method": "all"},
    "60 %": {"selection.method": "rero", "selection.keep_ratio": 0.6},
}


def as_settings(*parts: Mapping[str, object]) -> list[str]:
    """Write settings as the command line takes them, later ones over earlier ones."""
    merged: dict[str, object] = {}
    for part in parts:
        merged |= part
    return [f"{key}={str(value).lower() if isinstance(value, bool) else value}" for key, value in merged.items()]
