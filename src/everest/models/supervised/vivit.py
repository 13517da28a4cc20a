"""ViViT with a factorised encoder, "FE" or model 2 (Arnab et al., ICCV 2021, "ViViT: A Video Vision Transformer").

A ViT looks at every time slot by itself; a second, shallow one attends over the class tokens of the slots.

Shapes: B clips, N tokens, P pixels of a tubelet, t time slots, L tokens of a slot, D width.
"""

import torch
from torch import Tensor, nn

from everest.models.layers import make_blocks
from everest.models.supervised.attention import make_norm
from everest.models.supervised.base import WholeClipEncoder
from everest.models.tubelets import Tubelets
from everest.tokens import TokenGrid, TokenSelection

TIME_DEPTH = 4
"""Blocks over time (paper, section on ablations)."""


class ViViT(WholeClipEncoder):
    """A ViT of each slot, then one over the slots.

    Args:
        grid: The tokens of a clip.
        width: D.
        depth: Number of blocks over space.
        num_heads: Heads of a block.
        drop_path: Of the last block over space.
    """

    def __init__(self, grid: TokenGrid, *, width: int, depth: int, num_heads: int, drop_path: float = 0.0) -> None:
        super().__init__(grid, width=width, num_heads=num_heads)
        self.places = nn.ParameterDict(
            {
                "space_class": torch.zeros(1, 1, width),
                "space": torch.zeros(1, 1 + grid.tokens_per_slot, width),
                "time_class": torch.zeros(1, 1, width),
                "time": torch.zeros(1, 1 + grid.num_slots, width),
            }
        )
        for parameter in self.places.values():
            nn.init.trunc_normal_(parameter, std=0.02)
        self.blocks = make_blocks(depth, width, num_heads, drop_path)
        self.norm = make_norm(width)
        self.time_blocks = make_blocks(TIME_DEPTH, width, num_heads)

    def forward(self, patches: Tensor | Tubelets, selection: TokenSelection) -> Tensor:
        """Describe clips: [B, N, P] to [B, 1, D], the class token over time."""
        x: Tensor = self.patch_embed(self.take(patches, selection), selection.embedded)  # [B, N, D]
        batch, width = len(x), x.shape[-1]
        x = x.reshape(-1, self.grid.tokens_per_slot, width)  # [B * t, L, D]
        x = self._begin(x, "space")  # [B * t, 1 + L, D]
        for block in self.blocks:
            x = block(x)
        x = self.norm(x[:, 0]).reshape(batch, self.grid.num_slots, width)  # [B, t, D]
        x = self._begin(x, "time")  # [B, 1 + t, D]
        for block in self.time_blocks:
            x = block(x)
        return x[:, :1]

    def _begin(self, x: Tensor, kind: str) -> Tensor:
        """Put the class token first and place all: [G, K, D] to [G, 1 + K, D]."""
        first = self.places[f"{kind}_class"].expand(len(x), -1, -1)  # [G, 1, D]
        placed: Tensor = torch.cat([first, x], dim=1) + self.places[kind]
        return placed
