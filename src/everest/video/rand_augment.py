"""RandAugment for clips: every frame goes through the same operations with the same parameters.

Built on Pillow, not on kornia, whose RandAugment draws its parameters per image (on a batch of equal frames 4 of 12
draws gave frames that differ), takes whole magnitudes only, and has no probability per operation.

Operations on values treat the clip as one tall picture, so that tables which depend on the content (equalisation,
stretching of contrast) are the same for all frames; operations on geometry, and sharpness, which looks at neighbouring
pixels, go frame by frame.

Shapes: C channels, T frames, H height, W width.
"""

from collections.abc import Callable
from typing import Final

import numpy as np
import torch
from PIL import Image, ImageEnhance, ImageOps
from torch import Tensor

from everest.config import AugmentConfig

_GREY = (128, 128, 128)
_MAX_MAGNITUDE = 10.0
_MAGNITUDE_STD = 0.5

# An operation takes a picture and a strength from -1 to 1; those that know no direction use its size.
Operation = Callable[[Image.Image, float], Image.Image]


def _enhance(kind: Callable[[Image.Image], ImageEnhance._Enhance], image: Image.Image, strength: float) -> Image.Image:
    return kind(image).enhance(1.0 + 0.9 * strength)


def _affine(image: Image.Image, matrix: tuple[float, float, float, float, float, float]) -> Image.Image:
    return image.transform(
        image.size, Image.Transform.AFFINE, matrix, resample=Image.Resampling.BILINEAR, fillcolor=_GREY
    )


def _solarize_add(image: Image.Image, strength: float) -> Image.Image:
    added = int(110 * abs(strength))
    return image.point([min(v + added, 255) if v < 128 else v for v in range(256)] * 3)


# At full strength colour, contrast, brightness and sharpness are scaled by 0.1 or 1.9, four of eight bits are dropped,
# every value is inverted, 110 is added to dark values, and a picture turns by 30 degrees, leans by 0.3 pixels per pixel
# or moves by 45 % of its size: the ranges in use for fine-tuning masked autoencoders, all growing with the magnitude.
_ON_VALUES: Final[dict[str, Operation]] = {
    "auto_contrast": lambda image, _: ImageOps.autocontrast(image),
    "equalize": lambda image, _: ImageOps.equalize(image),
    "invert": lambda image, _: ImageOps.invert(image),
    "posterize": lambda image, s: ImageOps.posterize(image, 8 - round(4 * abs(s))),
    "solarize": lambda image, s: ImageOps.solarize(image, 256 - round(256 * abs(s))),
    "solarize_add": _solarize_add,
    "color": lambda image, s: _enhance(ImageEnhance.Color, image, s),
    "contrast": lambda image, s: _enhance(ImageEnhance.Contrast, image, s),
    "brightness": lambda image, s: _enhance(ImageEnhance.Brightness, image, s),
}
_ON_FRAMES: Final[dict[str, Operation]] = {
    "sharpness": lambda image, s: _enhance(ImageEnhance.Sharpness, image, s),
    "rotate": lambda image, s: image.rotate(30 * s, resample=Image.Resampling.BILINEAR, fillcolor=_GREY),
    "shear_x": lambda image, s: _affine(image, (1, 0.3 * s, -0.15 * s * image.height, 0, 1, 0)),
    "shear_y": lambda image, s: _affine(image, (1, 0, 0, 0.3 * s, 1, -0.15 * s * image.width)),
    "translate_x": lambda image, s: _affine(image, (1, 0, 0.45 * s * image.width, 0, 1, 0)),
    "translate_y": lambda image, s: _affine(image, (1, 0, 0, 0, 1, 0.45 * s * image.height)),
}
OPERATIONS: Final = tuple(sorted(_ON_VALUES | _ON_FRAMES))


def apply_operation(frames: Tensor, name: str, strength: float) -> Tensor:
    """Apply one operation to all frames.

    Args:
        frames: uint8, shape [C, T, H, W].
        name: One of ``OPERATIONS``.
        strength: -1 to 1; 0 changes nothing, except for those operations that know no strength.

    Returns:
        uint8, shape [C, T, H, W].
    """
    pixels = frames.permute(1, 2, 3, 0).contiguous().numpy()  # [T,H,W,C]
    T, H, W, C = pixels.shape
    if name in _ON_VALUES:
        tall = Image.fromarray(pixels.reshape(T * H, W, C))
        changed = np.array(_ON_VALUES[name](tall, strength)).reshape(T, H, W, C)
    else:
        operation = _ON_FRAMES[name]
        changed = np.stack([np.asarray(operation(Image.fromarray(frame), strength)) for frame in pixels])
    return torch.from_numpy(changed).permute(3, 0, 1, 2)  # [C,T,H,W]


def draw_operations(config: AugmentConfig, generator: torch.Generator) -> tuple[tuple[str, float], ...]:
    """Draw the operations of a clip (paper, fine-tuning settings).

    ``config.rand_augment_ops`` operations are drawn with replacement. Each is applied with
    ``config.rand_augment_probability``, at a magnitude drawn from a normal distribution around
    ``config.rand_augment_magnitude`` with standard deviation 0.5, in a random direction.

    Args:
        config: The ``rand_augment_*`` settings are used.
        generator: Decides everything; on the CPU.

    Returns:
        Name and strength of those that are applied, in their order.
    """
    names = torch.randint(len(OPERATIONS), (config.rand_augment_ops,), generator=generator).tolist()
    draws = torch.rand(config.rand_augment_ops, 2, generator=generator).tolist()
    noise = torch.randn(config.rand_augment_ops, generator=generator).tolist()
    operations = []
    for index, (chance, direction), deviation in zip(names, draws, noise, strict=True):
        if chance >= config.rand_augment_probability:
            continue
        magnitude = config.rand_augment_magnitude + _MAGNITUDE_STD * deviation
        strength = min(max(magnitude, 0.0), _MAX_MAGNITUDE) / _MAX_MAGNITUDE
        operations.append((OPERATIONS[index], strength if direction < 0.5 else -strength))
    return tuple(operations)
