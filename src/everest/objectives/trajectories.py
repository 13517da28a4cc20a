"""Motion trajectories as MME predicts them.

Shapes: B clips, N' tokens of all sampled frames, M targets, J values of a token's trajectories.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from everest.objectives.averages import mean_of_each
from everest.tokens import FrameSelection, TokenCounts, TokenGrid, gather_tokens
from everest.tokens.others.packed import locate_tokens
from everest.video.trajectories import MAX_STEP_PIXELS

MIN_DEVIATION = 0.25 / MAX_STEP_PIXELS
"""Of a quarter of a pixel: what moves less is not blown up, for it may be an error of the flow."""


@torch.no_grad()
def trajectory_targets(
    motion: Tensor, target: Tensor, grid: TokenGrid, frames: FrameSelection | None = None
) -> tuple[Tensor, Tensor]:
    """Make targets of tracked steps.

    Steps are divided by 20 pixels, then by the standard deviation of the token's steps about standing still: the root
    of their mean squared length, over all points and steps that were tracked, or a quarter of a pixel where that is
    more. It is not taken about their mean, because a token that moves evenly would have none; such a token has targets
    of length 1. A token that stands still has targets of 0.

    Args:
        motion: From the loader: steps in pixels, NaN where a point was lost, shape [B, N', J].
        target: Token numbers, shape [B, M].
        grid: Where the tokens are.
        frames: Which sampled pairs of frames make the clips; None: all.

    Returns:
        Targets, 0 where a point was lost, and weights, 1 or 0; float32, each of shape [B, M, J].
    """
    if frames is not None:
        clip, number = locate_tokens(target, len(motion), grid)
        slot, place = number // grid.tokens_per_slot, number % grid.tokens_per_slot
        target = frames.pairs[clip, slot] * grid.tokens_per_slot + place
        target = target if len(target) == len(motion) else target + clip * motion.shape[1]
    steps = gather_tokens(motion, target).float() / MAX_STEP_PIXELS  # [B, M, J]
    weight = steps.isfinite()
    steps = steps.masked_fill(~weight, 0.0)
    num_tracked = weight.sum(dim=-1, keepdim=True) / 2  # of steps, each with two coordinates
    deviation = (steps.square().sum(dim=-1, keepdim=True) / num_tracked.clamp(min=1)).sqrt()  # [B, M, 1]
    return steps / deviation.clamp(min=MIN_DEVIATION), weight.float()


def weighted_squares(values: Tensor, targets: Tensor, weight: Tensor, counts: Sequence[TokenCounts] = ()) -> Tensor:
    """Mean squared error over what has a weight, first of each clip, then of all: so that clips count alike.

    Args:
        values: Shape [B, M, J].
        targets: Shape [B, M, J].
        weight: Shape [B, M, J].
        counts: Targets of each clip, where clips lie one after another; see :mod:`everest.objectives.averages`.

    Returns:
        A scalar; a clip without any weight counts as 0.
    """
    squares = mean_of_each((values - targets).square() * weight, counts)  # [B]
    weights = mean_of_each(weight, counts)
    return (squares / weights.where(weights > 0, 1.0)).mean()
