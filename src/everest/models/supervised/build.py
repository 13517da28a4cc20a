"""The encoders of the supervised rows by name."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Protocol

from everest.config import Arch, ModelSize
from everest.errors import ConfigError, nearest
from everest.models.supervised.base import SupervisedEncoder
from everest.models.supervised.motionformer import Motionformer
from everest.models.supervised.mvit import MVIT_B, MVIT_S, MViT, MViTLayout, mvit_width
from everest.models.supervised.timesformer import TimeSformer
from everest.models.supervised.vivit import ViViT
from everest.models.supervised.xvit import XViT
from everest.tokens import TokenGrid

TINY_FACTOR = 4  # by which the tiny MViTs are narrower


class _Sized(Protocol):
    """One that comes in the sizes of the plain ViT."""

    def __call__(
        self, grid: TokenGrid, *, width: int, depth: int, num_heads: int, drop_path: float
    ) -> SupervisedEncoder: ...


_SIZED: Mapping[Arch, _Sized] = MappingProxyType(
    {"vivit": ViViT, "timesformer": TimeSformer, "xvit": XViT, "motionformer": Motionformer}
)
_LAYOUTS: Mapping[Arch, MViTLayout] = MappingProxyType({"mvit_s": MVIT_S, "mvit_b": MVIT_B})


def build_supervised_encoder(
    arch: Arch, size: ModelSize, grid: TokenGrid, *, width: int, depth: int, num_heads: int, drop_path: float
) -> tuple[SupervisedEncoder, int]:
    """Build an encoder with fresh weights from PyTorch's random state.

    Args:
        arch: Which one.
        size: Name of the size; an MViT has the size of its own name, and is narrower where ``tiny`` is asked for.
        grid: The tokens of a clip.
        width: Of the size.
        depth: Of the size.
        num_heads: Of the size.
        drop_path: Of the last block.

    Returns:
        The encoder, and the width of what it returns.

    Raises:
        ConfigError: There is no such encoder here.
    """
    if arch in _LAYOUTS:
        layout = _LAYOUTS[arch].narrowed(TINY_FACTOR) if size == "tiny" else _LAYOUTS[arch]
        return MViT(grid, layout, drop_path=drop_path), mvit_width(layout)
    if arch not in _SIZED:
        raise ConfigError(f"no supervised network {arch!r}: {nearest(arch, [*_LAYOUTS, *_SIZED])}")
    return _SIZED[arch](grid, width=width, depth=depth, num_heads=num_heads, drop_path=drop_path), width
