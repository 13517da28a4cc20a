"""Models, grids and clips small enough to be run many times."""

from typing import TypeVar

import torch
from torch import Tensor, nn

from everest.config import CheckpointInfo, ClipConfig, ModelConfig, SelectionConfig
from everest.models import Classifier, Encoder, MaskedAutoencoder
from everest.tokens import TokenGrid

GRID = TokenGrid(num_slots=4, num_rows=4, num_columns=4, tubelet_size=2, patch_size=4)
PRETRAIN = SelectionConfig(method="rero", keep_ratio=0.5, encode_ratio=0.2)
FINETUNE = SelectionConfig(method="rero", keep_ratio=0.5, encode_ratio=0.5)
SMALL_CLIP = ClipConfig(num_frames=4, height=32, width=32)
CLASS_NAMES = ("jump", "run", "sit")

Model = TypeVar("Model", bound=nn.Module)


def encoder(*, final_norm: bool, depth: int = 2, drop_path: float = 0.0, grid: TokenGrid = GRID) -> Encoder:
    return Encoder(grid, width=24, depth=depth, num_heads=2, drop_path=drop_path, final_norm=final_norm)


def autoencoder(seed: int = 0, grid: TokenGrid = GRID) -> MaskedAutoencoder:
    """A masked autoencoder with weights none of which is 0 or 1."""
    torch.manual_seed(seed)
    body = encoder(final_norm=True, grid=grid)
    model = MaskedAutoencoder(body, width=24, decoder_width=12, decoder_depth=1, decoder_heads=2)
    return jitter(model)


def classifier(seed: int = 0, grid: TokenGrid = GRID) -> Classifier:
    """A classifier with weights none of which is 0 or 1."""
    torch.manual_seed(seed)
    return jitter(Classifier(encoder(final_norm=False, grid=grid), width=24, num_classes=len(CLASS_NAMES)))


def jitter(model: Model) -> Model:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def random_patches(batch: int = 2, grid: TokenGrid = GRID, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, grid.num_tokens, grid.num_pixels, generator=generator)


def tiny_info(task: str, *, class_names: tuple[str, ...] = CLASS_NAMES, size: str = "tiny") -> CheckpointInfo:
    """What travels with a tiny model that takes 4 frames of 32x32 pixels."""
    return CheckpointInfo(
        task=task,  # type: ignore[arg-type]
        model=ModelConfig(size=size, decoder_depth=1),  # type: ignore[arg-type]
        clip=SMALL_CLIP,
        selection=PRETRAIN if task == "pretrain" else FINETUNE,
        class_names=class_names if task == "finetune" else (),
    )
