"""Fixed sine positions for any token grid.

Shapes: N tokens of t slots, h rows and w columns, D width.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from everest.config import PositionKind
from everest.errors import ConfigError

GridShape = tuple[int, int, int]  # slots, rows, columns


def sine_positions(num_tokens: int, width: int) -> Tensor:
    """Give every token number a fixed vector of sines and cosines.

    The table is one-dimensional over all tokens of a clip in their order, as in VideoMAE and the EVEREST release:
    even entries hold sin(n / 10000^(2i/D)), odd entries the cosine. It depends on the number of tokens only, so any
    grid has one.

    Args:
        num_tokens: N.
        width: D.

    Returns:
        Shape [1, N, D], float32, computed in float64.
    """
    index = torch.arange(width, dtype=torch.float64)
    rate = torch.pow(10000.0, -2.0 * torch.div(index, 2, rounding_mode="floor") / width)  # [D]
    angle = torch.arange(num_tokens, dtype=torch.float64)[:, None] * rate  # [N, D]
    table = torch.where(index % 2 == 0, angle.sin(), angle.cos())
    return table[None].float()


def sine_3d_positions(shape: GridShape, width: int) -> Tensor:
    """Give every token a fixed vector that says its slot, its column and its row, each in entries of its own.

    A quarter of the entries is for the slot, three eighths are for the column, the last three eighths for the row; each
    part holds all its sines, then all its cosines, of rates 10000^(-i/n). MVD and the spatio-temporal MAE have it.

    Args:
        shape: Slots, rows and columns.
        width: D, a multiple of 16.

    Returns:
        Shape [1, N, D], float32, computed in float64.

    Raises:
        ConfigError: The width cannot be shared out so.
    """
    if width % 16:
        raise ConfigError(f"positions=sine_3d needs a width that 16 divides, given: {width}; use positions=sine")
    t, h, w = shape
    slot, row, column = torch.meshgrid(*(torch.arange(size, dtype=torch.float64) for size in shape), indexing="ij")
    parts = [_waves(slot, width // 4), _waves(column, width * 3 // 8), _waves(row, width * 3 // 8)]  # each [t, h, w, _]
    return torch.cat(parts, dim=-1).reshape(1, t * h * w, width).float()  # [1, N, D]


def interpolate_positions(table: Tensor, old: GridShape, new: GridShape) -> Tensor:
    """Stretch a table over another grid: bicubic in space, slot by slot, and linear in time.

    Space is done as by the EVEREST release and VideoMAE (without aligned corners), who have no rule for time.

    Args:
        table: Shape [1, N, D] for ``old``.
        old: Slots, rows and columns that it is for.
        new: Those that are wanted.

    Returns:
        Shape [1, N', D] for ``new``.
    """
    if old == new:
        return table
    width = table.shape[-1]
    maps = table.reshape(old[0], *old[1:], width).permute(0, 3, 1, 2)  # [t, D, h, w]
    if old[1:] != new[1:]:
        maps = F.interpolate(maps, size=new[1:], mode="bicubic", align_corners=False)  # [t, D, h', w']
    lines = maps.permute(2, 3, 1, 0).flatten(0, 1)  # [h' * w', D, t]
    if old[0] != new[0]:
        lines = F.interpolate(lines, size=new[0], mode="linear", align_corners=False)  # [h' * w', D, t']
    return lines.permute(2, 0, 1).reshape(1, -1, width).contiguous()  # [1, N', D]


def position_table(kind: PositionKind, shape: GridShape, width: int, made_for: GridShape | None = None) -> Tensor:
    """Make the table of an encoder.

    Args:
        kind: Which one; see :class:`~everest.config.ModelConfig`.
        shape: Slots, rows and columns of its clips.
        width: D.
        made_for: The grid that the table is made for before it is stretched; None: that of its clips.

    Returns:
        Shape [1, N, D], float32.

    Raises:
        ConfigError: There is no such table of this width.
    """
    own = made_for or shape
    table = sine_positions(own[0] * own[1] * own[2], width) if kind == "sine" else sine_3d_positions(own, width)
    return interpolate_positions(table, own, shape)


def _waves(index: Tensor, width: int) -> Tensor:
    """Sines, then cosines of a number: [t, h, w] to [t, h, w, width]."""
    half = width // 2
    rate = torch.pow(10000.0, -torch.arange(half, dtype=torch.float64) / half)
    angle = index[..., None] * rate
    return torch.cat([angle.sin(), angle.cos()], dim=-1)
