"""Adaptive ReRo selection: as many tokens of a clip as its motion asks for.

The paper keeps the same number of tokens of every clip, whether people run through it or sit. Here the tokens that
change most are kept until they cover a stated share of all the change in the clip.

Shapes: B clips, N tokens.
"""

import torch
from torch import Tensor

from everest.errors import SelectionError


def count_by_coverage(scores: Tensor, coverage: float, least: int, most: int) -> Tensor:
    """Count the tokens that cover a share of a clip's total change.

    Args:
        scores: Change of every token, not negative, shape [B, N].
        coverage: Share of the sum of a clip's scores, above 0 and up to 1.
        least: A clip in which nothing changes, or little, keeps so many.
        most: No clip keeps more.

    Returns:
        The smallest number of tokens whose scores add up to the share, between the two limits; shape [B], int64.

    Raises:
        SelectionError: Limits or share out of range.
    """
    if not 0 < coverage <= 1 or not 1 <= least <= most <= scores.shape[1]:
        raise SelectionError(
            f"coverage lies above 0 and up to 1, and 1 <= least <= most <= {scores.shape[1]} tokens; "
            f"given: {coverage}, {least} and {most}"
        )
    covered = scores.double().sort(dim=1, descending=True).values.cumsum(dim=1)  # [B, N]
    wanted = coverage * covered[:, -1:]
    # One more than those that together fall short; a sum of doubles is the same on every device to far below this.
    short = covered < wanted * (1 - 1e-12)
    return (short.sum(dim=1) + 1).clamp(least, most)


def split_by_count(ranked: Tensor, num_kept: Tensor, num_visible: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Keep the first tokens of each clip and share them out at random, each clip its own number.

    Args:
        ranked: Token numbers in order of rank, shape [B, N].
        num_kept: How many of them are kept, shape [B].
        num_visible: How many of those are encoded, shape [B]; the rest is predicted.
        noise: In [0, 1), a number for each rank, shape [B, N]; the smallest are encoded.

    Returns:
        Which tokens are visible and which are targets, bool, each of shape [B, N].
    """
    rank = torch.arange(ranked.shape[1], device=ranked.device)  # [N]
    kept = rank < num_kept[:, None]  # [B, N]
    order = (noise + 2.0 * ~kept).argsort(dim=1, stable=True)  # kept ones first, shuffled
    shuffled = ranked.gather(1, order)
    visible, target = torch.zeros_like(kept), torch.zeros_like(kept)
    visible.scatter_(1, shuffled, rank < num_visible[:, None])
    target.scatter_(1, shuffled, (rank >= num_visible[:, None]) & kept)
    return visible, target
