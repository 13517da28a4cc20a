"""Models by name: the sizes of the paper, and two small ones for CPUs."""

from dataclasses import dataclass

from torch import nn

from everest.config import ClipConfig, ModelConfig, ModelSize, ObjectiveConfig, ObjectiveName
from everest.errors import ConfigError
from everest.models.autoencoder import MaskedAutoencoder, MaskedModel
from everest.models.classifier import Classifier
from everest.models.encoder import Encoder
from everest.models.motion import MotionAutoencoder
from everest.models.student import DistillationStudent
from everest.models.supervised import build_supervised_encoder
from everest.tokens import TokenGrid


@dataclass(frozen=True)
class Size:
    """Width, depth and heads of encoder and decoder."""

    width: int
    depth: int
    num_heads: int
    decoder_width: int
    decoder_heads: int


SIZES: dict[ModelSize, Size] = {
    "nano": Size(width=96, depth=4, num_heads=3, decoder_width=48, decoder_heads=3),
    "tiny": Size(width=192, depth=6, num_heads=3, decoder_width=96, decoder_heads=3),
    "small": Size(width=384, depth=12, num_heads=6, decoder_width=192, decoder_heads=3),
    "base": Size(width=768, depth=12, num_heads=12, decoder_width=384, decoder_heads=6),
    "large": Size(width=1024, depth=24, num_heads=16, decoder_width=512, decoder_heads=8),
    "huge": Size(width=1280, depth=32, num_heads=16, decoder_width=640, decoder_heads=8),
}
"""Width, depth and heads of ``nano``, ``tiny``, ``small``, ``base``, ``large`` and ``huge``; the first two are ours."""


_DECODER_DEPTH: dict[ObjectiveName, int] = {"pixels": 4, "mme": 1, "mvd": 2}


def grid_of(model: ModelConfig, clip: ClipConfig) -> TokenGrid:
    """The tokens of a clip for a model.

    Raises:
        SelectionError: The clip cannot be cut into whole tubelets.
    """
    return TokenGrid.of_clip(
        num_frames=clip.num_frames,
        height=clip.height,
        width=clip.width,
        tubelet_size=model.tubelet_size,
        patch_size=model.patch_size,
    )


def build_masked_model(model: ModelConfig, clip: ClipConfig, objective: ObjectiveConfig) -> MaskedModel:
    """Build the pre-training model of an objective with fresh weights from PyTorch's random state.

    Raises:
        ConfigError: There is no model for the objective, or none for patches of this size; or the network is one that
            is trained with labels only.
    """
    if model.arch != "vit":
        raise ConfigError(f"model.arch={model.arch} is trained with labels only: set model.arch=vit to pre-train")
    if objective.name == "pixels":
        return build_autoencoder(model, clip)
    if objective.name == "mme":
        return build_motion_autoencoder(model, clip)
    if objective.name == "mvd":
        size = SIZES[model.size]
        return DistillationStudent(
            _encoder(size, model, clip, final_norm=True),
            width=size.width,
            num_heads=size.num_heads,
            decoder_depth=decoder_depth(model, objective),
            image_width=objective.image_width,
            video_width=objective.video_width,
        )
    raise ConfigError(f"no model predicts {objective.name!r}: use objective.name=pixels, mme or mvd")


def build_autoencoder(model: ModelConfig, clip: ClipConfig) -> MaskedAutoencoder:
    """Build a masked autoencoder with fresh weights from PyTorch's random state."""
    size = SIZES[model.size]
    network = MaskedAutoencoder(
        _encoder(size, model, clip, final_norm=model.encoder_norm),
        width=size.width,
        decoder_width=size.decoder_width,
        decoder_depth=decoder_depth(model, ObjectiveConfig()),
        decoder_heads=size.decoder_heads,
    )
    _set_epsilon(network, model)
    return network


def build_motion_autoencoder(model: ModelConfig, clip: ClipConfig) -> MotionAutoencoder:
    """Build the model of Masked Motion Encoding with fresh weights from PyTorch's random state.

    Raises:
        ConfigError: Patches cannot be cut into cells of 8 x 8 pixels.
    """
    width, depth = SIZES[model.size].width, decoder_depth(model, ObjectiveConfig(name="mme"))
    encoder = _encoder(SIZES[model.size], model, clip, final_norm=True)
    return MotionAutoencoder(encoder, width=width, decoder_depth=depth)


def build_classifier(model: ModelConfig, clip: ClipConfig, num_classes: int) -> Classifier:
    """Build a classifier with fresh weights from PyTorch's random state."""
    size = SIZES[model.size]
    if model.arch == "vit":
        encoder, width = _encoder(size, model, clip, final_norm=False), size.width
    else:
        encoder, width = build_supervised_encoder(
            model.arch,
            model.size,
            grid_of(model, clip),
            width=size.width,
            depth=size.depth,
            num_heads=size.num_heads,
            drop_path=model.drop_path,
        )
    network = Classifier(encoder, width=width, num_classes=num_classes, dropout=model.head_dropout)
    if model.arch == "vit":
        _set_epsilon(network, model)
    return network


def decoder_depth(model: ModelConfig, objective: ObjectiveConfig) -> int:
    """Number of blocks of the decoder: what was asked for, or what the objective is known with."""
    return _DECODER_DEPTH[objective.name] if model.decoder_depth is None else model.decoder_depth


def _encoder(size: Size, model: ModelConfig, clip: ClipConfig, *, final_norm: bool) -> Encoder:
    return Encoder(
        grid_of(model, clip),
        width=size.width,
        depth=size.depth,
        num_heads=size.num_heads,
        drop_path=model.drop_path,
        final_norm=final_norm,
        kind=model.positions,
        made_for=model.positions_grid,
    )


def _set_epsilon(network: nn.Module, model: ModelConfig) -> None:
    """Give norms what they add to the variance; that before a head may have a number of its own."""
    for name, module in network.named_modules():
        if isinstance(module, nn.LayerNorm):
            module.eps = model.head_norm_epsilon if name in {"fc_norm", "decoder.norm"} else model.norm_epsilon
