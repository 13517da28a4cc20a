"""The encoder: a plain ViT over the visible tokens.

Shapes: B clips, T frames, N tokens, V visible tokens, P pixels of a tubelet, D width.
"""

from dataclasses import replace

import torch
from torch import Tensor, nn

from everest.config import FrameSelectionConfig, PositionKind, SelectionConfig, Task
from everest.draws import Draws, draw_uniform
from everest.errors import SelectionError
from everest.models.choosing import SCORED, choose_tokens
from everest.models.embedding import PatchEmbed
from everest.models.layers import NORM_EPSILON, make_blocks
from everest.models.positions import GridShape, position_table
from everest.models.scoring import score_as_set
from everest.models.tubelets import Tubelets, cut, take
from everest.tokens import (
    FrameSelection,
    TokenGrid,
    TokenSelection,
    count_per_pair,
    gather_tokens,
    select_pairs,
    take_pairs,
)


def blind_noise(selection: SelectionConfig, counts: Tensor) -> Tensor:
    """Draw noise for ``select_pairs`` once for all clips, by the seed of the selection: counts [B, n] to [B, n].

    On the CPU, so that it is the same on every device.
    """
    noise = torch.rand(counts.shape[1], generator=torch.Generator().manual_seed(selection.seed))
    return noise.to(counts.device).expand(counts.shape)


class Encoder(nn.Module):
    """Embeds, places and encodes visible tokens, and scores all tokens for those who select.

    Args:
        grid: The tokens of a clip.
        width: D.
        depth: Number of blocks.
        num_heads: Heads of each block.
        drop_path: Of the last block; see :class:`~everest.models.layers.Block`.
        final_norm: Close with a LayerNorm (pre-training); the classifier normalises after pooling instead.
        kind: Which table of positions.
        made_for: Slots, rows and columns that the table is made for and stretched from; None: those of ``grid``.
    """

    positions: Tensor

    def __init__(
        self,
        grid: TokenGrid,
        *,
        width: int,
        depth: int,
        num_heads: int,
        drop_path: float = 0.0,
        final_norm: bool = True,
        kind: PositionKind = "sine",
        made_for: GridShape | None = None,
    ) -> None:
        super().__init__()
        self.grid = grid
        self.patch_embed = PatchEmbed(grid, width)
        self.register_buffer("positions", position_table(kind, grid.shape, width, made_for), persistent=False)
        self.blocks = make_blocks(depth, width, num_heads, drop_path)
        self.norm = nn.LayerNorm(width, eps=NORM_EPSILON) if final_norm else nn.Identity()

    def forward(self, patches: Tensor | Tubelets, selection: TokenSelection) -> Tensor:
        """Encode the visible tokens.

        Args:
            patches: All tubelets of the clips, shape [B, N, P], normalised or as bytes; only visible ones are touched.
            selection: Which tokens are visible.

        Returns:
            Shape [B, V, D]; where clips keep different numbers of tokens, [1, sum V, D].

        Raises:
            SelectionError: Patches or a selection of another grid or batch.
        """
        expected = (selection.num_clips, self.grid.num_tokens, self.grid.num_pixels)
        if selection.grid != self.grid or patches.shape != expected:
            raise SelectionError(
                f"the encoder takes {self.grid} and patches {list(expected)}, "
                f"given: {selection.grid} and {list(patches.shape)}"
            )
        visible = take(patches, selection.visible)  # [B, V, P]
        positions = gather_tokens(self.positions, selection.places(selection.visible))
        x = self.patch_embed(visible, selection.embedded) + positions
        lengths = [count.num_visible for count in selection.counts] or None
        for block in self.blocks:
            x = block(x, lengths)
        return self.norm(x)  # type: ignore[no-any-return]

    @torch.no_grad()
    def select(
        self,
        patches: Tensor | Tubelets,
        config: SelectionConfig,
        task: Task,
        *,
        generator: Draws = None,
    ) -> TokenSelection:
        """Choose tokens; ReRo scores come from the embedding as it is now, without gradient.

        Args:
            patches: All tubelets of the clips, shape [B, N, P], normalised or as bytes.
            config: Method and ratios.
            task: Pre-training or fine-tuning.
            generator: Source of randomness on the device of the patches.
        """
        scores = tokens = None
        if config.method in SCORED:
            scores, tokens = score_as_set(self.patch_embed, patches, self.grid, config)
        return choose_tokens(patches, self.grid, config, task, scores=scores, embedded=tokens, generator=generator)

    @torch.no_grad()
    def select_frames(
        self,
        clips: Tensor,
        config: FrameSelectionConfig,
        selection: SelectionConfig,
        *,
        mean: tuple[float, ...] = (),
        std: tuple[float, ...] = (),
        generator: Draws = None,
        random: bool = True,
    ) -> tuple[Tensor, FrameSelection | None]:
        """Make clips of the most informative candidate frames (paper, section on frame selection).

        Args:
            clips: Candidate frames, shape [B, 3, T', H, W] with T' at least the frames of the grid; normalised, or
                uint8 and then with ``mean`` and ``std``.
            config: Whether and how; when turned off, the clips come back as they are.
            selection: How change is measured, and the share of the candidates' tokens that is counted.
            mean: Per channel, of values scaled to 0..1.
            std: Per channel, of values scaled to 0..1.
            generator: Source of randomness on the device of the clips.
            random: Draw pairs by their counts; False takes the pairs with the largest counts, and of those that are
                chosen by chance the same ones for every clip.

        Returns:
            Clips of shape [B, 3, T, H, W], and which pairs they are made of.
        """
        if not config.enabled:
            return clips, None
        size = self.grid.tubelet_size
        candidates = replace(self.grid, num_slots=clips.shape[2] // size)
        patches = cut(clips[:, :, : candidates.num_slots * size], candidates, mean, std)
        scores, _ = score_as_set(self.patch_embed, patches, candidates, selection)
        counts = count_per_pair(scores, candidates, selection.keep_ratio)  # [B, n]
        if config.by == "chance":
            counts = torch.zeros_like(counts)  # as of a still clip
        if random:
            noise: Tensor | None = draw_uniform(len(counts), counts.shape[1], generator, clips.device)
        else:
            noise = blind_noise(selection, counts) if config.by == "chance" else None
        chosen = select_pairs(counts, self.grid.num_slots, noise)
        return take_pairs(clips, chosen.pairs, size), chosen
