"""One training step to be measured: what training does with a batch that has arrived, from uint8 clips to new weights.

Shapes: B clips, T frames, H height, W width.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from everest.bench.plain import PlainAutoencoder, PlainClassifier, build_plain, plain_choice, plain_targets
from everest.config import (
    CheckpointInfo,
    ClipConfig,
    ModelConfig,
    ModelSize,
    OptimConfig,
    SelectionConfig,
    SelectionMethod,
    Task,
)
from everest.errors import ConfigError
from everest.models import (
    SIZES,
    Classifier,
    MaskedAutoencoder,
    build_autoencoder,
    build_classifier,
    grid_of,
    select_input,
)
from everest.objectives import pixel_loss, pixel_targets
from everest.tokens import count_tokens
from everest.training.engine import choose_dtype
from everest.training.optim import build_optimizer
from everest.video import normalize

Peer = Literal["plain"]
AnyModel = MaskedAutoencoder | Classifier | PlainAutoencoder | PlainClassifier

ENCODE_RATIO = 0.1
KEEP_RATIO: dict[Task, float] = {"pretrain": 0.3, "finetune": 0.6}
"""Shares of all tokens (paper, hyper-parameters of pre-training and fine-tuning)."""


@dataclass(frozen=True)
class TokenNumbers:
    """Tokens of one clip: all, those that are encoded, those that are predicted."""

    total: int
    visible: int
    target: int


@dataclass(frozen=True, eq=False)
class TrainingStep:
    """A step that can be run again and again.

    Attributes:
        run: Does one optimiser step and returns its loss; when it returns, the device has finished.
        model: What is trained.
        tokens: Of one clip.
        num_parameters: Of the model.
        device: Where it runs.
        dtype: What matrix products compute in.
    """

    run: Callable[[], float]
    model: AnyModel
    tokens: TokenNumbers
    num_parameters: int
    device: torch.device
    dtype: torch.dtype

    def __repr__(self) -> str:
        millions = f"{self.num_parameters / 1e6:.1f} M parameters"
        return f"TrainingStep({type(self.model).__name__}, {millions}, {self.tokens}, {self.device}, {self.dtype})"


def describe_task(
    size: ModelSize,
    task: Task,
    selection: SelectionMethod,
    *,
    num_frames: int = 16,
    height: int = 224,
    width: int = 224,
    keep_ratio: float | None = None,
    encode_ratio: float = ENCODE_RATIO,
) -> CheckpointInfo:
    """Give the settings of a step, the paper's by default.

    Args:
        size: Model size.
        task: Pre-training or fine-tuning.
        selection: Which tokens are computed; ``tube`` in pre-training is VideoMAE.
        num_frames: T.
        height: H, in pixels.
        width: W, in pixels.
        keep_ratio: Share of all tokens that is kept; None: the paper's, .3 in pre-training and .6 in fine-tuning.
        encode_ratio: Share of all tokens that is encoded in pre-training.
    """
    return CheckpointInfo(
        task=task,
        model=ModelConfig(size=size, drop_path=0.1 if task == "finetune" else 0.0),
        clip=ClipConfig(num_frames=num_frames, height=height, width=width),
        selection=SelectionConfig(
            method=selection, keep_ratio=keep_ratio or KEEP_RATIO[task], encode_ratio=encode_ratio
        ),
    )


def moving_clips(batch: int, info: CheckpointInfo, *, seed: int = 0) -> Tensor:
    """Make clips in which some things move and nothing is quite still.

    A smooth background with sensor noise, over which three textured squares glide.

    Args:
        batch: B.
        info: Size of the clips.
        seed: The same seed gives the same clips.

    Returns:
        Pixel values 0 to 255, uint8, shape [B, 3, T, H, W].
    """
    generator = torch.Generator().manual_seed(seed)
    T, H, W = info.clip.num_frames, info.clip.height, info.clip.width
    coarse = torch.rand(batch, 3, 4, 4, generator=generator)
    background = F.interpolate(coarse, size=(H, W), mode="bilinear") * 200 + 20  # [B, 3, H, W]
    clips = background.unsqueeze(2) + 3 * torch.randn(batch, 3, T, H, W, generator=generator)
    side = max(1, min(H, W) // 4)
    for clip in clips:
        for _ in range(3):
            texture = torch.rand(3, side, side, generator=generator) * 255
            ends = torch.rand(2, 2, generator=generator) * torch.tensor([H - side, W - side])
            for t in range(T):
                top, left = torch.lerp(ends[0], ends[1], t / T).int().tolist()
                clip[:, t, top : top + side, left : left + side] = texture
    return clips.clamp_(0, 255).to(torch.uint8)


def build_model(info: CheckpointInfo, num_classes: int, peer: Peer | None = None) -> AnyModel:
    """Build our model for a task, or its peer, with fresh weights from PyTorch's random state.

    Raises:
        ConfigError: There is no such peer.
    """
    if peer not in (None, "plain"):
        raise ConfigError(f"no peer {peer!r}: give 'plain', or none to measure EVEREST itself")
    if peer == "plain":
        return build_plain(info, num_classes)
    if info.task == "pretrain":
        return build_autoencoder(info.model, info.clip)
    return build_classifier(info.model, info.clip, num_classes)


def build_step(
    info: CheckpointInfo,
    batch: int,
    *,
    device: str = "cpu",
    precision: str = "float32",
    num_classes: int = 101,
    peer: Peer | None = None,
    seed: int = 0,
) -> TrainingStep:
    """Build one training step with made-up clips.

    Args:
        info: From :func:`describe_task`.
        batch: Clips of the step, B.
        device: ``cpu`` or ``cuda``.
        precision: ``float32``, ``bfloat16`` (weights stay float32), or ``auto`` for what training would take.
        num_classes: Of the classifier.
        peer: ``plain`` for the plain peer instead of our model.
        seed: Of weights, clips, labels and selection.

    Raises:
        ConfigError: An impossible combination.
    """
    if batch < 1:
        raise ConfigError(f"a step needs at least one clip, given: {batch}")
    place = _find_device(device)
    dtype = choose_dtype(precision, place)
    counts = count_tokens(grid := grid_of(info.model, info.clip), info.selection, info.task)
    torch.manual_seed(seed)
    model = build_model(info, num_classes, peer).to(place).train()
    settings = OptimConfig(global_batch_size=batch, layer_decay=0.75 if info.task == "finetune" else 1.0)
    optimizer = build_optimizer(model, settings, SIZES[info.model.size].depth)
    clips = moving_clips(batch, info, seed=seed).to(place)
    labels = (torch.arange(batch) % num_classes).to(place)
    loss_of = _loss(model, info, labels, torch.Generator(place).manual_seed(seed))

    def run() -> float:
        with torch.autocast(place.type, dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
            loss = loss_of(normalize(clips, info.mean, info.std))
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        value = float(loss.detach())
        if place.type == "cuda":
            torch.cuda.synchronize(place)
        return value

    num_parameters = sum(parameter.numel() for parameter in model.parameters())
    return TrainingStep(run, model, TokenNumbers(grid.num_tokens, *counts), num_parameters, place, dtype)


def _loss(
    model: AnyModel, info: CheckpointInfo, labels: Tensor, generator: torch.Generator
) -> Callable[[Tensor], Tensor]:
    """From normalised clips [B, 3, T, H, W] to the loss, our way or the peer's."""
    mean, std = (torch.tensor(values, device=labels.device) for values in (info.mean, info.std))

    def ours_pretrain(clips: Tensor) -> Tensor:
        given = select_input(model.encoder, clips, info, generator=generator)
        prediction = model(given.patches, given.selection)
        targets = pixel_targets(given.patches, given.selection.target, given.selection.grid, mean, std)
        return pixel_loss(prediction, targets)

    def ours_finetune(clips: Tensor) -> Tensor:
        given = select_input(model.encoder, clips, info, generator=generator)
        return F.cross_entropy(model(given.patches, given.selection).float(), labels, label_smoothing=0.1)

    def plain_pretrain(clips: Tensor) -> Tensor:
        values, selection = model(clips, plain_choice(info, generator))
        return F.mse_loss(values.float(), plain_targets(clips, selection, mean, std))

    def plain_finetune(clips: Tensor) -> Tensor:
        logits, _ = model(clips, plain_choice(info, generator))
        return F.cross_entropy(logits.float(), labels, label_smoothing=0.1)

    plain = isinstance(model, PlainAutoencoder | PlainClassifier)
    if info.task == "pretrain":
        return plain_pretrain if plain else ours_pretrain
    return plain_finetune if plain else ours_finetune


def _find_device(name: str) -> torch.device:
    if name not in ("cpu", "cuda"):
        raise ConfigError(f"cannot measure on device {name!r}: give cpu or cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("no CUDA device is available here: give cpu")
    return torch.device(name)
