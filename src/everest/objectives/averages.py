"""Averages of errors in which clips count alike, whatever number of targets each has.

So a step does not depend on how its clips are divided over passes and devices.

Shapes: B clips, M targets, S targets of all clips together, Q values predicted for a target.
"""

from collections.abc import Sequence

from torch import Tensor

from everest.models.varlen import mean_of_clips
from everest.tokens import TokenCounts


def average(errors: Tensor, counts: Sequence[TokenCounts] = ()) -> Tensor:
    """Average over the targets of each clip, then over clips.

    Args:
        errors: Shape [B, M, Q]; with ``counts``, of clips that lie one after another, [1, S, Q].
        counts: Targets of each clip, where clips have different numbers of them.

    Returns:
        A scalar.
    """
    return mean_of_each(errors, counts).mean()


def mean_of_each(errors: Tensor, counts: Sequence[TokenCounts] = ()) -> Tensor:
    """Average over the targets of each clip: [B, M, Q] to [B]; for ``counts`` see :func:`average`."""
    by_token = errors.mean(dim=-1, keepdim=True)  # [B, M, 1]
    lengths = [count.num_target for count in counts]
    return (mean_of_clips(by_token, lengths) if lengths else by_token.mean(dim=1)).squeeze(-1)
