"""Models of one block that take clips of 8 x 16 x 16 pixels, and clips in which little moves."""

from typing import Any

import torch
from torch import Tensor

from everest.config import CheckpointInfo, ClipConfig, FrameSelectionConfig, ModelConfig, SelectionConfig
from everest.models import Classifier, MaskedAutoencoder
from models.small_models import CLASS_NAMES, GRID, encoder, jitter

MODEL = ModelConfig(size="tiny", patch_size=4)
CLIP = ClipConfig(num_frames=8, height=16, width=16, stride=3)


def selection(method: str = "rero", ratio: float = 0.5, **more: Any) -> SelectionConfig:
    return SelectionConfig(method=method, keep_ratio=ratio, encode_ratio=ratio, **more)  # type: ignore[arg-type]


def classifier_with(
    config: SelectionConfig, alpha: float | None = None, **frames_by: Any
) -> tuple[Classifier, CheckpointInfo]:
    """A classifier with one block, and how it is used."""
    torch.manual_seed(0)
    model = jitter(Classifier(encoder(final_norm=False, depth=1), width=24, num_classes=len(CLASS_NAMES))).eval()
    frames = FrameSelectionConfig() if alpha is None else FrameSelectionConfig(enabled=True, alpha=alpha, **frames_by)
    info = CheckpointInfo(
        task="finetune", model=MODEL, clip=CLIP, selection=config, frame_selection=frames, class_names=CLASS_NAMES
    )
    return model, info


def encoder_with(config: SelectionConfig) -> tuple[MaskedAutoencoder, CheckpointInfo]:
    """A pre-trained model whose encoder is used as it is after fine-tuning."""
    torch.manual_seed(0)
    body = encoder(final_norm=True, depth=1)
    model = jitter(MaskedAutoencoder(body, width=24, decoder_width=12, decoder_depth=1, decoder_heads=2)).eval()
    return model, CheckpointInfo(task="finetune", model=MODEL, clip=CLIP, selection=config)


def moving(count: int = 3, num_frames: int = 8, seed: int = 1) -> Tensor:
    """Bytes [B, T', H, W, 3] of noise, all of which changes."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (count, num_frames, 16, 16, 3), generator=generator).to(torch.uint8)


def mostly_still(count: int = 2, num_frames: int = 8) -> Tensor:
    """The same, with one moving corner: most tokens have the score 0 and are tied."""
    frames = moving(count, num_frames)
    still = frames[:, :1].expand_as(frames).clone()
    still[:, :, :4, :4] = frames[:, :, :4, :4]
    return still


assert GRID.clip_shape == (8, 16, 16)
