"""Other measures of change than the paper's: its ablation compares l2, which it takes, with l1 and cosine.

Shapes: B clips, t time slots, L tokens of a slot, N = t * L tokens, D width of what is compared.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from everest.tokens.scores import rero_scores

_TINY = 1e-30  # a length: what is shorter counts as nothing


def l1_scores(changes: Tensor) -> Tensor:
    """Score tokens by the l1 length of their change: [B, t - 1, L, D] to [B, N], as ``rero_scores`` does by l2."""
    dtype = torch.promote_types(changes.dtype, torch.float32)
    return _with_slot_0(torch.linalg.vector_norm(changes, ord=1, dim=-1, dtype=dtype))


def cosine_scores(later: Tensor, changes: Tensor) -> Tensor:
    """Score tokens by 1 - cosine of the angle between them and what was there a slot before.

    That is half the squared distance of the two directions, which is what is computed: it loses no digits where the
    angle is small. A token of zeros has no direction, and is 1/2 away from all others.

    Args:
        later: Tokens of slots 1 to t - 1, shape [B, t - 1, L, D].
        changes: What was added to those of the slot before to make them, shape [B, t - 1, L, D].

    Returns:
        Scores from 0 to 2, exactly 0 where the change is 0, shape [B, N]; those of slot 0 are those of slot 1.
    """
    after, before = (F.normalize(each, dim=-1, eps=_TINY) for each in (later, later - changes))
    distances = (after - before).square().sum(dim=-1) / 2  # [B, t - 1, L]
    return _with_slot_0(distances * changes.any(dim=-1))  # or rounding might score what is still


def _with_slot_0(distances: Tensor) -> Tensor:
    """Give slot 0 the scores of slot 1: [B, t - 1, L] to [B, N]."""
    return rero_scores(distances.unsqueeze(-1))  # of one number the length is the number
