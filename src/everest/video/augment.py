"""Random changes to training clips, each the same for all frames of a clip.

A change that differed from frame to frame would look like motion, and motion is what decides which tokens are kept.
The order is crop, flip, RandAugment, erase: after the crop the cost no longer depends on the size of the file. Crop and
flip make a clip smaller and are done where it is decoded; the rest can wait until the clip is on a GPU.

Shapes: C channels, T frames, H height, W width.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from everest.config import AugmentConfig
from everest.video.rand_augment import apply_operation, draw_operations
from everest.video.tensor_operations import apply_operation_on_device
from everest.video.trajectories import ClipBox
from everest.video.transforms import crop_and_resize

Operate = Callable[[Tensor, str, float], Tensor]  # frames [C,T,H,W], name and strength to frames [C,T,H,W]

# Where a multi-scale crop may lie, in quarters of the room that it has: corners, middles of the edges, the centre,
# and half-way between the centre and each corner.
_PLACES = (
    *((row, column) for row in (0, 2, 4) for column in (0, 2, 4)),
    *((row, column) for row in (1, 3) for column in (1, 3)),
)
_LOG_ASPECT = (math.log(3 / 4), math.log(4 / 3))
_ERASE_AREA = (0.02, 1 / 3)
_ERASE_LOG_ASPECT = (math.log(0.3), math.log(1 / 0.3))
_NUM_TRIES = 10
# Erased pixels are standard normal noise after normalisation with these, the values that checkpoints carry.
_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class ErasedBox:
    """A box of noise, the same in all frames.

    Attributes:
        top: First row.
        left: First column.
        height: Number of rows.
        width: Number of columns.
        seed: Decides the noise, which is new in every frame.
    """

    top: int
    left: int
    height: int
    width: int
    seed: int


@dataclass(frozen=True)
class ClipChanges:
    """What is done to the pixels of a clip once it has its size: drawn here, done here or on the device.

    Attributes:
        operations: Names and strengths for :func:`~everest.video.rand_augment.apply_operation`, in order.
        erased: Where the clip is overwritten, after the operations.
    """

    operations: tuple[tuple[str, float], ...] = ()
    erased: ErasedBox | None = None


def augment_clip(frames: Tensor, config: AugmentConfig, height: int, width: int, generator: torch.Generator) -> Tensor:
    """Make a training clip out of decoded frames.

    Mixup and cutmix mix clips of a batch and are not applied here.

    Args:
        frames: uint8, shape [C, T, H, W]; not changed.
        config: What is applied.
        height: Height in pixels afterwards.
        width: Width in pixels afterwards.
        generator: Decides everything; on the CPU. The same state gives the same clip.

    Returns:
        uint8, shape [C, T, height, width], contiguous.
    """
    clip = crop_clip(frames, config, height, width, generator)
    return change_clip(clip, draw_changes(config, height, width, generator)).contiguous()


def crop_clip(frames: Tensor, config: AugmentConfig, height: int, width: int, generator: torch.Generator) -> Tensor:
    """Do what makes a clip smaller: crop, resize and flip, the first part of :func:`augment_clip`.

    Returns:
        uint8, shape [C, T, height, width].
    """
    return take_box(frames, draw_box(frames, config, height, width, generator), height, width)


def draw_box(frames: Tensor, config: AugmentConfig, height: int, width: int, generator: torch.Generator) -> ClipBox:
    """Draw what :func:`crop_clip` takes of frames [C, T, H, W]."""
    H, W = frames.shape[-2:]
    if config.crop == "multi_scale":
        box = multi_scale_box(H, W, config.crop_scales, height / width, generator)
    elif config.crop == "random_resized":
        box = random_resized_box(H, W, config.min_area, height / width, generator)
    else:
        box = center_box(H, W, height / width)
    return ClipBox(*box, H, W, config.flip and _uniform(0.0, 1.0, generator) < 0.5)


def take_box(frames: Tensor, box: ClipBox, height: int, width: int) -> Tensor:
    """Crop, resize and flip: uint8 [C, T, H, W] to [C, T, height, width]."""
    clip = crop_and_resize(frames, box.top, box.left, box.height, box.width, height, width)
    return clip.flip(-1) if box.is_flipped else clip


def draw_changes(config: AugmentConfig, height: int, width: int, generator: torch.Generator) -> ClipChanges:
    """Draw the second part of :func:`augment_clip`, for clips of a size in pixels."""
    operations = draw_operations(config, generator) if config.rand_augment_ops else ()
    erases = config.erase_probability and _uniform(0.0, 1.0, generator) < config.erase_probability
    return ClipChanges(operations, erased_box(height, width, generator) if erases else None)


def change_clip(clip: Tensor, changes: ClipChanges, operate: Operate = apply_operation) -> Tensor:
    """Do the second part of :func:`augment_clip`.

    Args:
        clip: uint8, shape [C, T, H, W]; not changed.
        changes: What to do.
        operate: Carries out one operation.

    Returns:
        uint8, shape [C, T, H, W].
    """
    for name, strength in changes.operations:
        clip = operate(clip, name, strength)
    return clip if changes.erased is None else erase(clip, changes.erased)


def change_clips_on_device(clips: Tensor, changes: Sequence[ClipChanges]) -> Tensor:
    """Do on a GPU what :func:`change_clip` does on the CPU, to the last bit of a value; the noise is another.

    Args:
        clips: uint8, shape [B, C, T, H, W]; not changed.
        changes: One for each clip, or none at all.

    Returns:
        uint8, shape [B, C, T, H, W].
    """
    if not any(change.operations or change.erased for change in changes):
        return clips
    pairs = zip(clips, changes, strict=True)
    with torch.autocast(clips.device.type, enabled=False):  # sums of pixels are whole numbers, too large for bfloat16
        return torch.stack([change_clip(clip, change, apply_operation_on_device) for clip, change in pairs])


def center_box(H: int, W: int, aspect: float) -> tuple[int, int, int, int]:
    """Find the largest centred box of a shape.

    Args:
        H: Height of the frames.
        W: Width of the frames.
        aspect: Height of the box over its width.

    Returns:
        Top, left, height and width of the box in pixels.
    """
    h, w = _largest(H, W, aspect)
    return (H - h) // 2, (W - w) // 2, h, w


def multi_scale_box(
    H: int, W: int, scales: tuple[float, ...], aspect: float, generator: torch.Generator
) -> tuple[int, int, int, int]:
    """Draw a box at one of several scales and one of thirteen places.

    Height and width take the same or neighbouring scales, so shapes are distorted a little.

    Args:
        H: Height of the frames.
        W: Width of the frames.
        scales: Shares of the largest box that fits; for square clips shares of the short side.
        aspect: Height of the box over its width, when both take the same scale.
        generator: Decides scale and place.

    Returns:
        Top, left, height and width of the box in pixels.
    """
    pairs = [(a, b) for i, a in enumerate(scales) for j, b in enumerate(scales) if abs(i - j) <= 1]
    scale_h, scale_w = pairs[_integer(len(pairs), generator)]
    row, column = _PLACES[_integer(len(_PLACES), generator)]
    full_h, full_w = _largest(H, W, aspect)
    h, w = (min(max(int(full * s), 1), full) for full, s in ((full_h, scale_h), (full_w, scale_w)))
    return (H - h) * row // 4, (W - w) * column // 4, h, w


def random_resized_box(
    H: int, W: int, min_area: float, aspect: float, generator: torch.Generator
) -> tuple[int, int, int, int]:
    """Draw a box of random area, shape and place; the centre after ten boxes that do not fit.

    Args:
        H: Height of the frames.
        W: Width of the frames.
        min_area: Smallest share of the area of a frame.
        aspect: Height of the centred box over its width.
        generator: Decides the box.

    Returns:
        Top, left, height and width of the box in pixels.
    """
    for _ in range(_NUM_TRIES):
        area = _uniform(min_area, 1.0, generator) * H * W
        shape = math.exp(_uniform(*_LOG_ASPECT, generator))  # width over height
        h, w = round(math.sqrt(area / shape)), round(math.sqrt(area * shape))
        if 0 < h <= H and 0 < w <= W:
            return _integer(H - h + 1, generator), _integer(W - w + 1, generator), h, w
    return center_box(H, W, aspect)


def erased_box(H: int, W: int, generator: torch.Generator) -> ErasedBox | None:
    """Draw a box of random area and shape; one that does not fit is drawn again, up to ten times.

    Args:
        H: Height of the clip.
        W: Width of the clip.
        generator: Decides the box and its seed.

    Returns:
        The box; None where none fits.
    """
    for _ in range(_NUM_TRIES):
        area = _uniform(*_ERASE_AREA, generator) * H * W
        shape = math.exp(_uniform(*_ERASE_LOG_ASPECT, generator))  # height over width
        h, w = round(math.sqrt(area * shape)), round(math.sqrt(area / shape))
        if 0 < h < H and 0 < w < W:
            top, left = _integer(H - h + 1, generator), _integer(W - w + 1, generator)
            return ErasedBox(top, left, h, w, _integer(2**63 - 1, generator))
    return None


def erase(clip: Tensor, box: ErasedBox) -> Tensor:
    """Overwrite a box with noise: standard normal after normalisation, cut off where uint8 ends.

    Args:
        clip: uint8, shape [C, T, H, W] with C = 3; not changed.
        box: Where; its seed means other noise on another kind of device.

    Returns:
        uint8, shape [C, T, H, W].
    """
    C, T = clip.shape[:2]
    generator = torch.Generator(clip.device).manual_seed(box.seed)
    noise = torch.randn(C, T, box.height, box.width, generator=generator, device=clip.device)
    for channel, mean, std in zip(noise, _MEAN, _STD, strict=True):
        channel.mul_(255 * std).add_(255 * mean)
    erased = clip.clone()
    inside = erased[:, :, box.top : box.top + box.height, box.left : box.left + box.width]
    inside.copy_(noise.round_().clamp_(0, 255))
    return erased


def _largest(H: int, W: int, aspect: float) -> tuple[int, int]:
    """Find height and width of the largest box with height/width = aspect inside H x W."""
    return min(H, max(round(W * aspect), 1)), min(W, max(round(H / aspect), 1))


def _uniform(low: float, high: float, generator: torch.Generator) -> float:
    return low + (high - low) * float(torch.rand((), generator=generator, dtype=torch.float64))


def _integer(count: int, generator: torch.Generator) -> int:
    return int(torch.randint(count, (), generator=generator))
