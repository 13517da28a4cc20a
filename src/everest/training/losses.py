"""The loss of one batch, from uint8 clips to a scalar: what pre-training and fine-tuning do not share.

Shapes: B clips, T' sampled frames, H height, W width, K classes.
"""

import torch
from torch import Tensor, nn

from everest.config import CheckpointInfo, FinetuneConfig
from everest.datasets import Batch
from everest.draws import ClipDraws
from everest.models import Classifier, MaskedModel, select_input
from everest.objectives import Objective
from everest.tokens import TokenSelection
from everest.training.copying import copy_ahead
from everest.training.mixup import mix_clips, soft_cross_entropy, soft_targets
from everest.training.passes import BatchLoss, StepLoss
from everest.video import change_clips_on_device, normalize


def pretraining_loss(model: MaskedModel, info: CheckpointInfo, objective: Objective) -> StepLoss:
    """Predict what the objective asks of the target tokens (paper, section on ReRo masking).

    Args:
        model: The plain network, which selects.
        info: Selections and normalisation.
        objective: What is predicted.

    Returns:
        The loss, of clips on the device.
    """

    def prepare(batch: Batch, draws: torch.Generator | ClipDraws) -> tuple[Tensor, ...]:
        return (to_device(batch, draws),)

    def compute(
        wrapped: nn.Module, inputs: tuple[Tensor, ...], batch: Batch, draws: torch.Generator | ClipDraws
    ) -> BatchLoss:
        (clips,) = inputs
        chosen = select_input(model.encoder, clips, info, generator=draws)
        targets = objective.targets(chosen, batch)
        value = objective.loss(wrapped(chosen.patches, chosen.selection), targets)
        return BatchLoss(value, _tokens_per_clip(chosen.selection))

    return StepLoss(prepare, compute)


def finetuning_loss(model: Classifier, info: CheckpointInfo, config: FinetuneConfig) -> StepLoss:
    """Classify, with smoothed labels and mixed clips where the configuration asks for them.

    Args:
        model: The plain network, which selects.
        info: Selections, normalisation and classes.
        config: Label smoothing, mixup and cutmix.

    Returns:
        The loss, of clips on the device and their targets, mixed where they are.
    """

    def prepare(batch: Batch, draws: torch.Generator | ClipDraws) -> tuple[Tensor, ...]:
        targets = soft_targets(batch.labels, len(info.class_names), config.optim.label_smoothing)
        if torch.device(draws.device).type == "cuda":
            targets = targets.pin_memory()  # many classes would be copied while the processor waits
        clips, targets = mix_clips(
            to_device(batch, draws),
            targets.to(draws.device, non_blocking=True),
            mixup_alpha=config.augment.mixup_alpha,
            cutmix_alpha=config.augment.cutmix_alpha,
            draws=draws,
            clips_per_video=config.data.clips_per_video,
        )
        if clips.is_floating_point():  # blended pixels lie between bytes
            clips = normalize(clips, info.mean, info.std)
        return clips, targets

    def compute(
        wrapped: nn.Module, inputs: tuple[Tensor, ...], batch: Batch, draws: torch.Generator | ClipDraws
    ) -> BatchLoss:
        del batch
        clips, targets = inputs
        chosen = select_input(model.encoder, clips, info, generator=draws)
        value = soft_cross_entropy(wrapped(chosen.patches, chosen.selection), targets)
        return BatchLoss(value, _tokens_per_clip(chosen.selection))

    return StepLoss(prepare, compute)


def to_device(batch: Batch, draws: torch.Generator | ClipDraws) -> Tensor:
    """Clips where the random numbers are, augmented: uint8, shape [B, 3, T', H, W]."""
    return change_clips_on_device(copy_ahead(batch.frames, draws.device), batch.changes)


def _tokens_per_clip(selection: TokenSelection) -> float:
    """Tokens that are encoded or predicted, on average."""
    return (selection.visible.numel() + selection.target.numel()) / selection.num_clips
