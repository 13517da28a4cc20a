"""Masked models: encode the visible tokens, predict the target tokens, touch nothing else.

Shapes: B clips, N tokens, V visible, M targets, P pixels of a tubelet, Q values predicted for a target, D width of the
encoder, E of the decoder.
"""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from everest.errors import SelectionError
from everest.models.encoder import Encoder
from everest.models.layers import NORM_EPSILON, initialize, make_blocks
from everest.models.positions import sine_positions
from everest.models.products import Linear
from everest.models.tubelets import Tubelets
from everest.models.varlen import join_clips, take_masked
from everest.tokens import TokenCounts, TokenGrid, TokenSelection, gather_tokens


@dataclass(frozen=True)
class Prediction:
    """What the decoder says of the target tokens.

    Attributes:
        values: One vector per target, in the order of ``selection.target``, shape [B, M, Q].
        selection: The tokens that were encoded and predicted.
    """

    values: Tensor
    selection: TokenSelection

    def __post_init__(self) -> None:
        if self.values.shape[:2] != self.selection.target.shape:
            raise SelectionError(
                f"targets {list(self.selection.target.shape)} need as many predictions, "
                f"given: {list(self.values.shape)}"
            )

    def __repr__(self) -> str:
        return f"Prediction({list(self.values.shape)} for {self.selection})"


class Decoder(nn.Module):
    """A light ViT over encoded tokens and mask tokens.

    Args:
        width: E.
        depth: Number of blocks.
        num_heads: Heads of each block.
        num_outputs: Values predicted for each target, Q.
    """

    def __init__(self, *, width: int, depth: int, num_heads: int, num_outputs: int) -> None:
        super().__init__()
        self.blocks = make_blocks(depth, width, num_heads)
        self.norm = nn.LayerNorm(width, eps=NORM_EPSILON)
        self.head = Linear(width, num_outputs)

    def forward(self, visible: Tensor, masked: Tensor, counts: Sequence[TokenCounts] = ()) -> Tensor:
        """Predict masked tokens from visible ones: [B, V, E] and [B, M, E] to [B, M, Q].

        With ``counts``, clips lie one after another: [1, sum V, E] and [1, sum M, E] to [1, sum M, Q].
        """
        return self.head(self.norm(decode(self.blocks, visible, masked, counts)))  # type: ignore[no-any-return]


def decode(blocks: nn.ModuleList, visible: Tensor, masked: Tensor, counts: Sequence[TokenCounts] = ()) -> Tensor:
    """Let masked tokens learn from visible ones: [B, V, E] and [B, M, E] to [B, M, E].

    With ``counts``, clips lie one after another: [1, sum V, E] and [1, sum M, E] to [1, sum M, E].
    """
    masked = masked.to(visible.dtype)
    x = join_clips(visible, masked, counts) if counts else torch.cat([visible, masked], dim=1)  # [B, V + M, E]
    if counts:
        for block in blocks:
            x = block(x, [sum(count) for count in counts])
        return take_masked(x, counts)
    *first, last = blocks
    for block in first:
        x = block(x)
    return last(x, None, masked.shape[1])  # type: ignore[no-any-return]


class MaskedModel(nn.Module):
    """What every pre-training model is: an encoder, and something that predicts the target tokens from what it sees.

    Args:
        encoder: With its final norm.
    """

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder

    @property
    def grid(self) -> TokenGrid:
        """The tokens of a clip."""
        return self.encoder.grid

    @abstractmethod
    def forward(self, patches: Tensor | Tubelets, selection: TokenSelection) -> Prediction:
        """Predict the target tokens from the visible ones.

        Args:
            patches: All tubelets of the clips, shape [B, N, P], normalised or as bytes; only visible ones are touched.
            selection: Which tokens are visible and which are predicted.
        """


class MaskedAutoencoder(MaskedModel):
    """Encoder and light decoder of EVEREST, and of VideoMAE with another selection: it predicts pixels, Q = P.

    Args:
        encoder: With its final norm.
        width: D, of the encoder.
        decoder_width: E.
        decoder_depth: Number of blocks of the decoder.
        decoder_heads: Heads of each of them.
    """

    decoder_positions: Tensor

    def __init__(
        self, encoder: Encoder, *, width: int, decoder_width: int, decoder_depth: int, decoder_heads: int
    ) -> None:
        super().__init__(encoder)
        self.encoder_to_decoder = Linear(width, decoder_width, bias=False)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, decoder_width))
        positions = sine_positions(encoder.grid.num_tokens, decoder_width)
        self.register_buffer("decoder_positions", positions, persistent=False)
        self.decoder = Decoder(
            width=decoder_width, depth=decoder_depth, num_heads=decoder_heads, num_outputs=encoder.grid.num_pixels
        )
        self.apply(initialize)
        nn.init.trunc_normal_(self.mask_token, std=0.02)

    def forward(self, patches: Tensor | Tubelets, selection: TokenSelection) -> Prediction:
        """Predict the pixels of the target tokens; see :meth:`MaskedModel.forward`."""
        visible = self.encoder_to_decoder(self.encoder(patches, selection))  # [B, V, E]
        visible = visible + gather_tokens(self.decoder_positions, selection.places(selection.visible))
        masked = self.mask_token + gather_tokens(self.decoder_positions, selection.places(selection.target))
        return Prediction(self.decoder(visible, masked, selection.counts), selection)
