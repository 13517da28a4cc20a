"""Selections of clips that keep different numbers of tokens, packed into one row.

Shapes: B clips, N tokens, V visible and M targets of a clip.
"""

import torch
from torch import Tensor

from everest.tokens.grid import TokenGrid
from everest.tokens.selection import TokenCounts, TokenSelection


def pack_selection(visible: Tensor, target: Tensor, grid: TokenGrid, scores: Tensor | None = None) -> TokenSelection:
    """List the tokens of all clips one after another; each clip as many as it has.

    Args:
        visible: Which tokens are encoded, bool, shape [B, N].
        target: Which tokens are predicted, bool, shape [B, N].
        grid: Where the tokens are.
        scores: Change of every token where the method needs it, shape [B, N].

    Returns:
        A selection with ``counts``: ``visible`` [1, sum V] and ``target`` [1, sum M]. Making it waits for the device.
    """
    numbers = zip(visible.sum(dim=1).tolist(), target.sum(dim=1).tolist(), strict=True)
    return TokenSelection(
        visible.flatten().nonzero().mT,  # [1, sum V]: clip by clip, ascending
        target.flatten().nonzero().mT,
        grid,
        scores,
        counts=tuple(TokenCounts(*pair) for pair in numbers),
    )


def locate_tokens(index: Tensor, num_clips: int, grid: TokenGrid) -> tuple[Tensor, Tensor]:
    """Tell which clip each token is of, and its number there.

    Args:
        index: Token numbers of each clip, shape [B, K], or one row that counts through all clips, [1, K].
        num_clips: B.
        grid: Where the tokens are.

    Returns:
        Clips, shape [B, 1] or [1, K], and numbers inside the clips, of the shape of ``index``.
    """
    if len(index) == num_clips:
        return torch.arange(num_clips, device=index.device)[:, None], index
    return index // grid.num_tokens, index % grid.num_tokens
