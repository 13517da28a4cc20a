"""The model of Masked Motion Encoding (MME, CVPR 2023): it predicts the shape and the motion of the target tokens.

Shapes: B clips, N tokens, V visible, M targets, P pixels of a tubelet, D width of the encoder, E of the decoder, H
values of the histograms of a target, J of its trajectories, Q = H + J.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from everest.errors import ConfigError
from everest.models.autoencoder import MaskedModel, Prediction, decode
from everest.models.encoder import Encoder
from everest.models.layers import NORM_EPSILON, initialize, make_blocks
from everest.models.positions import sine_positions
from everest.models.products import Linear
from everest.models.tubelets import Tubelets
from everest.tokens import TokenCounts, TokenSelection, gather_tokens
from everest.video.trajectories import CELL_SIZE, NUM_STEPS

NUM_BINS = 9
"""Orientations of a histogram."""
DECODER_WIDTH, DECODER_HEADS, HEAD_WIDTH = 192, 6, 512
"""Of MME for every size of the encoder."""


def num_motion_values(patch_size: int) -> tuple[int, int]:
    """Count what MME predicts of a token: every cell of 8 x 8 pixels has 27 values of shape and 8 of motion.

    Args:
        patch_size: Height and width of a tubelet in pixels.

    Returns:
        H = cells x 3 channels x 9 bins and J = cells x 4 steps x 2 coordinates: 108 and 32 for patches of 16 pixels.

    Raises:
        ConfigError: Patches cannot be cut into whole cells.
    """
    if patch_size % CELL_SIZE:
        near = max(CELL_SIZE, round(patch_size / CELL_SIZE) * CELL_SIZE)
        raise ConfigError(
            f"objective.name=mme describes cells of {CELL_SIZE} x {CELL_SIZE} pixels, and model.patch_size "
            f"({patch_size}) is no multiple of {CELL_SIZE}: use one, such as {near}"
        )
    num_cells = (patch_size // CELL_SIZE) ** 2
    return num_cells * 3 * NUM_BINS, num_cells * NUM_STEPS * 2


class MotionDecoder(nn.Module):
    """A light ViT with one head for histograms and one for trajectories.

    Args:
        depth: Number of blocks.
        num_outputs: H and J.
    """

    def __init__(self, *, depth: int, num_outputs: tuple[int, int]) -> None:
        super().__init__()
        self.blocks = make_blocks(depth, DECODER_WIDTH, DECODER_HEADS)
        self.norm = nn.LayerNorm(DECODER_WIDTH, eps=NORM_EPSILON)
        self.head = nn.ModuleList(
            nn.Sequential(Linear(DECODER_WIDTH, HEAD_WIDTH), nn.GELU(), Linear(HEAD_WIDTH, values))
            for values in num_outputs
        )

    def forward(self, visible: Tensor, masked: Tensor, counts: Sequence[TokenCounts] = ()) -> Tensor:
        """Predict masked tokens from visible ones: [B, V, E] and [B, M, E] to [B, M, Q].

        Histograms lie in 0..1, trajectories in -1..1. For ``counts`` see :func:`~everest.models.autoencoder.decode`.
        """
        x = self.norm(decode(self.blocks, visible, masked, counts))
        shape, motion = self.head
        return torch.cat([shape(x).sigmoid(), motion(x).tanh()], dim=-1)  # [B, M, Q]


class MotionAutoencoder(MaskedModel):
    """Encoder and decoder of MME; ``values`` of its predictions are the H of the histograms, then the J of the motion.

    The lists with one entry are there for the names of the parameters, which are those of MME's checkpoints.

    Args:
        encoder: With its final norm.
        width: D, of the encoder.
        decoder_depth: Number of blocks of the decoder.

    Raises:
        ConfigError: Patches cannot be cut into whole cells.
    """

    decoder_positions: Tensor

    def __init__(self, encoder: Encoder, *, width: int, decoder_depth: int) -> None:
        super().__init__(encoder)
        num_outputs = num_motion_values(encoder.grid.patch_size)
        self.encoder_to_decoder = nn.ModuleList([Linear(width, DECODER_WIDTH, bias=False)])
        self.mask_token = nn.Parameter(torch.zeros(1, 1, DECODER_WIDTH))
        positions = sine_positions(encoder.grid.num_tokens, DECODER_WIDTH)
        self.register_buffer("decoder_positions", positions, persistent=False)
        self.decoder = nn.ModuleList([MotionDecoder(depth=decoder_depth, num_outputs=num_outputs)])
        self.apply(initialize)
        nn.init.trunc_normal_(self.mask_token, std=0.02)

    def forward(self, patches: Tensor | Tubelets, selection: TokenSelection) -> Prediction:
        """Predict shape and motion of the target tokens; see :meth:`MaskedModel.forward`."""
        visible = self.encoder_to_decoder[0](self.encoder(patches, selection))  # [B, V, E]
        visible = visible + gather_tokens(self.decoder_positions, selection.places(selection.visible))
        masked = self.mask_token + gather_tokens(self.decoder_positions, selection.places(selection.target))
        return Prediction(self.decoder[0](visible, masked, selection.counts), selection)
