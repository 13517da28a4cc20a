"""Queries, keys and values for attention that is not one over all tokens.

Shapes: B clips, K tokens, G groups, D width, h heads, d width of a head (D = h * d).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from everest.models.layers import NORM_EPSILON, Mlp
from everest.models.lean import norm_linear


class Projections(nn.Module):
    """The linear maps around an attention, with the names of :class:`~everest.models.layers.Attention`.

    Keys have no bias, as there: it adds the same to all logits of a query and cancels in the softmax, also where each
    channel of a key comes from another token.
    """

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.q_bias = nn.Parameter(torch.zeros(width))
        self.v_bias = nn.Parameter(torch.zeros(width))
        self.proj = nn.Linear(width, width)

    def project(self, x: Tensor, norm: nn.LayerNorm | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, of normalised tokens where ``norm`` is given: [B, K, D] to three of [B, K, D]."""
        bias = torch.cat([self.q_bias, torch.zeros_like(self.q_bias), self.v_bias])
        q, k, v = norm_linear(x, norm, self.qkv.weight, bias).chunk(3, dim=-1)
        return q, k, v

    def attend(self, q: Tensor, k: Tensor, v: Tensor, kept: Tensor | None = None) -> Tensor:
        """Attention inside groups.

        Args:
            q: Queries, shape [..., Q, D].
            k: Keys, shape [..., K, D].
            v: Values, shape [..., K, D].
            kept: Which keys there are, shape [..., K]; None: all. What a group without any gives is finite, and for
                nobody to use.

        Returns:
            Shape [..., Q, D].
        """
        outer, width = q.shape[:-2], q.shape[-1]
        q, k, v = (x.reshape(-1, x.shape[-2], self.num_heads, width // self.num_heads) for x in (q, k, v))
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))  # each [G, h, Q or K, d]
        mask = None
        if kept is not None:
            mask = kept | ~kept.any(dim=-1, keepdim=True)  # an empty group is left open: all masked would be NaN
            mask = mask.reshape(-1, 1, 1, mask.shape[-1])  # [G, 1, 1, K]
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)  # [G, h, Q, d]
        return mixed.transpose(1, 2).reshape(*outer, -1, width)


class SkipPath(nn.Module):
    """Leaves a branch out for some clips in training; see :class:`~everest.models.layers.Block`."""

    def __init__(self, drop_path: float) -> None:
        super().__init__()
        self.drop_path = drop_path

    def forward(self, branch: Tensor) -> Tensor:
        """Scale what stays so that the mean stays: the shape is kept, clips come first."""
        if not self.training or self.drop_path == 0.0:
            return branch
        keep = 1.0 - self.drop_path
        shape = (len(branch), *(1,) * (branch.ndim - 1))
        return branch * branch.new_empty(shape).bernoulli_(keep).div_(keep)

    def extra_repr(self) -> str:
        """Say the probability."""
        return f"{self.drop_path:.3f}"


class SupervisedBlock(nn.Module):
    """Base of the blocks here: training can compile them, as those of the plain ViT.

    Args:
        drop_path: Probability of skipping a branch for a clip, in training.
    """

    def __init__(self, drop_path: float = 0.0) -> None:
        super().__init__()
        self.skip = SkipPath(drop_path)


def make_norm(width: int) -> nn.LayerNorm:
    """A LayerNorm as everywhere here."""
    return nn.LayerNorm(width, eps=NORM_EPSILON)


def make_mlp(width: int) -> Mlp:
    """The MLP of a plain block."""
    return Mlp(width)


def growing_drop_path(drop_path: float, depth: int) -> list[float]:
    """Rates of the blocks: linear from 0 to ``drop_path``."""
    return [drop_path * i / max(1, depth - 1) for i in range(depth)]
