"""What a masked model predicts, and how far off it is."""

from everest.objectives.objective import Objective, PixelObjective, build_objective
from everest.objectives.pixels import patch_statistics, pixel_loss, pixel_targets, target_pixels

__all__ = [
    "Objective",
    "PixelObjective",
    "build_objective",
    "patch_statistics",
    "pixel_loss",
    "pixel_targets",
    "target_pixels",
]
