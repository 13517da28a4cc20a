"""What a masked model predicts, and how far off it is."""

from everest.objectives.hog import hog_targets
from everest.objectives.motion import MotionObjective, MotionTargets
from everest.objectives.objective import Objective, PixelObjective, build_objective
from everest.objectives.pixels import patch_statistics, pixel_loss, pixel_targets, target_pixels
from everest.objectives.trajectories import trajectory_targets

__all__ = [
    "MotionObjective",
    "MotionTargets",
    "Objective",
    "PixelObjective",
    "build_objective",
    "hog_targets",
    "patch_statistics",
    "pixel_loss",
    "pixel_targets",
    "target_pixels",
    "trajectory_targets",
]
