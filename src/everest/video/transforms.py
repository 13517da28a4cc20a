"""Fixed changes of size and value, on whole clips.

Shapes: B clips, C channels, T frames, H height, W width. Pixels stay uint8, a quarter of the memory of float32, until
:func:`normalize` on the device that computes.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from everest.errors import VideoError
from everest.video.clip import Clip


def to_channels_first(clip: Clip) -> Tensor:
    """View the frames of a clip in the order that models take.

    Returns:
        The same memory, uint8, shape [C, T, H, W].
    """
    return clip.frames.permute(3, 0, 1, 2)  # [C,T,H,W]


def resize(frames: Tensor, height: int, width: int) -> Tensor:
    """Scale all frames, bilinear with antialiasing.

    Args:
        frames: uint8, shape [C, T, H, W].
        height: Height in pixels afterwards.
        width: Width in pixels afterwards.

    Returns:
        uint8, shape [C, T, height, width].
    """
    if frames.shape[-2:] == (height, width):
        return frames
    images = frames.permute(1, 0, 2, 3)  # [T,C,H,W]; in the memory order of a decoded clip this path is the fast one
    scaled = F.interpolate(images, size=(height, width), mode="bilinear", antialias=True, align_corners=False)
    return scaled.permute(1, 0, 2, 3)  # [C,T,height,width]


def crop_and_resize(  # noqa: PLR0917  # a box and a size are read in this order everywhere
    frames: Tensor, top: int, left: int, crop_height: int, crop_width: int, height: int, width: int
) -> Tensor:
    """Cut the same box out of all frames and scale it.

    Args:
        frames: uint8, shape [C, T, H, W].
        top: First row of the box.
        left: First column of the box.
        crop_height: Rows of the box.
        crop_width: Columns of the box.
        height: Height in pixels afterwards.
        width: Width in pixels afterwards.

    Returns:
        uint8, shape [C, T, height, width].

    Raises:
        VideoError: The box is empty or reaches outside the frames.
    """
    H, W = frames.shape[-2:]
    fits = top >= 0 and left >= 0 and top + crop_height <= H and left + crop_width <= W
    if not fits or crop_height < 1 or crop_width < 1:
        raise VideoError(
            f"a crop of {crop_height}x{crop_width} pixels at row {top}, column {left} does not fit frames of {H}x{W}"
        )
    box = frames[:, :, top : top + crop_height, left : left + crop_width]
    return resize(box, height, width)


def resize_short_side(frames: Tensor, size: int) -> Tensor:
    """Scale all frames so that the short side has a given length; the long side is rounded down.

    Args:
        frames: uint8, shape [C, T, H, W].
        size: Length of the short side in pixels afterwards.

    Returns:
        uint8, shape [C, T, size, size * W // H] for landscape.
    """
    H, W = frames.shape[-2:]
    short = min(H, W)
    return resize(frames, size * H // short, size * W // short)


def resize_to_cover(frames: Tensor, height: int, width: int) -> Tensor:
    """Scale all frames so that a box fits in exactly: one side is the box's, the other as long or longer.

    Args:
        frames: uint8, shape [C, T, H, W].
        height: Height of the box in pixels.
        width: Width of the box in pixels.

    Returns:
        uint8, shape [C, T, height, W * height // H], or [C, T, H * width // W, width] where the frames are narrower.
    """
    H, W = frames.shape[-2:]
    is_wide = W * height >= H * width
    return resize(frames, *((height, W * height // H) if is_wide else (H * width // W, width)))


def view_crops(frames: Tensor, height: int, width: int, num_crops: int) -> list[Tensor]:
    """Scale the frames to cover a box and take crops that together show them to both ends.

    Args:
        frames: uint8, shape [C, T, H, W].
        height: Height of a crop in pixels.
        width: Width of a crop in pixels.
        num_crops: Number of crops, spread evenly over the side that has pixels to spare: left to right or top to
            bottom. A single one is the centre.

    Returns:
        ``num_crops`` views of shape [C, T, height, width], uint8, that share memory.
    """
    scaled = resize_to_cover(frames, height, width)
    is_wide = scaled.shape[-1] * height >= scaled.shape[-2] * width
    spare = scaled.shape[-1] - width if is_wide else scaled.shape[-2] - height
    offsets = [spare * i // (num_crops - 1) for i in range(num_crops)] if num_crops > 1 else [spare // 2]
    return [scaled.narrow(-1 if is_wide else -2, at, width if is_wide else height) for at in offsets]


def normalize(clips: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """Turn pixel values into model input, ``(value / 255 - mean) / std``, on the device of the clips.

    Args:
        clips: Pixel values 0 to 255, uint8 or floating point, shape [B, C, T, H, W].
        mean: Per channel, of values scaled to 0..1.
        std: Per channel, of values scaled to 0..1.

    Returns:
        float32, shape [B, C, T, H, W], contiguous.
    """
    out = torch.empty(clips.shape, dtype=torch.float32, device=clips.device)
    # Scalars per channel are quicker than broadcast tensors, and converting while subtracting saves a copy.
    for channel, (m, s) in enumerate(zip(mean, std, strict=True)):
        torch.sub(clips[:, channel], m * 255, out=out[:, channel]).mul_(1 / (s * 255))
    return out
