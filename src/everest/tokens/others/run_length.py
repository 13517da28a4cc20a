"""Run-length tokenisation (RLT, NeurIPS 2024): a tubelet that repeats the one before it is dropped.

A place that does not change for some slots is a run, and only its first tubelet is kept. How many tokens a clip has
follows from the clip.

Shapes: B clips, t time slots, L tokens of a slot, N = t * L tokens, C channels, tau frames of a tubelet, S pixels of a
patch.
"""

import torch
from torch import Tensor

from everest.tokens.grid import TokenGrid


def is_new(patches: Tensor, scale: Tensor, *, grid: TokenGrid, threshold: float) -> Tensor:
    """Tell tubelets that show something new from those that repeat what was there.

    A tubelet repeats where its last frame is like the first frame of the tubelet before it: so the comparison spans
    both tubelets.

    Args:
        patches: Tubelets, shape [B, N, P], as bytes or as values.
        scale: What makes a difference of values one of normalised pixels, per channel, shape [C].
        grid: Where they are.
        threshold: Mean absolute difference of normalised pixels from which on a tubelet is new; RLT takes 0.1.

    Returns:
        Bool, shape [B, N]; slot 0 is always new.
    """
    slots = patches.reshape(
        len(patches), grid.num_slots, grid.tokens_per_slot, 3, grid.tubelet_size, -1
    )  # [B, t, L, C, tau, S]
    last, first = slots[:, 1:, ..., -1, :], slots[:, :-1, ..., 0, :]  # each [B, t - 1, L, C, S]
    change = (last.float() - first.float()).abs().mean(dim=-1) @ scale / len(scale)  # [B, t - 1, L]
    new = change >= threshold
    return torch.cat([torch.ones_like(new[:, :1]), new], dim=1).flatten(1)  # [B, N]
