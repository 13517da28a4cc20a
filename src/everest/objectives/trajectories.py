"""Motion trajectories as MME predicts them.

Shapes: B clips, N' tokens of all sampled frames, M targets, J values of a token's trajectories.
"""

import torch
from torch import Tensor

from everest.tokens import FrameSelection, TokenGrid, gather_tokens
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
        Targets, 0 where a point was lost, and weights, 1 or 0: float32, each of shape [B, M, J].
    """
    if frames is not None:
        slot, place = target // grid.tokens_per_slot, target % grid.tokens_per_slot
        target = frames.pairs.gather(1, slot) * grid.tokens_per_slot + place
    steps = gather_tokens(motion, target).float() / MAX_STEP_PIXELS  # [B, M, J]
    weight = steps.isfinite()
    steps = steps.masked_fill(~weight, 0.0)
    num_tracked = weight.sum(dim=-1, keepdim=True) / 2  # of steps, each with two coordinates
    deviation = (steps.square().sum(dim=-1, keepdim=True) / num_tracked.clamp(min=1)).sqrt()  # [B, M, 1]
    return steps / deviation.clamp(min=MIN_DEVIATION), weight.float()


def weighted_squares(values: Tensor, targets: Tensor, weight: Tensor) -> Tensor:
    """Mean squared error over what has a weight, first of each clip, then of all: so that clips count alike.

    Args:
        values: Shape [B, M, J].
        targets: Shape [B, M, J].
        weight: Shape [B, M, J].

    Returns:
        A scalar; a clip without any weight counts as 0.
    """
    squares = ((values - targets).square() * weight).sum(dim=(1, 2))  # [B]
    return (squares / weight.sum(dim=(1, 2)).clamp(min=1)).mean()
