"""XViT: space-time mixing attention (Bulat et al., NeurIPS 2021, "Space-time Mixing Attention for Video Transformer").

Attention stays inside a time slot, and so costs what it costs an image. Time enters through the keys and values: of
each, one share of the channels is that of the token at the same spot one slot before, another that of one slot after.
Every slot has a class token; a last block attends over the class tokens of all slots.

On kept tokens: a query meets the kept tokens of its slot and the class token. Where the neighbour in time is not kept,
or the clip has ended, the token's own channels stay.

Choices that the paper leaves open or that are ours: a quarter of each head's channels from either neighbour, half its
own; class tokens are mixed like any spot; one block over time, then the mean over its class tokens.

Shapes: B clips, V kept tokens, t time slots, L tokens of a slot, S = L + 1 with the class token, D width, h heads, d
width of a head, P pixels of a tubelet, N tokens.
"""

import torch
from torch import Tensor, nn

from everest.models.layers import Block, growing_drop_path
from everest.models.supervised.attention import GroupedAttention, TokenBlock
from everest.models.supervised.base import TokenListEncoder
from everest.models.supervised.places import TokenPlaces
from everest.models.tubelets import Tubelets
from everest.tokens import TokenGrid, TokenSelection

NEIGHBOUR_SHARE = 4  # one in so many channels comes from either neighbour


class MixingAttention(GroupedAttention):
    """Attention inside slots over keys and values that are mixed over time."""

    def forward(self, x: Tensor, norm: nn.LayerNorm, where: TokenPlaces) -> Tensor:
        """Mix tokens.

        Args:
            x: Kept tokens, then the class tokens of the slots, shape [B, V + t, D].
            norm: Applied first.
            where: Places of the kept tokens.

        Returns:
            Shape [B, V + t, D].
        """
        num_kept = where.visible.shape[1]

        def spread(x: Tensor) -> Tensor:
            classes = x[:, num_kept:].unsqueeze(2)  # [B, t, 1, D]
            return torch.cat([where.spread(x[:, :num_kept]), classes], dim=2)  # [B, t, S, D]

        kept = None if where.kept is None else nn.functional.pad(where.kept, (0, 1), value=True)  # [B, t, S]
        q, k, v = (spread(x) for x in self.project(x, norm))
        mixed = self.attend(q, self.mix(k, kept), self.mix(v, kept), kept)  # [B, t, S, D]
        tokens = torch.cat([where.collect(mixed[:, :, :-1]), mixed[:, :, -1]], dim=1)  # [B, V + t, D]
        return self.proj(tokens)  # type: ignore[no-any-return]

    def mix(self, x: Tensor, kept: Tensor | None) -> Tensor:
        """Take shares of the channels from the slots before and after.

        Args:
            x: Keys or values on the grid, shape [B, t, S, D].
            kept: Which places hold a token, shape [B, t, S]; None: all.

        Returns:
            Shape [B, t, S, D].
        """
        own = x.reshape(*x.shape[:3], self.num_heads, -1)  # [B, t, S, h, d]
        before, after = _before(own), _after(own)
        if kept is not None:
            before = torch.where(_before(kept)[..., None, None], before, own)
            after = torch.where(_after(kept)[..., None, None], after, own)
        share = own.shape[-1] // NEIGHBOUR_SHARE
        mixed = [before[..., :share], after[..., share : 2 * share], own[..., 2 * share :]]
        return torch.cat(mixed, dim=-1).flatten(-2)  # [B, t, S, D]


class XViT(TokenListEncoder):
    """Space-time mixing attention over any selection of tokens.

    Args:
        grid: The tokens of a clip.
        width: D.
        depth: Number of blocks.
        num_heads: h.
        drop_path: Of the last block.
    """

    def __init__(self, grid: TokenGrid, *, width: int, depth: int, num_heads: int, drop_path: float = 0.0) -> None:
        super().__init__(grid, width=width, num_heads=num_heads)
        rates = growing_drop_path(drop_path, depth)
        self.blocks = nn.ModuleList(TokenBlock(MixingAttention(width, num_heads), width, rate) for rate in rates)
        self.time_block = Block(width, num_heads)

    def forward(self, patches: Tensor | Tubelets, selection: TokenSelection) -> Tensor:
        """Describe clips by the visible tokens: [B, N, P] to [B, t, D], the class tokens of the slots."""
        x, where = self.embed(patches, selection)
        classes = self.places.class_tokens(len(x)) + self.places.time  # [B, t, D]
        x = torch.cat([x, classes], dim=1)  # [B, V + t, D]
        for block in self.blocks:
            x = block(x, where)
        return self.time_block(x[:, -classes.shape[1] :])  # type: ignore[no-any-return]


def _before(x: Tensor) -> Tensor:
    """What stands one slot before, and in slot 0 what stands there: [B, t, ...]."""
    return torch.cat([x[:, :1], x[:, :-1]], dim=1)


def _after(x: Tensor) -> Tensor:
    """What stands one slot after, and in the last slot what stands there: [B, t, ...]."""
    return torch.cat([x[:, 1:], x[:, -1:]], dim=1)
