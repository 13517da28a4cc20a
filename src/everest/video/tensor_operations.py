"""The operations of RandAugment as tensor arithmetic, for clips that are on a GPU already.

Each gives what Pillow gives in :mod:`everest.video.rand_augment`, which is the oracle: operations on values to the bit,
those on geometry up to the last bit of a value, since coordinates are float32 here and float64 there.

Shapes: C channels, T frames, H height, W width.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

_GREY = 128
_LUMA = (19595, 38470, 7471)  # shares of red, green and blue in grey, of 65536: ITU-R 601, as Pillow rounds them


def apply_operation_on_device(frames: Tensor, name: str, strength: float) -> Tensor:
    """Apply one operation to all frames, on their device.

    Args:
        frames: uint8, shape [C, T, H, W] with C = 3.
        name: One of :data:`~everest.video.rand_augment.OPERATIONS`.
        strength: -1 to 1.

    Returns:
        uint8, shape [C, T, H, W].
    """
    return _OPERATIONS[name](frames, strength)


def _look_up(frames: Tensor, table: Tensor) -> Tensor:
    """Replace every value by that of a table, shape [C, 256], clamped to uint8."""
    table = table.clamp(0, 255).to(torch.uint8)
    return torch.stack([row[channel.int()] for row, channel in zip(table, frames, strict=True)])  # [C,T,H,W]


def _values(frames: Tensor) -> Tensor:
    return torch.arange(256, device=frames.device)


def _count(frames: Tensor) -> Tensor:
    """Count the values of each channel, shape [C, 256]."""
    if frames.device.type == "cpu":
        return torch.stack([torch.bincount(channel.flatten().int(), minlength=256) for channel in frames])
    return _count_without_waiting(frames)


def _count_without_waiting(frames: Tensor) -> Tensor:
    """The same, slower on a CPU: bincount looks at the largest value, and so waits for a GPU."""
    counts = torch.zeros(len(frames), 256, dtype=torch.int64, device=frames.device)
    values = frames.flatten(1).long()  # [C, T * H * W]
    return counts.scatter_add_(1, values, counts.new_ones(()).expand_as(values))


def _auto_contrast(frames: Tensor, _: float) -> Tensor:
    low, high = (limit.double() for limit in frames.flatten(1).aminmax(dim=1))  # each [C]
    scale = torch.full_like(low, 255) / (high - low).clamp(min=1)  # 255 / tensor would be a rounded reciprocal
    stretched = (_values(frames) * scale[:, None] - (low * scale)[:, None]).trunc()  # [C,256]
    return _look_up(frames, torch.where((high > low)[:, None], stretched, _values(frames).double()))


def _equalize(frames: Tensor, _: float) -> Tensor:
    counts = _count(frames)  # [C,256]
    last = torch.where(counts > 0, _values(frames), 0).amax(1, keepdim=True)  # [C,1]
    step = (counts.sum(1, keepdim=True) - counts.gather(1, last)) // 255
    before = counts.cumsum(1) - counts
    table = (step // 2 + before) // step.clamp(min=1)
    return _look_up(frames, torch.where(step > 0, table, _values(frames)))


def _posterize(frames: Tensor, strength: float) -> Tensor:
    num_dropped = round(4 * abs(strength))
    return frames.bitwise_and(256 - 2**num_dropped)


def _solarize(frames: Tensor, strength: float) -> Tensor:
    threshold = 256 - round(256 * abs(strength))
    return torch.where(frames >= threshold, 255 - frames, frames) if threshold < 256 else frames


def _solarize_add(frames: Tensor, strength: float) -> Tensor:
    added = int(110 * abs(strength))
    return torch.where(frames < 128, frames.clamp(max=255 - added) + added, frames)


def _grey(frames: Tensor) -> Tensor:
    """Give the brightness of every pixel, int32, shape [T, H, W]."""
    weighted = torch.full(frames.shape[1:], 2**15, dtype=torch.int32, device=frames.device)
    for channel, share in zip(frames, _LUMA, strict=True):
        weighted.add_(channel.int(), alpha=share)
    return weighted.bitwise_right_shift_(16)


def _blend(plain: Tensor | int, frames: Tensor, strength: float) -> Tensor:
    """Go from a plain picture through the frames and past them."""
    factor = 1.0 + 0.9 * strength
    if factor == 1.0:
        return frames
    mixed = torch.sub(frames.float(), plain).mul_(factor).add_(plain)
    return mixed.clamp_(0, 255).to(torch.uint8)


def _color(frames: Tensor, strength: float) -> Tensor:
    return _blend(_grey(frames), frames, strength)


def _contrast(frames: Tensor, strength: float) -> Tensor:
    grey = _grey(frames)
    mean = (grey.sum(dtype=torch.float64) / grey.numel() + 0.5).int()
    return _blend(mean, frames, strength)


def _sharpness(frames: Tensor, strength: float) -> Tensor:
    C, T, H, W = frames.shape
    if H < 3 or W < 3:
        return frames
    kernel = torch.ones(1, 1, 3, 3, device=frames.device)
    kernel[0, 0, 1, 1] = 5
    smooth = frames.float().reshape(C * T, 1, H, W)
    inner = F.conv2d(smooth, kernel).div_(13).add_(0.5).floor_()  # whole numbers up to 3315: exact in float32
    smooth = smooth.clone()
    smooth[:, :, 1:-1, 1:-1] = inner  # the edges stay as they are
    return _blend(smooth.view(C, T, H, W), frames, strength)


def _affine(frames: Tensor, matrix: tuple[float, float, float, float, float, float]) -> Tensor:
    """Sample the frames at ``(a x + b y + c, d x + e y + f)``; grey where that is outside."""
    H, W = frames.shape[-2:]
    a, b, c, d, e, f = matrix
    x = torch.arange(W, device=frames.device, dtype=torch.float64) + 0.5
    y = (torch.arange(H, device=frames.device, dtype=torch.float64) + 0.5)[:, None]
    at_x, at_y = a * x + b * y + c, d * x + e * y + f  # each [H,W]
    inside = (at_x >= 0) & (at_x < W) & (at_y >= 0) & (at_y < H)
    grid = torch.stack([at_x * (2 / W) - 1, at_y * (2 / H) - 1], dim=-1).float()[None]  # [1,H,W,2]
    images = frames.reshape(1, -1, H, W).float()  # [1,C*T,H,W]
    moved = F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)
    moved = torch.where(inside, moved.add_(1e-3).clamp_(0, 255), _GREY)  # Pillow cuts off; 127.9999 is meant as 128
    return moved.to(torch.uint8).view(frames.shape)


def _rotate(frames: Tensor, strength: float) -> Tensor:
    if strength == 0:
        return frames
    H, W = frames.shape[-2:]
    angle = -math.radians(30 * strength)
    cos, sin = math.cos(angle), math.sin(angle)
    return _affine(
        frames,
        (cos, sin, W / 2 - cos * W / 2 - sin * H / 2, -sin, cos, H / 2 + sin * W / 2 - cos * H / 2),
    )


def _shear_x(frames: Tensor, strength: float) -> Tensor:
    return _affine(frames, (1, 0.3 * strength, -0.15 * strength * frames.shape[-2], 0, 1, 0))


def _shear_y(frames: Tensor, strength: float) -> Tensor:
    return _affine(frames, (1, 0, 0, 0.3 * strength, 1, -0.15 * strength * frames.shape[-1]))


def _translate(frames: Tensor, strength: float, *, along: int) -> Tensor:
    shift = 0.45 * strength * frames.shape[along]
    return _affine(frames, (1, 0, shift, 0, 1, 0) if along == -1 else (1, 0, 0, 0, 1, shift))


_OPERATIONS: Final[dict[str, Callable[[Tensor, float], Tensor]]] = {
    "auto_contrast": _auto_contrast,
    "equalize": _equalize,
    "invert": lambda frames, _: 255 - frames,
    "posterize": _posterize,
    "solarize": _solarize,
    "solarize_add": _solarize_add,
    "color": _color,
    "contrast": _contrast,
    "brightness": partial(_blend, 0),
    "sharpness": _sharpness,
    "rotate": _rotate,
    "shear_x": _shear_x,
    "shear_y": _shear_y,
    "translate_x": partial(_translate, along=-1),
    "translate_y": partial(_translate, along=-2),
}
