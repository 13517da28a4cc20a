"""Histograms of oriented gradients: the shape that MME predicts of a token.

Conventions, those of ``skimage.feature.hog`` before it normalises blocks:

- the gradient is the difference of the two neighbours of a pixel, not halved; at the border of the frame it is 0 in the
  direction across the border;
- the direction is unsigned: 0 to 180 degrees, where 0 is a change from left to right and 90 one from top to bottom;
- 9 bins of 20 degrees; a pixel votes for one bin, with the length of its gradient;
- a cell is 8 x 8 pixels; its votes are divided by 64;
- every colour channel has a histogram of its own, of normalised values;
- there are no blocks, and nothing is normalised afterwards.

Neighbours are those in the frame, also where they belong to other tokens, so the values are the same as if the frame
had been done as a whole; but only the target tokens are done, a fifth of them in EVEREST.

Shapes: B clips, M targets, N tokens, P pixels of a tubelet, t slots of h x w tokens, tau frames and p rows and columns
of a token, r x r cells of a token.
"""

import math

import torch
from torch import Tensor

from everest.models.motion import NUM_BINS
from everest.models.tubelets import Tubelets
from everest.tokens import TokenGrid
from everest.video.trajectories import CELL_SIZE


@torch.no_grad()
def hog_targets(patches: Tensor | Tubelets, target: Tensor, grid: TokenGrid) -> Tensor:
    """Describe the middle frame of the target tokens.

    The middle one is frame ``tubelet_size // 2`` of a tubelet, from 0: the second of two.

    Args:
        patches: All tubelets of the clips, shape [B, N, P]: normalised, or as bytes.
        target: Token numbers, shape [B, M].
        grid: Where the tokens are; patches are a multiple of 8 pixels.

    Returns:
        In the order (cell row, cell column, channel, bin), float32 (float64 where patches are), shape
        [B, M, cells * 3 * 9].
    """
    windows = _windows(patches, target, grid)  # [B, M, 3, p + 2, p + 2]
    down = windows[..., 2:, 1:-1] - windows[..., :-2, 1:-1]  # [B, M, 3, p, p]
    right = windows[..., 1:-1, 2:] - windows[..., 1:-1, :-2]
    return _histograms(down, right)


def _windows(patches: Tensor | Tubelets, target: Tensor, grid: TokenGrid) -> Tensor:
    """Take the middle frame of tokens with one pixel around it, scaled as if normalised: [B, M, 3, p + 2, p + 2]."""
    (t, h, w), tau, p = grid.shape, grid.tubelet_size, grid.patch_size
    pixels = patches.pixels if isinstance(patches, Tubelets) else patches
    frames = pixels.reshape(-1, t, h, w, 3, tau, p, p)[:, :, :, :, :, tau // 2]  # [B, t, h, w, 3, p, p]
    frames = frames.permute(0, 1, 4, 2, 5, 3, 6).reshape(-1, t, 3, h * p, w * p)  # [B, t, 3, H, W]
    # Mirrored without the border itself, so that the neighbours of a pixel on the border are equal.
    rows, columns = (_mirrored(size, frames.device) for size in frames.shape[-2:])
    frames = frames.index_select(3, rows).index_select(4, columns)  # [B, t, 3, H + 2, W + 2]
    windows = frames.unfold(3, p + 2, p).unfold(4, p + 2, p)  # [B, t, 3, h, w, p + 2, p + 2], a view
    slot, place = target // grid.tokens_per_slot, target % grid.tokens_per_slot
    clip = torch.arange(len(target), device=target.device)[:, None]
    taken = windows[clip, slot, :, place // w, place % w]  # [B, M, 3, p + 2, p + 2]
    if not isinstance(patches, Tubelets):
        return taken
    scale = torch.tensor(patches.std).mul(255).reciprocal().to(taken.device)[:, None, None]
    return taken * scale  # the mean does not matter to differences


def _mirrored(size: int, device: torch.device) -> Tensor:
    """Number positions from -1 to ``size``, those outside mirrored."""
    inside = torch.arange(-1, size + 1, device=device).abs()
    return torch.where(inside == size, size - 2, inside)


def _histograms(down: Tensor, right: Tensor) -> Tensor:
    """Let gradients [B, M, 3, p, p] vote: [B, M, r * r * 3 * 9]."""
    length = torch.hypot(down, right)
    # Turned so that it lies in 0 to 180 degrees without 180, where rounding could not tell the first bin from the last.
    sign = torch.where((down < 0) | ((down == 0) & (right < 0)), -1.0, 1.0)
    angle = torch.atan2(down * sign, right * sign)
    bins = (angle * (NUM_BINS / math.pi)).floor().clamp(0, NUM_BINS - 1)
    cells = down.shape[-1] // CELL_SIZE
    shape = (*down.shape[:3], cells, CELL_SIZE, cells, CELL_SIZE)
    length, bins = length.reshape(shape), bins.reshape(shape)  # [B, M, 3, r, 8, r, 8]
    # A sum for each bin, and no scattering: that has no fixed order on a GPU.
    votes = [torch.where(bins == number, length, 0.0).sum(dim=(4, 6)) for number in range(NUM_BINS)]
    histograms = torch.stack(votes, dim=-1) / CELL_SIZE**2  # [B, M, 3, r, r, 9]
    return histograms.permute(0, 1, 3, 4, 2, 5).flatten(2)  # [B, M, r * r * 3 * 9]
