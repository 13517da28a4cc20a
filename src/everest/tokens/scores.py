"""How much each token changes: the scores behind redundancy-robust (ReRo) selection.

Shapes: B clips, t time slots, L tokens of a slot, N = t * L tokens, D width of the embedding.
"""

import torch
from torch import Tensor

from everest.errors import SelectionError
from everest.tokens.grid import TokenGrid


def token_changes(tokens: Tensor, grid: TokenGrid) -> Tensor:
    """Subtract from each token the one at the same place one time slot earlier: [B, N, D] to [B, t - 1, L, D].

    The embedding is linear, so changes of pixels embed to changes of embeddings; and what is still is exactly 0.
    """
    slots = tokens.reshape(len(tokens), grid.num_slots, grid.tokens_per_slot, -1)  # [B, t, L, D]
    return slots[:, 1:] - slots[:, :-1]


def rero_scores(changes: Tensor) -> Tensor:
    """Score tokens by the l2 length of the change of their embedding (paper, section on ReRo masking).

    Slot 0 has no slot before it and takes the scores of slot 1, so the two are always tied.

    Args:
        changes: Embedded changes of slots 1 to t - 1, shape [B, t - 1, L, D].

    Returns:
        Scores, 0 where nothing changes, shape [B, N]; float32, or float64 where the changes are. Fewer than two time
        slots are a SelectionError.
    """
    if changes.shape[1] < 1:
        raise SelectionError("ReRo compares neighbouring time slots: a clip needs at least two")
    dtype = torch.promote_types(changes.dtype, torch.float32)
    distances = torch.linalg.vector_norm(changes, dim=-1, dtype=dtype)  # [B, t - 1, L]
    return torch.cat([distances[:, :1], distances], dim=1).flatten(1)  # [B, N]
