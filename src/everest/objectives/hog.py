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
from everest.tokens.others.packed import locate_tokens
from everest.video.trajectories import CELL_SIZE

_UNIT = 2**24  # of which a vote of length 1 has so many


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
    framed = frames.new_empty(len(frames), t, 3, h * p + 2, w * p + 2)  # [B, t, 3, H + 2, W + 2]
    inside = framed[..., 1:-1, 1:-1].view(-1, t, 3, h, p, w, p)  # [B, t, 3, h, p, w, p]
    inside.copy_(frames.permute(0, 1, 4, 2, 5, 3, 6))
    # Mirrored without the border itself, so that both neighbours of a pixel on the border are equal. Corners are free.
    framed[..., 0, :], framed[..., -1, :] = framed[..., 2, :], framed[..., -3, :]
    framed[..., 0], framed[..., -1] = framed[..., 2], framed[..., -3]
    windows = framed.unfold(3, p + 2, p).unfold(4, p + 2, p)  # [B, t, 3, h, w, p + 2, p + 2], a view
    clip, number = locate_tokens(target, len(pixels), grid)
    slot, place = number // grid.tokens_per_slot, number % grid.tokens_per_slot
    taken = windows[clip, slot, :, place // w, place % w]  # [B, M, 3, p + 2, p + 2]
    if not isinstance(patches, Tubelets):
        return taken
    scale = torch.tensor(patches.std).mul(255).reciprocal().to(taken.device, non_blocking=True)[:, None, None]
    return taken * scale  # the mean does not matter to differences


def _histograms(down: Tensor, right: Tensor) -> Tensor:
    """Let gradients [B, M, 3, p, p] vote: [B, M, r * r * 3 * 9]."""
    length = torch.hypot(down, right)
    # Turned so that it lies in 0 to 180 degrees without 180, where rounding could not tell the first bin from the last.
    sign = torch.where((down < 0) | ((down == 0) & (right < 0)), -1.0, 1.0)
    angle = torch.atan2(down * sign, right * sign)
    bins = (angle * (NUM_BINS / math.pi)).long().clamp_(max=NUM_BINS - 1)
    # Votes are whole numbers: they are added up in no fixed order on a GPU, and the sums are the same all the same.
    votes = (length * _UNIT).round().long()
    counts = torch.zeros(*_by_cell(votes).shape[:-1], NUM_BINS, dtype=torch.int64, device=votes.device)
    counts.scatter_add_(-1, _by_cell(bins), _by_cell(votes))  # [B, M, r, r, 3, 9]
    return counts.flatten(2).to(length.dtype) / (_UNIT * CELL_SIZE**2)  # [B, M, r * r * 3 * 9]


def _by_cell(values: Tensor) -> Tensor:
    """Bring the pixels of a cell together: [B, M, 3, p, p] to [B, M, r, r, 3, 64]."""
    cells = values.shape[-1] // CELL_SIZE
    parts = values.reshape(*values.shape[:3], cells, CELL_SIZE, cells, CELL_SIZE)  # [B, M, 3, r, 8, r, 8]
    return parts.permute(0, 1, 3, 5, 2, 4, 6).flatten(5)
