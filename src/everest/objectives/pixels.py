"""Normalised pixels: what EVEREST and VideoMAE predict.

Shapes: B clips, N tokens, M targets, P pixels of a tubelet, C channels (3), S pixels of one channel (P = C * S).
Inputs hold a tubelet as (channel, frame, row, column); targets and predictions as (frame, row, column, channel), the
order of VideoMAE's checkpoints.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from everest.errors import SelectionError
from everest.models.autoencoder import Prediction
from everest.models.tubelets import Tubelets
from everest.objectives.averages import average
from everest.tokens import TokenGrid, gather_tokens

STD_EPSILON = 1e-6


def patch_statistics(pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each tubelet and channel.

    Args:
        pixels: Values 0 to 1, shape [B, M, S, C].

    Returns:
        Mean and unbiased standard deviation (1e-6 added), each of shape [B, M, 1, C].
    """
    mean = pixels.mean(dim=2, keepdim=True)
    return mean, pixels.var(dim=2, unbiased=True, keepdim=True).sqrt() + STD_EPSILON


def target_pixels(patches: Tensor | Tubelets, target: Tensor, grid: TokenGrid, mean: Tensor, std: Tensor) -> Tensor:
    """Bring the target tubelets back to pixel values, and no others.

    Args:
        patches: Tubelets of clips, shape [B, N, P]: normalised with ``mean`` and ``std``, or as bytes.
        target: Token numbers, shape [B, M].
        grid: Where the tokens are.
        mean: Per channel, shape [C].
        std: Per channel, shape [C].

    Returns:
        Values 0 to 1, shape [B, M, S, C].
    """
    if isinstance(patches, Tubelets):
        return patches.take_values(target).reshape(*target.shape, 3, -1).transpose(2, 3)  # [B, M, S, C]
    pixels = gather_tokens(patches, target).reshape(*target.shape, 3, grid.num_pixels // 3)  # [B, M, C, S]
    return pixels.transpose(2, 3) * std + mean  # [B, M, S, C]


@torch.no_grad()
def pixel_targets(patches: Tensor | Tubelets, target: Tensor, grid: TokenGrid, mean: Tensor, std: Tensor) -> Tensor:
    """What is predicted: the pixels of the targets, each tubelet and channel normalised by itself.

    Args:
        patches: Tubelets of clips, shape [B, N, P]: normalised with ``mean`` and ``std``, or as bytes.
        target: Token numbers, shape [B, M].
        grid: Where the tokens are.
        mean: Per channel, shape [C].
        std: Per channel, shape [C].

    Returns:
        Shape [B, M, P].
    """
    pixels = target_pixels(patches, target, grid, mean, std)
    center, spread = patch_statistics(pixels)
    return ((pixels - center) / spread).flatten(2)  # [B, M, P]


def pixel_loss(prediction: Prediction, targets: Tensor) -> Tensor:
    """Mean squared error over all targets, in float32 at least; clips count alike, whatever number of targets each has.

    Args:
        prediction: Of shape [B, M, P].
        targets: From :func:`pixel_targets`, shape [B, M, P].

    Returns:
        A scalar.

    Raises:
        SelectionError: Targets of another shape.
    """
    if targets.shape != prediction.values.shape:
        raise SelectionError(f"{prediction} needs targets of its shape, given: {list(targets.shape)}")
    dtype = torch.promote_types(prediction.values.dtype, torch.float32)
    values, targets, counts = prediction.values.to(dtype), targets.to(dtype), prediction.selection.counts
    if counts:
        return average(F.mse_loss(values, targets, reduction="none"), counts)
    return F.mse_loss(values, targets)
