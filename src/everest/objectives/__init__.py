"""What a masked model predicts, and how far off it is."""

from everest.objectives.distillation import DistillationObjective
from everest.objectives.hog import hog_targets
from everest.objectives.motion import MotionObjective, MotionTargets
from everest.objectives.objective import (
    Objective,
    PixelObjective,
    build_objective,
    describe_objective,
    with_objective,
)
from everest.objectives.pixels import patch_statistics, pixel_loss, pixel_targets, target_pixels
from everest.objectives.teachers import Teacher, load_teacher, teacher_of
from everest.objectives.trajectories import trajectory_targets

__all__ = [
    "DistillationObjective",
    "MotionObjective",
    "MotionTargets",
    "Objective",
    "PixelObjective",
    "Teacher",
    "build_objective",
    "describe_objective",
    "hog_targets",
    "load_teacher",
    "patch_statistics",
    "pixel_loss",
    "pixel_targets",
    "target_pixels",
    "teacher_of",
    "trajectory_targets",
    "with_objective",
]
