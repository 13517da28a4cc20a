"""The loss of training, written out part by part, with a mark after each.

It computes what :mod:`everest.training.losses` computes, to the bit; a test holds them together.
"""

import torch
from torch import Tensor

from everest.bench.timeline import Marks
from everest.config import CheckpointInfo, FinetuneConfig
from everest.datasets import Batch
from everest.draws import ClipDraws
from everest.models import Classifier, MaskedModel, ModelInput
from everest.models.choosing import SCORED, choose_tokens
from everest.models.encoder import Encoder
from everest.models.scoring import score_as_set
from everest.models.tubelets import Tubelets, cut
from everest.objectives import Objective
from everest.tokens import TokenSelection
from everest.training.losses import to_device
from everest.training.mixup import mix_clips, soft_cross_entropy, soft_targets
from everest.video import normalize


def marked_pretraining_loss(  # noqa: PLR0917 - as the other one
    model: MaskedModel,
    info: CheckpointInfo,
    objective: Objective,
    batch: Batch,
    generator: torch.Generator | ClipDraws,
    marks: Marks,
) -> Tensor:
    """Predict the target tokens; see :func:`~everest.training.losses.pretraining_loss`."""
    clips = to_device(batch, generator)
    marks.mark("transfer")
    patches, selection = _choose(model.encoder, clips, info, generator, marks)
    targets = objective.targets(ModelInput(patches, selection), batch)
    marks.mark("targets")
    loss = objective.loss(model(patches, selection), targets)
    marks.mark("loss")
    return loss


def marked_finetuning_loss(  # noqa: PLR0917 - as the other one, and the settings
    model: Classifier,
    info: CheckpointInfo,
    config: FinetuneConfig,
    batch: Batch,
    generator: torch.Generator | ClipDraws,
    marks: Marks,
) -> Tensor:
    """Classify; see :func:`~everest.training.losses.finetuning_loss`."""
    clips = to_device(batch, generator)
    marks.mark("transfer")
    targets = soft_targets(batch.labels, len(info.class_names), config.optim.label_smoothing)
    clips, targets = mix_clips(
        clips,
        targets.to(generator.device, non_blocking=True),
        mixup_alpha=config.augment.mixup_alpha,
        cutmix_alpha=config.augment.cutmix_alpha,
        draws=generator,
    )
    if clips.is_floating_point():
        clips = normalize(clips, info.mean, info.std)
    marks.mark("mix")
    loss = soft_cross_entropy(model(*_choose(model.encoder, clips, info, generator, marks)), targets)
    marks.mark("loss")
    return loss


def _choose(
    encoder: Encoder, clips: Tensor, info: CheckpointInfo, generator: torch.Generator | ClipDraws, marks: Marks
) -> tuple[Tensor | Tubelets, TokenSelection]:
    """Cut clips into tubelets and choose tokens; see :meth:`~everest.models.encoder.Encoder.select`."""
    patches = cut(clips, encoder.grid, info.mean, info.std)  # [B, N, P]
    marks.mark("patchify")
    scores = tokens = None
    if info.selection.method in SCORED:
        scores, tokens = score_as_set(encoder.patch_embed, patches, encoder.grid, info.selection)
        marks.mark("score")
    selection = choose_tokens(
        patches, encoder.grid, info.selection, info.task, scores=scores, embedded=tokens, generator=generator
    )
    marks.mark("select")
    return patches, selection
