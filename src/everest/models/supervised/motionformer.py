"""Motionformer: trajectory attention (Patrick et al., NeurIPS 2021, "Keeping Your Eye on the Ball").

A token first looks for itself in every time slot: attention over the tokens of one slot, for each slot apart, gives one
trajectory token per slot. Then it attends over its own trajectory, from where it is. The class token attends over all
tokens, and no token attends to it.

On kept tokens: each slot's attention runs over the kept tokens of that slot; a slot that holds none has no trajectory
token, and is masked in the second attention.

Shapes: B clips, V kept tokens, t time slots, L tokens of a slot, D width, P pixels of a tubelet, N tokens.
"""

import torch
from torch import Tensor, nn

from everest.models.layers import growing_drop_path
from everest.models.products import Linear
from everest.models.supervised.attention import GroupedAttention, TokenBlock
from everest.models.supervised.base import ClassTokenEncoder
from everest.models.supervised.places import TokenPlaces
from everest.tokens import TokenGrid


class TrajectoryAttention(GroupedAttention):
    """Attention over space in each slot, then over time along what was found."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__(width, num_heads)
        self.trajectory_q = Linear(width, width)
        self.trajectory_kv = Linear(width, 2 * width)

    def forward(self, x: Tensor, norm: nn.LayerNorm, where: TokenPlaces) -> Tensor:
        """Mix tokens.

        Args:
            x: The class token, then the kept tokens, shape [B, 1 + V, D].
            norm: Applied first.
            where: Places of the kept tokens.

        Returns:
            Shape [B, 1 + V, D].
        """
        q, k, v = self.project(x, norm)
        class_token = self.attend(q[:, :1], k, v)  # [B, 1, D]
        found = self._find(q[:, 1:], k[:, 1:], v[:, 1:], where)  # [B, V, t, D]
        here = where.slots[:, :, None, None].expand(-1, -1, 1, found.shape[-1])  # [B, V, 1, D]
        q = self.trajectory_q(found.gather(2, here))  # [B, V, 1, D]
        k, v = self.trajectory_kv(found).chunk(2, dim=-1)  # each [B, V, t, D]
        kept = None if where.kept is None else where.kept.any(dim=2).unsqueeze(1).expand(found.shape[:3])  # [B, V, t]
        tokens = self.attend(q, k, v, kept).squeeze(2)  # [B, V, D]
        return self.proj(torch.cat([class_token, tokens], dim=1))  # type: ignore[no-any-return]

    def _find(self, q: Tensor, k: Tensor, v: Tensor, where: TokenPlaces) -> Tensor:
        """Look for every token in every slot: three of [B, V, D] to [B, V, t, D]."""
        in_each = q.unsqueeze(1).expand(-1, where.grid.num_slots, -1, -1)  # [B, t, V, D]
        found = self.attend(in_each, where.spread(k), where.spread(v), where.kept)  # [B, t, V, D]
        return found.transpose(1, 2)


class Motionformer(ClassTokenEncoder):
    """Trajectory attention over any selection of tokens.

    Args:
        grid: The tokens of a clip.
        width: D.
        depth: Number of blocks.
        num_heads: Heads of a block.
        drop_path: Of the last block.
    """

    def __init__(self, grid: TokenGrid, *, width: int, depth: int, num_heads: int, drop_path: float = 0.0) -> None:
        rates = growing_drop_path(drop_path, depth)
        blocks = [TokenBlock(TrajectoryAttention(width, num_heads), width, rate) for rate in rates]
        super().__init__(grid, blocks, width=width, num_heads=num_heads)
