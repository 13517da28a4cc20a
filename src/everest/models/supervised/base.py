"""What the encoders of the supervised rows have in common, and with our own.

An encoder here is an :class:`~everest.models.encoder.Encoder`: it has ``grid``, ``blocks``, ``select`` and
``select_frames``, and its ``forward`` takes patches and a selection. What it returns is averaged over tokens,
normalised and classified by :class:`~everest.models.classifier.Classifier`; those with a class token return it alone.

Shapes: B clips, N tokens, V kept tokens, P pixels of a tubelet, T frames, H height, W width, D width.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from everest.config import SelectionConfig, Task
from everest.errors import SelectionError
from everest.models.encoder import Encoder
from everest.models.supervised.places import LearnedPlaces, TokenPlaces
from everest.models.tubelets import Tubelets, take
from everest.tokens import TokenGrid, TokenSelection, unpatchify


class SupervisedEncoder(Encoder):
    """An encoder without the blocks and the fixed positions of ours; subclasses bring their own.

    Args:
        grid: The tokens of a clip.
        width: D of the embedding.
        num_heads: Of a block.
    """

    def __init__(self, grid: TokenGrid, *, width: int, num_heads: int) -> None:
        super().__init__(grid, width=width, depth=0, num_heads=num_heads, final_norm=False)
        del self.positions  # learned here

    def take(self, patches: Tensor | Tubelets, selection: TokenSelection) -> Tensor:
        """Give the visible tubelets, normalised: [B, N, P] to [B, V, P].

        Raises:
            SelectionError: Patches or a selection of another grid or batch.
        """
        if selection.counts:
            raise SelectionError(
                "this network takes as many tokens of every clip: set selection.method=rero, k_centered or all"
            )
        expected = (len(selection.visible), self.grid.num_tokens, self.grid.num_pixels)
        if selection.grid != self.grid or patches.shape != expected:
            raise SelectionError(
                f"the encoder takes {self.grid} and patches {list(expected)}, "
                f"given: {selection.grid} and {list(patches.shape)}"
            )
        return take(patches, selection.visible)


class TokenListEncoder(SupervisedEncoder):
    """One that takes any selection of tokens, placed by learned positions, with a class token."""

    def __init__(self, grid: TokenGrid, *, width: int, num_heads: int) -> None:
        super().__init__(grid, width=width, num_heads=num_heads)
        self.places = LearnedPlaces(grid, width)

    def embed(self, patches: Tensor | Tubelets, selection: TokenSelection) -> tuple[Tensor, TokenPlaces]:
        """Embed and place the visible tokens: [B, N, P] to [B, V, D], and where they stand."""
        where = TokenPlaces.of(selection)
        return self.places(self.patch_embed(self.take(patches, selection), selection.embedded), where), where


class ClassTokenEncoder(TokenListEncoder):
    """One whose class token goes through all blocks with the kept tokens, and is the answer.

    Args:
        grid: The tokens of a clip.
        width: D.
        num_heads: Of a block.
        blocks: Each takes the class token, then the kept ones, [B, 1 + V, D], and their places.
    """

    def __init__(self, grid: TokenGrid, blocks: Iterable[nn.Module], *, width: int, num_heads: int) -> None:
        super().__init__(grid, width=width, num_heads=num_heads)
        self.blocks = nn.ModuleList(blocks)

    def forward(self, patches: Tensor | Tubelets, selection: TokenSelection) -> Tensor:
        """Describe clips by the visible tokens: [B, N, P] to [B, 1, D], the class token."""
        x, where = self.embed(patches, selection)
        x = torch.cat([self.places.class_tokens(len(x)), x], dim=1)  # [B, 1 + V, D]
        for block in self.blocks:
            x = block(x, where)
        return x[:, :1]


class WholeClipEncoder(SupervisedEncoder):
    """One that takes whole clips: every token, none left out."""

    def take(self, patches: Tensor | Tubelets, selection: TokenSelection) -> Tensor:
        """Give all tubelets, normalised: shape [B, N, P].

        Raises:
            SelectionError: Tokens are left out, or patches or selection are of another grid or batch.
        """
        if selection.visible.shape[1] != self.grid.num_tokens:
            raise SelectionError(
                f"this network takes whole clips, given: {selection.visible.shape[1]} of {self.grid.num_tokens} "
                "tokens; set selection.method=all"
            )
        return super().take(patches, selection)

    def take_clips(self, patches: Tensor | Tubelets, selection: TokenSelection) -> Tensor:
        """Put all tubelets together to clips: [B, N, P] to [B, 3, T, H, W]."""
        return unpatchify(self.take(patches, selection), self.grid)

    def select(self, patches: Tensor | Tubelets, config: SelectionConfig, task: Task, **kwargs: Any) -> TokenSelection:
        """Choose every token; see :meth:`~everest.models.encoder.Encoder.select`.

        Raises:
            SelectionError: Another selection is asked for.
        """
        if config.method != "all":
            raise SelectionError(
                f"this network takes whole clips, given: selection.method={config.method}; set selection.method=all"
            )
        return super().select(patches, config, task, **kwargs)
