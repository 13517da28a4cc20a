"""Attention, by the way that is fastest where it runs.

Shapes: B clips, h heads, K tokens, d width of a head.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

MOST_IN_STEPS = 512
"""Tokens up to which a CPU computes attention in bfloat16 step by step; above, the K x K weights that every block keeps
for its backward pass would need too much memory."""


def mix(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attend: ``softmax(q @ k.T / sqrt(d)) @ v``.

    By PyTorch's fused kernel; but in bfloat16 on a CPU its backward pass is two to four times as slow as the matrix
    products it is made of, so few tokens take these.

    Args:
        q: Queries, shape [B, h, K, d].
        k: Keys, of the same shape.
        v: Values, of the same shape.

    Returns:
        Shape [B, h, K, d].
    """
    if q.device.type != "cpu" or q.dtype != torch.bfloat16 or q.shape[2] > MOST_IN_STEPS:
        return F.scaled_dot_product_attention(q, k, v)
    with torch.autocast("cpu", enabled=False):  # it would compute the softmax in float32
        weights = torch.softmax((q * q.shape[-1] ** -0.5) @ k.mT, dim=-1)  # [B, h, K, K]
        return weights @ v
