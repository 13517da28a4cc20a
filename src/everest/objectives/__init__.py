"""What a masked model predicts, and how far off it is."""

from everest.objectives.distillation import DistillationObjective
from everest.objectives.objective import (
    Objective,
    PixelObjective,
    build_objective,
    describe_objective,
    with_objective,
)
from everest.objectives.pixels import patch_statistics, pixel_loss, pixel_targets, target_pixels
from everest.objectives.teachers import Teacher, load_teacher, teacher_of

__all__ = [
    "DistillationObjective",
    "Objective",
    "PixelObjective",
    "Teacher",
    "build_objective",
    "describe_objective",
    "load_teacher",
    "patch_statistics",
    "pixel_loss",
    "pixel_targets",
    "target_pixels",
    "teacher_of",
    "with_objective",
]
