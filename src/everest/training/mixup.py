"""Soft targets, and mixup and cutmix of whole clips.

Shapes: B clips, C channels, T frames, H height, W width, K classes.

Sources: mixup (Zhang et al., 2018, arXiv:1710.09412); cutmix (Yun et al., 2019, arXiv:1905.04899).
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from everest.errors import DataError


def soft_targets(labels: Tensor, num_classes: int, smoothing: float = 0.0) -> Tensor:
    """Turn class indices into distributions over the classes.

    Args:
        labels: Class indices, shape [B], int64. The range is checked on the CPU only: make the targets before they
            move to another device.
        num_classes: Number of classes, K.
        smoothing: Share that is spread evenly over all classes, from 0 to below 1.

    Returns:
        Rows that sum to 1, shape [B, K], float32.

    Raises:
        DataError: A label is not a class index.
    """
    if labels.device.type == "cpu" and labels.numel():
        lowest, highest = int(labels.min()), int(labels.max())
        if lowest < 0 or highest >= num_classes:
            raise DataError(
                f"labels must be 0 to {num_classes - 1} for {num_classes} classes, not {lowest} to {highest}"
            )
    return F.one_hot(labels, num_classes).float() * (1.0 - smoothing) + smoothing / num_classes


def soft_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean over the batch of the cross entropy between target distributions and predictions, in float32.

    Args:
        logits: Scores, shape [B, K].
        targets: Distributions over the classes, shape [B, K].

    Returns:
        The loss, a scalar.
    """
    return F.cross_entropy(logits.float(), targets.float())


def mix_clips(
    clips: Tensor,
    targets: Tensor,
    *,
    mixup_alpha: float,
    cutmix_alpha: float,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Mix every clip of a batch with a partner, and the targets in the same proportion.

    One share is drawn per batch from Beta(alpha, alpha), and clip i is mixed with clip B - 1 - i. Mixup blends the
    pixels; cutmix pastes one box, the same in all frames, and the share follows the area that the box really has after
    the border cut it. With both alphas above 0 a fair coin decides for each batch; with none the very arguments are
    returned.

    Args:
        clips: Shape [B, C, T, H, W]: floating point, or uint8.
        targets: Distributions over the classes, shape [B, K].
        mixup_alpha: Beta parameter of mixup, 0 or more; 0 turns it off.
        cutmix_alpha: Beta parameter of cutmix, 0 or more; 0 turns it off.
        generator: Source of the draws. One on the CPU spares a wait for the device.

    Returns:
        The mixed clips and targets, of the shapes given. Mixup of uint8 gives float32, since blends lie between bytes.

    Raises:
        DataError: The clips are not of shape [B, C, T, H, W], or the targets do not fit them.
    """
    is_known = clips.is_floating_point() or clips.dtype == torch.uint8
    if clips.ndim != 5 or not is_known or targets.shape[:1] != clips.shape[:1]:
        raise DataError(
            f"mixing takes floating-point or uint8 clips [B, C, T, H, W] and targets [B, K], "
            f"not {clips.dtype} {list(clips.shape)} and {list(targets.shape)}"
        )
    if mixup_alpha <= 0 and cutmix_alpha <= 0:
        return clips, targets
    draws = _numpy_generator(generator)
    use_cutmix = cutmix_alpha > 0 and (mixup_alpha <= 0 or draws.random() < 0.5)
    if use_cutmix:
        share = float(draws.beta(cutmix_alpha, cutmix_alpha))
        top, bottom, left, right = _box(clips.shape[-2], clips.shape[-1], 1.0 - share, draws)
        share = 1.0 - (bottom - top) * (right - left) / (clips.shape[-2] * clips.shape[-1])
        mixed = clips.clone()
        mixed[..., top:bottom, left:right] = clips[..., top:bottom, left:right].flip(0)
    else:
        share = float(draws.beta(mixup_alpha, mixup_alpha))
        clips = clips if clips.is_floating_point() else clips.float()
        mixed = torch.lerp(clips.flip(0), clips, share)
    return mixed, torch.lerp(targets.flip(0), targets, share)


def _numpy_generator(generator: torch.Generator) -> np.random.Generator:
    """Continue a torch generator in numpy, whose Beta distribution takes a generator (torch's does not)."""
    seed = torch.randint(2**62, (), generator=generator, device=generator.device)
    return np.random.default_rng(int(seed))


def _box(height: int, width: int, area: float, draws: np.random.Generator) -> tuple[int, int, int, int]:
    """Draw a box of the clip's aspect around a uniform centre and cut it at the border.

    Returns:
        Top, bottom, left, right in pixels, the ends exclusive.
    """
    side = math.sqrt(area)
    box_height, box_width = int(height * side), int(width * side)
    top = int(draws.integers(height)) - box_height // 2
    left = int(draws.integers(width)) - box_width // 2
    bottom, right = top + box_height, left + box_width
    return max(top, 0), min(bottom, height), max(left, 0), min(right, width)
