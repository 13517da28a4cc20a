"""Features of clips: what a layer of the encoder says of them, as one vector for each clip or one for each token.

Shapes: B clips, T' sampled frames, H height, W width, N tokens, V kept tokens of a clip, D width.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from everest.config import CheckpointInfo, SelectionConfig
from everest.errors import ConfigError
from everest.models.autoencoder import MaskedModel
from everest.models.classifier import Classifier
from everest.models.encoder import Encoder
from everest.models.pipeline import choose_to_use
from everest.models.varlen import mean_of_clips
from everest.tokens import TokenSelection


@dataclass(frozen=True, eq=False, repr=False)
class ClipFeatures:
    """What a layer says of one clip.

    Attributes:
        values: Shape [D] of the clip, or [V, D] of its kept tokens; float32, on the CPU.
        tokens: Numbers of the kept tokens, ascending, shape [V], int64; None where the values are the clip's.
    """

    values: Tensor
    tokens: Tensor | None = None

    def __repr__(self) -> str:
        return f"ClipFeatures({list(self.values.shape)})"


class FeatureModel:
    """Describes clips by a layer of a trained model.

    Args:
        model: A classifier, or a pre-trained masked model, whose decoder is not used.
        info: What travels with it. A pre-trained encoder sees all tokens, unless a selection is given to it by
            :func:`everest.evaluation.with_keep_ratio`.
        layer: Blocks that are computed, from 1 (the first only) to all; None: all, and then what the model itself does
            to their output: its norm, and in a classifier the mean before the norm.
        per_token: Give the tokens, not their mean.

    Raises:
        ConfigError: There is no such layer; or a network other than the plain ViT is asked for one, or for tokens.
    """

    def __init__(
        self,
        model: Classifier | MaskedModel,
        info: CheckpointInfo,
        *,
        layer: int | None = None,
        per_token: bool = False,
    ) -> None:
        if info.model.arch != "vit" and (layer is not None or per_token):
            raise ConfigError(
                f"model.arch={info.model.arch} gives one vector for each clip, after its last layer: "
                "give no layer, and ask for clips instead of tokens"
            )
        depth = len(model.encoder.blocks)
        if layer is not None and not 1 <= layer <= depth:
            raise ConfigError(f"the encoder has {depth} blocks: give a layer from 1 to {depth}, not {layer}")
        self.model, self.info = model.eval(), to_use(info)
        self.per_token = per_token
        self._encoder = model.encoder if layer is None else _cut_after(model.encoder, layer)
        self._is_whole = layer is None

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return next(self.model.parameters()).device

    @torch.no_grad()
    def __call__(self, clips: Tensor) -> list[ClipFeatures]:
        """Describe clips.

        Args:
            clips: Shape [B, 3, T', H, W], uint8, on the model's device.

        Returns:
            One for each clip.
        """
        patches, selection = choose_to_use(self._encoder, clips, self.info)
        if isinstance(self.model, Classifier) and self._is_whole and not self.per_token:
            return [ClipFeatures(row) for row in self.model.features(patches, selection).float().cpu()]
        x = self._encoder(patches, selection).float()  # [B, V, D], or of clips of different lengths [1, sum V, D]
        if isinstance(self.model, Classifier) and self._is_whole:
            x = self.model.fc_norm(x).float()
        lengths = [count.num_visible for count in selection.counts]
        if self.per_token:
            return _of_tokens(x.cpu(), selection, lengths)
        return [ClipFeatures(row) for row in (mean_of_clips(x, lengths) if lengths else x.mean(dim=1)).cpu()]


def to_use(info: CheckpointInfo) -> CheckpointInfo:
    """Let a pre-trained model see clips as a fine-tuned one does: nothing is hidden, and nothing is random."""
    if info.task == "finetune":
        return info
    everything = SelectionConfig(method="all", keep_ratio=1.0, encode_ratio=1.0)
    return info.model_copy(update={"task": "finetune", "selection": everything})


def _cut_after(encoder: Encoder, layer: int) -> Encoder:
    """The same encoder with its first blocks only, and no norm."""
    cut = copy.copy(encoder)
    cut._modules = dict(encoder._modules)
    cut.blocks, cut.norm = encoder.blocks[:layer], nn.Identity()
    return cut


def _of_tokens(x: Tensor, selection: TokenSelection, lengths: Sequence[int]) -> list[ClipFeatures]:
    places = selection.places(selection.visible).cpu()  # of a clip, 0 to N - 1
    if lengths:
        parts = zip(torch.split(x[0], list(lengths)), torch.split(places[0], list(lengths)), strict=True)
    else:
        parts = zip(x, places, strict=True)
    return [ClipFeatures(values.clone(), tokens.clone()) for values, tokens in parts]
