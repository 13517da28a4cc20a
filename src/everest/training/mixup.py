"""Soft targets, and mixup and cutmix of whole clips.

Shapes: B clips, C channels, T frames, H height, W width, K classes.

Sources: mixup (Zhang et al., 2018, arXiv:1710.09412); cutmix (Yun et al., 2019, arXiv:1905.04899).
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from everest.draws import ClipDraws
from everest.errors import DataError

MAX_SEED = 2**63 - 1


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
    draws: torch.Generator | ClipDraws,
    clips_per_video: int = 1,
) -> tuple[Tensor, Tensor]:
    """Mix every clip of a batch with a partner, and the targets in the same proportion.

    Partners are the clips of two videos that follow each other; without a second one a clip is left as it is. So a
    step is the same however it is divided, if no pair is torn. Each pair draws a share from Beta(alpha, alpha). Mixup
    blends the pixels; cutmix pastes one box, the same in all frames, and the share follows the area that the box
    really has after the border cut it. With both alphas above 0 a fair coin decides, once for a step; with none the
    very arguments are returned.

    Args:
        clips: Shape [B, C, T, H, W]: floating point, or uint8.
        targets: Distributions over the classes, shape [B, K].
        mixup_alpha: Beta parameter of mixup, 0 or more; 0 turns it off.
        cutmix_alpha: Beta parameter of cutmix, 0 or more; 0 turns it off.
        draws: Where the random numbers come from.
        clips_per_video: Clips that follow each other and are of one video: they are never partners.

    Returns:
        The mixed clips and targets, of the shapes given. Mixup of uint8 gives float32, since blends lie between bytes.

    Raises:
        DataError: The clips are not of shape [B, C, T, H, W], or the targets do not fit them.
    """
    is_known = clips.is_floating_point() or clips.dtype == torch.uint8
    if clips.ndim != 5 or not is_known or targets.shape[:1] != clips.shape[:1] or len(clips) % clips_per_video:
        raise DataError(
            f"mixing takes floating-point or uint8 clips [B, C, T, H, W] and targets [B, K], "
            f"not {clips.dtype} {list(clips.shape)} and {list(targets.shape)}, in whole videos of {clips_per_video}"
        )
    if mixup_alpha <= 0 and cutmix_alpha <= 0:
        return clips, targets
    step_seed, seeds = _seeds(draws, len(clips))
    use_cutmix = cutmix_alpha > 0 and (mixup_alpha <= 0 or np.random.default_rng(step_seed).random() < 0.5)
    alpha = cutmix_alpha if use_cutmix else mixup_alpha
    partners = [_partner(number, len(clips), clips_per_video) for number in range(len(clips))]
    pairs = [np.random.default_rng(seeds[min(pair)]) for pair in enumerate(partners)]  # the same for both of a pair
    shares = [float(pair.beta(alpha, alpha)) for pair in pairs]
    if use_cutmix:
        mixed, (height, width) = clips.clone(), clips.shape[-2:]
        for number, (partner, pair) in enumerate(zip(partners, pairs, strict=True)):
            top, bottom, left, right = _box(height, width, 1.0 - shares[number], pair)
            shares[number] = 1.0 - (bottom - top) * (right - left) / (height * width)
            mixed[number, ..., top:bottom, left:right] = clips[partner, ..., top:bottom, left:right]
        return mixed, _blend(targets, partners, shares)
    return _blend(clips if clips.is_floating_point() else clips.float(), partners, shares), _blend(
        targets, partners, shares
    )


def _partner(number: int, num_clips: int, clips_per_video: int) -> int:
    """The clip of the next video, or of the one before: with the same place in its video."""
    video, place = divmod(number, clips_per_video)
    partner = (video ^ 1) * clips_per_video + place
    return partner if partner < num_clips else number


def _blend(values: Tensor, partners: list[int], shares: list[float]) -> Tensor:
    """Mix rows with those of their partners: [B, ...] to the same."""
    own = torch.tensor(shares, dtype=values.dtype).reshape(-1, *(1,) * (values.ndim - 1))
    own, others = (x.to(values.device, non_blocking=True) for x in (own, torch.tensor(partners)))
    return torch.lerp(values[others], values, own)


def _seeds(draws: torch.Generator | ClipDraws, num_clips: int) -> tuple[int, list[int]]:
    """A seed for all together, and one for each clip: what numpy takes, whose Beta distribution takes seeds."""
    if isinstance(draws, ClipDraws):
        return draws.step_seed & MAX_SEED, [seed & MAX_SEED for seed in draws.seeds.tolist()]
    drawn = torch.randint(MAX_SEED, (1 + num_clips,), generator=draws, device=draws.device).tolist()
    return drawn[0], drawn[1:]


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
