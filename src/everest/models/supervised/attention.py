"""Queries, keys and values for attention that is not one over all tokens.

Shapes: B clips, K tokens, G groups, D width, h heads, d width of a head (D = h * d).
"""

import torch.nn.functional as F
from torch import Tensor, nn

from everest.models.dropping import SkipPath
from everest.models.layers import NORM_EPSILON, Mlp, Projections
from everest.models.recomputing import BlockBase
from everest.models.supervised.places import TokenPlaces


class GroupedAttention(Projections):
    """Attention inside groups of tokens: what those of XViT, Motionformer and TimeSformer are made of."""

    def project(self, x: Tensor, norm: nn.LayerNorm | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, of normalised tokens where ``norm`` is given: [B, K, D] to three of [B, K, D]."""
        q, k, v = self.joint(x, norm).chunk(3, dim=-1)
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


class SupervisedBlock(BlockBase):
    """Base of the blocks here: training can compile them, as those of the plain ViT.

    Args:
        drop_path: Probability of skipping a branch for a clip, in training.
    """

    def __init__(self, drop_path: float = 0.0) -> None:
        super().__init__()
        self.skip1, self.skip2 = SkipPath(drop_path), SkipPath(drop_path)


def make_norm(width: int) -> nn.LayerNorm:
    """A LayerNorm as everywhere here."""
    return nn.LayerNorm(width, eps=NORM_EPSILON)


class TokenBlock(SupervisedBlock):
    """Attention over a list of tokens and MLP, each added to its input.

    Args:
        attention: Mixes tokens [B, K, D], given a norm to apply first and the places of the kept ones.
        width: D.
        drop_path: Probability of skipping a branch for a clip, in training.
    """

    def __init__(self, attention: GroupedAttention, width: int, drop_path: float = 0.0) -> None:
        super().__init__(drop_path)
        self.norm1 = make_norm(width)
        self.attn = attention
        self.norm2 = make_norm(width)
        self.mlp = Mlp(width)

    def forward(self, x: Tensor, where: TokenPlaces) -> Tensor:
        """One layer: [B, K, D] to [B, K, D]."""
        x = x + self.skip1(self.attn(x, self.norm1, where))
        return x + self.skip2(self.mlp(x, self.norm2))  # type: ignore[no-any-return]
