"""Random changes to training clips, each the same for all frames of a clip.

A change that differed from frame to frame would look like motion, and motion is what decides which tokens are kept.
The order is crop, flip, RandAugment, erase: after the crop the cost no longer depends on the size of the file.

Shapes: C channels, T frames, H height, W width.
"""

import math

import torch
from torch import Tensor

from everest.config import AugmentConfig
from everest.video.rand_augment import rand_augment
from everest.video.transforms import crop_and_resize

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
    H, W = frames.shape[-2:]
    if config.crop == "multi_scale":
        box = multi_scale_box(H, W, config.crop_scales, height / width, generator)
    elif config.crop == "random_resized":
        box = random_resized_box(H, W, config.min_area, height / width, generator)
    else:
        box = center_box(H, W, height / width)
    clip = crop_and_resize(frames, *box, height, width)
    if config.flip and _uniform(0.0, 1.0, generator) < 0.5:
        clip = clip.flip(-1)
    if config.rand_augment_ops:
        clip = rand_augment(clip, config, generator)
    if config.erase_probability and _uniform(0.0, 1.0, generator) < config.erase_probability:
        clip = erase(clip, generator)
    return clip.contiguous()


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


def erase(frames: Tensor, generator: torch.Generator) -> Tensor:
    """Overwrite a box, the same in all frames, with noise that is new in every frame.

    The noise is standard normal after normalisation, cut off where uint8 ends. A box that does not fit is drawn
    again, up to ten times; after that nothing is erased.

    Args:
        frames: uint8, shape [C, T, H, W] with C = 3; not changed.
        generator: Decides box and noise.

    Returns:
        uint8, shape [C, T, H, W].
    """
    C, T, H, W = frames.shape
    for _ in range(_NUM_TRIES):
        area = _uniform(*_ERASE_AREA, generator) * H * W
        shape = math.exp(_uniform(*_ERASE_LOG_ASPECT, generator))  # height over width
        h, w = round(math.sqrt(area * shape)), round(math.sqrt(area / shape))
        if 0 < h < H and 0 < w < W:
            top, left = _integer(H - h + 1, generator), _integer(W - w + 1, generator)
            noise = torch.randn(C, T, h, w, generator=generator)
            std, mean = (torch.tensor(v).view(C, 1, 1, 1) for v in (_STD, _MEAN))
            values = noise.mul_(std).add_(mean).mul_(255).round_().clamp_(0, 255)
            erased = frames.clone()
            erased[:, :, top : top + h, left : left + w] = values.to(torch.uint8)
            return erased
    return frames


def _largest(H: int, W: int, aspect: float) -> tuple[int, int]:
    """Find height and width of the largest box with height/width = aspect inside H x W."""
    return min(H, max(round(W * aspect), 1)), min(W, max(round(H / aspect), 1))


def _uniform(low: float, high: float, generator: torch.Generator) -> float:
    return low + (high - low) * float(torch.rand((), generator=generator, dtype=torch.float64))


def _integer(count: int, generator: torch.Generator) -> int:
    return int(torch.randint(count, (), generator=generator))
