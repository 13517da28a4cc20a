"""Attention, by the way that is fastest where it runs.

Shapes: B clips, h heads, K tokens, R tokens that ask (all, or some of them), d width of a head.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from everest.models.heads import WORTH_IT, attend_by_heads
from everest.models.products import goes_to_onednn

MOST_IN_STEPS = 2**25
"""Weights of an attention, B * h * R * K, up to which a CPU computes it in bfloat16 step by step: 64 MiB, kept by every
block for its backward pass."""
FEW_TOKENS = 2**15
"""R * K up to which a CPU computes it in float32 step by step in training: 181 tokens."""


def mix(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attend: ``softmax(q @ k.T / sqrt(d)) @ v``.

    By PyTorch's fused kernel, but on a CPU: in bfloat16 the kernel's backward pass is two to four times as slow as the
    matrix products it is made of, so these are taken where their weights are few; in float32 they are quicker for few
    tokens, and :func:`~everest.models.heads.attend_by_heads` is for many, where it has faster products.

    Args:
        q: Queries, shape [B, h, R, d].
        k: Keys, shape [B, h, K, d].
        v: Values, shape [B, h, K, d].

    Returns:
        Shape [B, h, R, d].
    """
    if q.device.type != "cpu" or torch.compiler.is_exporting():
        return F.scaled_dot_product_attention(q, k, v)
    if q.shape[2] * k.shape[2] >= WORTH_IT and goes_to_onednn(q, k):
        by_heads: Tensor = attend_by_heads(q, k, v)
        return by_heads
    return _in_steps(q, k, v) if _is_quicker_in_steps(q, k) else F.scaled_dot_product_attention(q, k, v)


def _is_quicker_in_steps(q: Tensor, k: Tensor) -> bool:
    num_weights = q.shape[2] * k.shape[2]
    if q.dtype == torch.bfloat16:
        return q.shape[0] * q.shape[1] * num_weights <= MOST_IN_STEPS
    return q.dtype == torch.float32 and num_weights <= FEW_TOKENS and torch.is_grad_enabled()


def _in_steps(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    with torch.autocast("cpu", enabled=False):  # it would compute the softmax in float32
        weights = torch.softmax((q * q.shape[-1] ** -0.5) @ k.mT, dim=-1)  # [B, h, R, K]
        return weights @ v
