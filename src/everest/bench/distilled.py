"""Distillation to be measured: the objective of a step, with teachers that have learnt nothing.

What a teacher says does not matter to what it costs. The image teacher is a ViT of single frames, the video teacher one
of tubelets; both see every token of a clip.

Shapes: B clips, T frames, H height, W width.
"""

from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from everest.config import CheckpointInfo, ClipConfig, ModelConfig, ModelSize, ObjectiveConfig, ObjectiveName, Task
from everest.errors import ConfigError
from everest.models import SIZES, build_autoencoder, grid_of
from everest.objectives import DistillationObjective, Objective, Teacher, build_objective, teacher_of
from everest.objectives.teachers import Kind
from everest.tokens import TokenGrid

_KINDS: tuple[Kind, ...] = ("image", "video")


def objective_settings(name: ObjectiveName, task: Task, teacher: ModelSize) -> dict[str, Any]:
    """Give the settings of an objective that is to be measured.

    Args:
        name: What is predicted.
        task: Only pre-training predicts.
        teacher: Size of both teachers of ``mvd``.

    Raises:
        ConfigError: Another objective than ``pixels`` in fine-tuning.
    """
    if name != "pixels" and task != "pretrain":
        raise ConfigError(f"objective {name} is one of pre-training; give task=pretrain, or leave it out")
    widths = {f"{kind}_width": SIZES[teacher].width for kind in _KINDS} if name == "mvd" else {}
    return {"name": name, **widths}


def size_of_teachers(objective: ObjectiveConfig) -> ModelSize | None:
    """Size of the teachers that :func:`objective_settings` has described; None where there are none."""
    return next((name for name, size in SIZES.items() if size.width == objective.video_width), None)


def bench_objective(info: CheckpointInfo, grid: TokenGrid, device: torch.device) -> Objective:
    """Build the objective of a step, its teachers with fresh weights from PyTorch's random state."""
    if info.objective.name != "mvd":
        return build_objective(info, grid, device)
    teachers = tuple(_teacher(kind, info, grid).to(device) for kind in _KINDS)
    return DistillationObjective(info.objective, grid, mean=info.mean, std=info.std, teachers=teachers)


@torch.no_grad()
def count_teachers(info: CheckpointInfo) -> float:
    """Count what the teachers multiply for one clip, in 10^9 multiply-adds."""
    grid = grid_of(info.model, info.clip)
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        clips = torch.empty(1, 3, *grid.clip_shape)
        for kind in _KINDS:
            _teacher(kind, info, grid)(clips)
    return float(counter.get_total_flops()) / 2e9


def _teacher(kind: Kind, info: CheckpointInfo, grid: TokenGrid) -> Teacher:
    """A teacher of the size that its width names, with weights that nobody has trained."""
    size = size_of_teachers(info.objective)
    if size is None:
        raise ConfigError(f"no model is {info.objective.video_width} wide: describe the step with a size of teachers")
    frames = {"image": 1, "video": grid.tubelet_size}[kind]
    model = ModelConfig(size=size, patch_size=grid.patch_size, tubelet_size=frames, decoder_depth=1)
    clip = ClipConfig(num_frames=frames * grid.num_slots, height=info.clip.height, width=info.clip.width)
    encoder = build_autoencoder(model, clip).encoder
    return teacher_of(encoder, kind, grid, mean=info.mean, std=info.std, name=f"{size}, fresh weights")
