"""TimeSformer: divided attention over time, then space (Bertasius et al., ICML 2021).

The paper is "Is Space-Time Attention All You Need for Video Understanding?".

On kept tokens: attention over time runs over the kept tokens of one spot, attention over space over those of one slot
and the class token. The class token is in every slot; the mean is taken over the slots that hold a token. With all
tokens this is the TimeSformer of transformers, number for number.

Shapes: B clips, V kept tokens, t time slots, L tokens of a slot, D width, P pixels of a tubelet, N tokens.
"""

import torch
from torch import Tensor, nn

from everest.models.dropping import SkipPath
from everest.models.layers import growing_drop_path
from everest.models.products import Linear
from everest.models.supervised.attention import GroupedAttention, TokenBlock, make_norm
from everest.models.supervised.base import ClassTokenEncoder
from everest.models.supervised.places import TokenPlaces
from everest.tokens import TokenGrid


class TimeAttention(GroupedAttention):
    """Attention among the tokens of one spot."""

    def forward(self, x: Tensor, norm: nn.LayerNorm, where: TokenPlaces) -> Tensor:
        """Mix the kept tokens: [B, V, D] to [B, V, D]."""
        q, k, v = (where.spread(x).transpose(1, 2) for x in self.project(x, norm))  # each [B, L, t, D]
        kept = None if where.kept is None else where.kept.transpose(1, 2)  # [B, L, t]
        mixed = self.attend(q, k, v, kept).transpose(1, 2)  # [B, t, L, D]
        return self.proj(where.collect(mixed))  # type: ignore[no-any-return]


class SpaceAttention(GroupedAttention):
    """Attention among the tokens of one slot and the class token."""

    def forward(self, x: Tensor, norm: nn.LayerNorm, where: TokenPlaces) -> Tensor:
        """Mix the class token and the kept tokens: [B, 1 + V, D] to [B, 1 + V, D]."""

        def spread(x: Tensor) -> Tensor:
            classes = x[:, None, :1].expand(-1, where.grid.num_slots, -1, -1)  # [B, t, 1, D]
            return torch.cat([classes, where.spread(x[:, 1:])], dim=2)  # [B, t, 1 + L, D]

        q, k, v = (spread(x) for x in self.project(x, norm))
        kept = None if where.kept is None else nn.functional.pad(where.kept, (1, 0), value=True)  # [B, t, 1 + L]
        mixed = self.attend(q, k, v, kept)  # [B, t, 1 + L, D]
        class_token = _mean_over_slots(mixed[:, :, 0], where.kept)  # [B, 1, D]
        return self.proj(torch.cat([class_token, where.collect(mixed[:, :, 1:])], dim=1))  # type: ignore[no-any-return]


class DividedBlock(TokenBlock):
    """Attention over time, attention over space, and MLP, each added to its input; the first without class token."""

    def __init__(self, width: int, num_heads: int, drop_path: float = 0.0) -> None:
        super().__init__(SpaceAttention(width, num_heads), width, drop_path)
        self.time_skip = SkipPath(drop_path)
        self.time_norm = make_norm(width)
        self.time_attn = TimeAttention(width, num_heads)
        self.time_proj = Linear(width, width)

    def forward(self, x: Tensor, where: TokenPlaces) -> Tensor:
        """One layer: class token and kept tokens, [B, 1 + V, D] to [B, 1 + V, D]."""
        tokens = x[:, 1:]
        tokens = tokens + self.time_skip(self.time_proj(self.time_attn(tokens, self.time_norm, where)))
        return super().forward(torch.cat([x[:, :1], tokens], dim=1), where)


class TimeSformer(ClassTokenEncoder):
    """Divided space-time attention over any selection of tokens.

    Args:
        grid: The tokens of a clip.
        width: D.
        depth: Number of blocks.
        num_heads: Heads of a block.
        drop_path: Of the last block.
    """

    def __init__(self, grid: TokenGrid, *, width: int, depth: int, num_heads: int, drop_path: float = 0.0) -> None:
        blocks = [DividedBlock(width, num_heads, rate) for rate in growing_drop_path(drop_path, depth)]
        super().__init__(grid, blocks, width=width, num_heads=num_heads)


def _mean_over_slots(x: Tensor, kept: Tensor | None) -> Tensor:
    """Average over the slots that hold a token: [B, t, D] and [B, t, L] to [B, 1, D]."""
    if kept is None:
        return x.mean(dim=1, keepdim=True)
    weight = kept.any(dim=2).to(x.dtype).unsqueeze(-1)  # [B, t, 1]
    return (x * weight).sum(dim=1, keepdim=True) / weight.sum(dim=1, keepdim=True)
