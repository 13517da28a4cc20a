"""The student of Masked Video Distillation: one encoder, and a light decoder for each of its teachers.

Shapes: B clips, N tokens, V visible, M targets, P pixels of a tubelet, D width of the encoder and of the decoders, Q
values predicted for a target: those of the image teacher, then those of the video teacher.
"""

import torch
from torch import Tensor, nn

from everest.errors import ConfigError
from everest.models.autoencoder import Decoder, MaskedModel, Prediction
from everest.models.encoder import Encoder
from everest.models.layers import initialize
from everest.models.products import Linear
from everest.models.tubelets import Tubelets
from everest.tokens import TokenSelection, gather_tokens


class DistillationStudent(MaskedModel):
    """Predicts the features that an image teacher and a video teacher give the target tokens (MVD, section on method).

    Both decoders see the same encoded tokens, each through a linear map of its own. They are as wide as the encoder, so
    they take its positions. Parameters have MVD's names, ``down_img``, ``mask_token_img``, ``decoder_img`` and the same
    with ``_vid``; its encoder lacks the prefix ``encoder.`` there.

    Args:
        encoder: With its final norm.
        width: D.
        num_heads: Heads of each block of the decoders.
        decoder_depth: Number of blocks of each decoder.
        image_width: Values that the image teacher gives a token; None if there is no such teacher.
        video_width: The same of the video teacher.

    Raises:
        ConfigError: There is no teacher at all.
    """

    def __init__(
        self,
        encoder: Encoder,
        *,
        width: int,
        num_heads: int,
        decoder_depth: int,
        image_width: int | None,
        video_width: int | None,
    ) -> None:
        super().__init__(encoder)
        widths = {"img": image_width, "vid": video_width}
        self._teachers = tuple(name for name, outputs in widths.items() if outputs is not None)
        if not self._teachers:
            raise ConfigError(
                "a student without a teacher has nothing to predict: give it objective.image_width, "
                "objective.video_width or both, which a run finds out from its teachers"
            )
        for name, outputs in widths.items():
            if outputs is not None:
                decoder = Decoder(width=width, depth=decoder_depth, num_heads=num_heads, num_outputs=outputs)
                self.register_parameter(f"mask_token_{name}", nn.Parameter(torch.zeros(1, 1, width)))
                self.add_module(f"down_{name}", Linear(width, width))
                self.add_module(f"decoder_{name}", decoder)
        self.apply(initialize)
        for name in self._teachers:
            nn.init.trunc_normal_(self.get_parameter(f"mask_token_{name}"), std=0.02)

    def forward(self, patches: Tensor | Tubelets, selection: TokenSelection) -> Prediction:
        """Predict the features of the target tokens; see :meth:`MaskedModel.forward`."""
        encoded = self.encoder(patches, selection)  # [B, V, D]
        values = [self._decode(name, encoded, selection) for name in self._teachers]
        return Prediction(torch.cat(values, dim=-1), selection)  # [B, M, Q]

    def _decode(self, name: str, encoded: Tensor, selection: TokenSelection) -> Tensor:
        """Predict what one teacher says: [B, V, D] to [B, M, its width]."""
        positions = self.encoder.positions
        visible = self.get_submodule(f"down_{name}")(encoded) + gather_tokens(
            positions, selection.places(selection.visible)
        )
        places = gather_tokens(positions, selection.places(selection.target))
        masked = self.get_parameter(f"mask_token_{name}") + places  # [B, M, D]
        values: Tensor = self.get_submodule(f"decoder_{name}")(visible, masked, selection.counts)
        return values
