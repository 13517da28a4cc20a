"""Attention, by the way that is fastest where it runs.

Shapes: B clips, h heads, K tokens, R tokens that ask (all, or some of them), d width of a head.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from everest.models.heads import attend_by_heads, is_worth_it
from everest.models.products import goes_to_onednn

MOST_IN_STEPS = 2**25
"""Weights of an attention, B * h * R * K, up to which a CPU computes it in bfloat16 step by step: 64 MiB, kept by every
block for its backward pass."""


def mix(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attend: ``softmax(q @ k.T / sqrt(d)) @ v``.

    By PyTorch's fused kernel, but on a CPU: in bfloat16 the kernel's backward pass is two to four times as slow as the
    matrix products it is made of, so these are taken where their weights are few; and in float32
    :func:`~everest.models.heads.attend_by_heads` is quicker for many tokens where it has faster products.

    Args:
        q: Queries, shape [B, h, R, d].
        k: Keys, shape [B, h, K, d].
        v: Values, shape [B, h, K, d].

    Returns:
        Shape [B, h, R, d].
    """
    if q.device.type != "cpu" or torch.compiler.is_exporting():
        return F.scaled_dot_product_attention(q, k, v)
    if goes_to_onednn(q, k) and is_worth_it(q.shape[2], k.shape[2]):
        by_heads: Tensor = attend_by_heads(q, k, v)
        return by_heads
    num_weights = q.shape[0] * q.shape[1] * q.shape[2] * k.shape[2]
    if q.dtype == torch.bfloat16 and num_weights <= MOST_IN_STEPS:
        return _in_steps(q, k, v)
    return F.scaled_dot_product_attention(q, k, v)


def _in_steps(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    with torch.autocast("cpu", enabled=False):  # it would compute the softmax in float32
        weights = torch.softmax((q * q.shape[-1] ** -0.5) @ k.mT, dim=-1)  # [B, h, R, K]
        return weights @ v
