"""Masked Video Distillation (MVD): the student predicts the features that teachers give the target tokens.

Shapes: B clips, T frames, H height, W width, N tokens, M targets, P pixels of a tubelet, Q values predicted for a
target: those of the image teacher, then those of the video teacher.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from everest.config import CheckpointInfo, ObjectiveConfig
from everest.datasets import Batch
from everest.errors import ConfigError, SelectionError
from everest.models import ModelInput, Prediction
from everest.models.constants import constant
from everest.models.tubelets import Tubelets
from everest.objectives.averages import average
from everest.objectives.teachers import Kind, Teacher, load_teacher
from everest.objectives.transformers_teachers import is_of_transformers, load_transformers_teacher
from everest.tokens import TokenGrid, gather_tokens, unpatchify

MAX_TOGETHER = 16
"""Clips that a teacher sees at once: enough to fill a GPU with all tokens of each."""


class DistillationObjective:
    """Smooth-l1 distance to the features of each teacher, averaged over targets and width, weighted and summed.

    Teachers see every token of a clip, whatever the student sees. Their features are those before the last norm (MVD,
    section on method), taken as they are: a norm of our own would hide differences of length that the student is to
    learn.

    Args:
        config: Weights of the teachers.
        grid: The tokens of a clip.
        mean: Per channel, of values scaled to 0..1: what patches that are not bytes were normalised with.
        std: The same.
        teachers: At least one; on the device of the clips.

    Raises:
        ConfigError: The configuration has widths, and they are not those of the teachers.

    Attributes:
        config: As given, with the widths of the teachers: what has to travel with the student.
        teachers: In the order in which their features stand in a target.
    """

    def __init__(
        self,
        config: ObjectiveConfig,
        grid: TokenGrid,
        *,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        teachers: tuple[Teacher, ...],
    ) -> None:
        found = {f"{teacher.kind}_width": teacher.width for teacher in teachers}
        for key in ("image_width", "video_width"):
            if getattr(config, key) not in {None, found.get(key)}:
                width = found.get(key, "no teacher")
                raise ConfigError(
                    f"objective.{key} is {getattr(config, key)}, found: {width}; leave it to be found out"
                )
        self.config = config.model_copy(update=found)
        self.teachers = teachers
        self._grid, self._mean, self._std = grid, mean, std

    @torch.no_grad()
    def targets(self, chosen: ModelInput, batch: Batch) -> Tensor:
        """Features of the targets, of all teachers side by side: [B, M, Q]."""
        del batch
        selection, parts = chosen.selection, []
        for start in range(0, len(chosen.patches), MAX_TOGETHER):
            part = slice(start, start + MAX_TOGETHER)
            features = torch.cat([teacher(self._clips(chosen.patches, part)) for teacher in self.teachers], dim=-1)
            parts.append(features if selection.counts else gather_tokens(features, selection.target[part]))
        found = torch.cat(parts)
        return gather_tokens(found, selection.target) if selection.counts else found  # [B, M, Q]

    def loss(self, prediction: Prediction, targets: Tensor) -> Tensor:
        """Weighted sum of the teachers' smooth-l1 losses, each a mean over targets and width."""
        if targets.shape != prediction.values.shape:
            raise SelectionError(f"{prediction} needs targets of its shape, given: {list(targets.shape)}")
        dtype = torch.promote_types(prediction.values.dtype, torch.float32)
        total, start = torch.zeros((), dtype=dtype, device=targets.device), 0
        for teacher in self.teachers:
            of_teacher = slice(start, start + teacher.width)
            ours, theirs = prediction.values[..., of_teacher].to(dtype), targets[..., of_teacher].to(dtype)
            weight: float = getattr(self.config, f"{teacher.kind}_weight")
            errors = F.smooth_l1_loss(ours, theirs, beta=1.0, reduction="none")  # [B, M, D]
            total = total + weight * average(errors, prediction.selection.counts)
            start += teacher.width
        return total

    def _clips(self, patches: Tensor | Tubelets, part: slice) -> Tensor:
        """Put some clips together from their tubelets, values 0 to 1: [B, N, P] to [b, 3, T, H, W]."""
        if isinstance(patches, Tubelets):
            return unpatchify(patches.pixels[part], self._grid).float().div_(255)
        mean, std = (constant(v, patches.device).reshape(3, 1, 1, 1) for v in (self._mean, self._std))
        return unpatchify(patches[part], self._grid) * std + mean


def build_distillation(info: CheckpointInfo, grid: TokenGrid, device: torch.device) -> DistillationObjective:
    """Load the teachers of a run.

    Args:
        info: Names them.
        grid: The tokens of a clip.
        device: Where they are asked.

    Raises:
        ConfigError: No teacher is named.
        WeightsError: A teacher cannot be loaded or does not fit.
    """
    named: dict[Kind, str | None] = {"image": info.objective.image_teacher, "video": info.objective.video_teacher}
    teachers = tuple(_load(given, kind, grid).to(device) for kind, given in named.items() if given is not None)
    if not teachers:
        raise ConfigError(
            "objective.name=mvd learns from teachers, and none is given: add --set objective.video_teacher=PATH, "
            "--set objective.image_teacher=PATH, or both; PATH is a run folder, a weights file, a folder of "
            "transformers, or hf:OWNER/NAME"
        )
    return DistillationObjective(info.objective, grid, mean=info.mean, std=info.std, teachers=teachers)


def _load(given: str, kind: Kind, grid: TokenGrid) -> Teacher:
    return (
        load_transformers_teacher(given, kind, grid) if is_of_transformers(given) else load_teacher(given, kind, grid)
    )
