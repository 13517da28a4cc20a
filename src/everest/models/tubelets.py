"""Tubelets as they come from a video: bytes, turned into model input where and when somebody needs them.

Most tubelets are only scored. Normalising all of them writes four times the bytes of the clip, twice; here the
normalisation of what is scored is part of the weights, and that of the others is done on the tokens that are taken.

Shapes: B clips, N tokens, K some of them, P pixels of a tubelet in the order (channel, frame, row, column), D width.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from everest.errors import SelectionError
from everest.models.constants import constant
from everest.tokens import TokenGrid, gather_tokens, patchify


@dataclass(frozen=True, eq=False, repr=False)
class Tubelets:
    """All tubelets of clips, not normalised yet.

    Attributes:
        pixels: Values 0 to 255, uint8, shape [B, N, P].
        mean: Per channel, of values scaled to 0..1.
        std: Per channel, of values scaled to 0..1.
    """

    pixels: Tensor
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        if self.pixels.dtype != torch.uint8 or self.pixels.ndim != 3:
            raise SelectionError(
                f"tubelets are uint8 of shape [B, N, P], given: {self.pixels.dtype} {list(self.pixels.shape)}"
            )

    def __repr__(self) -> str:
        return f"Tubelets({list(self.pixels.shape)}, {self.pixels.device})"

    @property
    def shape(self) -> torch.Size:
        """B, N, P."""
        return self.pixels.shape

    @property
    def device(self) -> torch.device:
        """Where the pixels are."""
        return self.pixels.device

    def __len__(self) -> int:
        return len(self.pixels)

    def take(self, index: Tensor) -> Tensor:
        """Give tubelets by number as models take them.

        Args:
            index: Token numbers, int64, shape [B, K].

        Returns:
            ``(value / 255 - mean) / std``, float32, shape [B, K, P].
        """
        return self.normalize(gather_tokens(self.pixels, index))

    def normalize(self, pixels: Tensor) -> Tensor:
        """Turn some of the pixels into model input: uint8 [..., P] to float32 of that shape."""
        shift, scale = self._per_pixel()
        return torch.sub(pixels, shift).mul_(scale)

    def take_values(self, index: Tensor) -> Tensor:
        """Give tubelets by number as pixel values 0 to 1: float32, shape [B, K, P]."""
        return gather_tokens(self.pixels, index).to(torch.float32).div_(255)

    def weight_of_changes(self, weight: Tensor) -> Tensor:
        """Move the scale into a linear map, [D, P], which then takes differences of bytes."""
        return weight * self._per_pixel()[1]

    def _per_pixel(self) -> tuple[Tensor, Tensor]:
        """What is subtracted from each pixel and what it is multiplied by, each [P]."""
        numbers = constant((tuple(m * 255 for m in self.mean), tuple(1 / (s * 255) for s in self.std)), self.device)
        shift, scale = numbers.repeat_interleave(self.shape[2] // numbers.shape[1], dim=1)  # each [P]
        return shift, scale


def cut(clips: Tensor, grid: TokenGrid, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor | Tubelets:
    """Cut clips into tubelets.

    Args:
        clips: Shape [B, 3, T, H, W]: uint8, or normalised already.
        grid: Where the tokens are.
        mean: Per channel, for uint8.
        std: Per channel, for uint8.

    Returns:
        :class:`Tubelets` of uint8 clips, else shape [B, N, P].
    """
    patches = patchify(clips, grid)
    return Tubelets(patches, mean, std) if patches.dtype == torch.uint8 else patches


def take(patches: Tensor | Tubelets, index: Tensor) -> Tensor:
    """Give normalised tubelets by number: [B, K, P]."""
    return patches.take(index) if isinstance(patches, Tubelets) else gather_tokens(patches, index)
