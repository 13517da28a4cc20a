"""Masked Motion Encoding: the shape and the motion of the target tokens (MME, CVPR 2023).

Shapes: B clips, M targets, H values of the histograms of a target, J of its trajectories, Q = H + J.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from everest.datasets import Batch
from everest.errors import ConfigError, SelectionError
from everest.models import ModelInput, Prediction
from everest.models.motion import num_motion_values
from everest.objectives.averages import average
from everest.objectives.hog import hog_targets
from everest.objectives.trajectories import trajectory_targets, weighted_squares
from everest.tokens import TokenGrid


@dataclass(frozen=True, eq=False, repr=False)
class MotionTargets:
    """What is predicted of the target tokens.

    Attributes:
        histograms: Shape [B, M, H].
        trajectories: Shape [B, M, J].
        weight: 1 where a point was tracked, else 0, shape [B, M, J].
    """

    histograms: Tensor
    trajectories: Tensor
    weight: Tensor

    def __repr__(self) -> str:
        return f"MotionTargets(histograms {list(self.histograms.shape)}, trajectories {list(self.trajectories.shape)})"


class MotionObjective:
    """Histograms of oriented gradients and motion trajectories, Q = H + J.

    Args:
        grid: Where the tokens are.

    Raises:
        ConfigError: Patches cannot be cut into whole cells.
    """

    def __init__(self, grid: TokenGrid) -> None:
        self._grid = grid
        self._sizes = list(num_motion_values(grid.patch_size))

    def targets(self, chosen: ModelInput, batch: Batch) -> MotionTargets:
        """Describe the targets and take their trajectories from the batch.

        Raises:
            ConfigError: The loader was not asked for trajectories.
        """
        if batch.motion is None:
            raise ConfigError(
                "objective.name=mme needs the trajectories of each clip, which the loader of a pre-training run gives "
                "(everest.datasets.build_train_loader), and this batch has none"
            )
        target = chosen.selection.target
        motion = batch.motion.to(target.device, non_blocking=True)
        trajectories, weight = trajectory_targets(motion, target, self._grid, chosen.frames)
        return MotionTargets(hog_targets(chosen.patches, target, self._grid), trajectories, weight)

    def loss(self, prediction: Prediction, targets: MotionTargets) -> Tensor:
        """Average of the mean squared error of the histograms and that of the steps that were tracked."""
        if prediction.values.shape != (*targets.histograms.shape[:2], sum(self._sizes)):
            raise SelectionError(f"{prediction} does not fit {targets}")
        dtype = torch.promote_types(prediction.values.dtype, torch.float32)
        shape, motion = torch.split(prediction.values.to(dtype), self._sizes, dim=-1)  # [B, M, H], [B, M, J]
        counts = prediction.selection.counts
        of_shape = average(F.mse_loss(shape, targets.histograms.to(dtype), reduction="none"), counts)
        return (of_shape + weighted_squares(motion, targets.trajectories, targets.weight, counts)) / 2
