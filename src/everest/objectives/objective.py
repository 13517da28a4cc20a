"""What an objective is: targets, computed without gradient, and how far off a prediction of them is.

Shapes: B clips, N tokens, M targets, P pixels of a tubelet, Q values predicted for a target.
"""

from typing import Any, Protocol

import torch
from torch import Tensor

from everest.config import CheckpointInfo
from everest.datasets import Batch
from everest.errors import ConfigError
from everest.models import ModelInput, Prediction
from everest.models.constants import constant
from everest.objectives.distillation import DistillationObjective, build_distillation
from everest.objectives.motion import MotionObjective
from everest.objectives.pixels import pixel_loss, pixel_targets
from everest.tokens import TokenGrid


class Objective(Protocol):
    """What the decoder predicts of the target tokens."""

    def targets(self, chosen: ModelInput, batch: Batch) -> Any:
        """Compute what is to be predicted, for the target tokens only, without gradient.

        Args:
            chosen: All tubelets of the clips, on the device, and the selection on them.
            batch: What the loader gave.
        """

    def loss(self, prediction: Prediction, targets: Any) -> Tensor:
        """Say how far off a prediction is, in float32 at least: a scalar.

        Args:
            prediction: Of shape [B, M, Q].
            targets: What :meth:`targets` gave.
        """


class PixelObjective:
    """Normalised pixels, Q = P: EVEREST and VideoMAE.

    Args:
        grid: Where the tokens are.
        mean: Per channel, of values scaled to 0..1.
        std: Per channel, of values scaled to 0..1.
    """

    def __init__(self, grid: TokenGrid, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        self._grid, self._mean, self._std = grid, mean, std

    def targets(self, chosen: ModelInput, batch: Batch) -> Tensor:
        """Pixels of the targets, each tubelet and channel normalised by itself: [B, M, P]."""
        del batch
        mean, std = (constant(values, chosen.patches.device) for values in (self._mean, self._std))
        return pixel_targets(chosen.patches, chosen.selection.target, self._grid, mean, std)

    def loss(self, prediction: Prediction, targets: Tensor) -> Tensor:
        """Mean squared error."""
        return pixel_loss(prediction, targets)


def build_objective(info: CheckpointInfo, grid: TokenGrid, device: torch.device) -> Objective:
    """Build what a pre-training run predicts.

    Args:
        info: Names the objective, and has the normalisation.
        grid: The tokens of a clip.
        device: Where clips are when targets are computed.

    Raises:
        ConfigError: The objective needs something that is not there.
        WeightsError: A teacher cannot be loaded or does not fit.
    """
    if info.objective.name == "pixels":
        return PixelObjective(grid, info.mean, info.std)
    if info.objective.name == "mme":
        return MotionObjective(grid)
    if info.objective.name == "mvd":
        return build_distillation(info, grid, device)
    raise ConfigError(f"no objective {info.objective.name!r}: use objective.name=pixels, mme or mvd")


def describe_objective(objective: Objective) -> tuple[str, ...]:
    """Lines for people: what a run learns from besides its clips."""
    if isinstance(objective, DistillationObjective):
        return tuple(teacher.describe() for teacher in objective.teachers)
    return ()


def with_objective(info: CheckpointInfo, objective: Objective) -> CheckpointInfo:
    """Write down what only the objective knows, and the model cannot be built again without: widths of teachers."""
    if isinstance(objective, DistillationObjective):
        return info.model_copy(update={"objective": objective.config})
    return info
