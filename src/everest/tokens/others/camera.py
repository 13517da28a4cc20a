"""Changes beside those that a moving camera makes.

A camera that pans moves everything, and then everything scores. Here the translation that most of a frame has made is
estimated by phase correlation (Kuglin and Hines, 1975), the earlier frame is moved by it, and what is left is the
change. Only translations of whole frames are followed: turns, zooms, and things nearer than the rest stay changes.

Shapes: B clips, C channels, T frames, H height, W width, M pairs of frames.
"""

import math

import torch
from torch import Tensor

from everest.errors import SelectionError

MAX_SHIFT = 0.25
"""Share of its side by which a frame is looked for in each direction."""
CLEARLY = 0.9
"""A translation counts where it leaves less than this share of the difference. Where cameras stand, it leaves .99."""

_BLUR = 0.75  # pixels, of the peak: what is finer is noise of the coding, and three values of a narrower peak say less
_APART = 2  # pixels: what is no farther from a peak is part of it
_TINY = 1e-6


def changes_beside_camera(clips: Tensor, step: int, scale: Tensor) -> Tensor:
    """Subtract from each frame the one some frames earlier, moved as the camera has moved since.

    Args:
        clips: Pixels on any scale, floating, shape [B, C, T, H, W].
        step: Frames between the two: those of a tubelet.
        scale: What makes the channels alike before they are averaged to a grey frame, shape [C].

    Returns:
        Differences of frames ``step`` to T - 1, shape [B, C, T - step, H, W]. They are 0 where the earlier frame has no
        such pixel, and those of the frames as they are where :func:`find_translations` finds the camera still.

    Raises:
        SelectionError: The clip has no two frames that are so far apart.
    """
    if clips.shape[2] <= step:
        raise SelectionError("ReRo compares neighbouring time slots: a clip needs at least two")
    grey = (clips * scale.reshape(-1, 1, 1, 1)).mean(dim=1)  # [B, T, H, W]
    shifts = find_translations(grey, step).flatten(0, 1)  # [M, 2]
    frames = clips.transpose(1, 2)  # [B, T, C, H, W]
    changes = (frames[:, step:] - frames[:, :-step]).flatten(0, 1)  # [M, C, H, W]
    moving = shifts.any(dim=1).nonzero()[:, 0]
    clip, frame = moving // (clips.shape[2] - step), moving % (clips.shape[2] - step)
    moved, inside = translate(frames[clip, frame], shifts[moving])
    changes[moving] = (frames[clip, frame + step] - moved) * inside[:, None]
    return changes.view(len(clips), -1, *changes.shape[1:]).transpose(1, 2)  # [B, C, T - step, H, W]


def find_translations(frames: Tensor, step: int) -> Tensor:
    """Estimate by how far the picture has moved from each frame to the one some frames later.

    Args:
        frames: Grey frames on any scale, floating, shape [B, T, H, W].
        step: How many frames later.

    Returns:
        Pixels downwards and to the right, shape [B, T - step, 2]. No more than :data:`MAX_SHIFT` of the sides, and
        exactly 0 where no translation brings the two frames clearly nearer to each other (:data:`CLEARLY`).
    """
    first, second = _peaks(_correlate(frames, step))  # [M, 2] each
    smooth = _smoothed(frames)
    later, earlier = (part.flatten(0, 1) for part in (smooth[:, step:], smooth[:, :-step]))  # each [M, H, W]
    still = (later - earlier).abs_()
    whole = torch.ones_like(still[:, 0, 0])  # [M]: share of the difference that whole pixels leave
    look = first.round().any(dim=1).nonzero()[:, 0]  # a camera that seems to stand is not looked for elsewhere
    shares = [_Left(later[look], earlier[look], peak[look].round()).share(still[look]) for peak in (first, second)]
    instead = shares[1] < shares[0]
    exact = first.index_put((look,), torch.where(instead[:, None], second[look], first[look]))  # [M, 2]
    whole[look] = torch.minimum(*shares)
    left = _Left(later, earlier, exact)
    between = left.share(still)
    found = torch.where((between < whole)[:, None], exact, exact.round())  # whole pixels are moved without loss
    moves = (torch.minimum(whole, between) < CLEARLY) & left.holds_at_the_border(still)
    return torch.where(moves[:, None], found, 0.0).reshape(len(frames), -1, 2)


def translate(frames: Tensor, shifts: Tensor) -> tuple[Tensor, Tensor]:
    """Move frames; linearly interpolated between pixels, and without loss by whole pixels.

    Args:
        frames: Floating, shape [M, C, H, W].
        shifts: Pixels downwards and to the right, shape [M, 2].

    Returns:
        Frames, shape [M, C, H, W], and which of their pixels come from inside the frame, bool, shape [M, H, W].
    """
    rows, columns = _inside(frames, shifts)
    return _moved(frames, shifts), rows[:, :, None] & columns[:, None]


def _inside(frames: Tensor, shifts: Tensor) -> list[Tensor]:
    """Say which rows and columns of moved frames come from inside: bool, [M, H] and [M, W]."""
    found = []
    for size, shift in zip(frames.shape[-2:], shifts.unbind(dim=1), strict=True):
        source = torch.arange(size, device=frames.device) - shift[:, None]  # [M, H or W]
        found.append((source >= 0) & (source <= size - 1))
    return found


def _moved(frames: Tensor, shifts: Tensor) -> Tensor:
    """Move frames by taking whole rows, then whole columns as rows of the transposed frames: [M, C, H, W]."""
    M, C = frames.shape[:2]
    each = torch.arange(M * C, device=frames.device).view(M, C, 1)
    for shift in shifts.unbind(dim=1):
        size, width = frames.shape[2:]
        first = (-shift).floor()  # [M]
        part = (-shift - first).view(M, 1, 1, 1).to(frames.dtype)  # of the pixel that follows
        near = (torch.arange(size + 1, device=frames.device) + first[:, None]).long().clamp(0, size - 1)  # [M, H + 1]
        rows = (each * size + near[:, None]).flatten()
        taken = frames.reshape(M * C * size, width).index_select(0, rows).view(M, C, size + 1, width)
        frames = torch.lerp(taken[:, :, :-1], taken[:, :, 1:], part).mT  # [M, C, W, H], and then [M, C, H, W]
    return frames


class _Left:
    """What is left of the difference of grey frames [M, H, W] after moving the earlier ones, and where they overlap."""

    def __init__(self, later: Tensor, earlier: Tensor, shifts: Tensor) -> None:
        self.left = (later - _moved(earlier[:, None], shifts)[:, 0]).abs_()  # [M, H, W]
        self.rows, self.columns = (each.to(later.dtype) for each in _inside(earlier, shifts))  # [M, H], [M, W]

    def share(self, still: Tensor) -> Tensor:
        """Share of the difference without moving that is left where they overlap: [M, H, W] to [M]."""
        after, before = (_sum_over(each, self.rows, self.columns) for each in (self.left, still))
        return torch.where(before > 0, after / before, 1.0)

    def holds_at_the_border(self, still: Tensor) -> Tensor:
        """Whether most pixels near the edges of the frame are explained too, [M].

        A camera moves them all. Somebody who walks before a plain wall has the largest part in the difference, but
        seldom there.
        """
        explained = (still - self.left).sign_()
        middle = []
        for inside in (self.rows, self.columns):
            edge = max(1, inside.shape[1] // 8)
            middle.append(inside.clone())
            middle[-1][:, :edge] = middle[-1][:, -edge:] = 0
        return _sum_over(explained, self.rows, self.columns) > _sum_over(explained, *middle)


def _sum_over(frames: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Sum over some rows and columns, 0 or 1 each: [M, H, W], [M, H], [M, W] to [M]."""
    return ((frames * columns[:, None]).sum(dim=2) * rows).sum(dim=1)


def _smoothed(frames: Tensor) -> Tensor:
    """Smooth frames, or interpolation would bring them nearer to each other only by smoothing one of them.

    From [B, T, H, W] to two pixels less on each side, so that nothing is made up; smaller frames stay as they are.
    """
    if min(frames.shape[2:]) <= 4:
        return frames
    for axis in (2, 3, 2, 3, 2, 3, 2, 3):  # in all 1, 4, 6, 4, 1 on each
        size = frames.shape[axis] - 1
        frames = torch.lerp(frames.narrow(axis, 0, size), frames.narrow(axis, 1, size), 0.5)
    return frames


def _correlate(frames: Tensor, step: int) -> Tensor:
    """How well frames agree with earlier ones that are moved, for every translation: [B, T, H, W] to [M, H, W].

    No translation stands in the corner, and those upwards and to the left count from the end.
    """
    height, width = frames.shape[2:]
    down, right = (torch.hann_window(size, periodic=False, device=frames.device) for size in (height, width))
    spectra = torch.fft.rfft2((frames - frames.mean(dim=(2, 3), keepdim=True)) * (down[:, None] * right))
    product = (spectra[:, step:] * spectra[:, :-step].conj()).flatten(0, 1)  # [M, H, W / 2 + 1]
    size = product.abs()
    rows, columns = (
        torch.fft.fftfreq(n, device=frames.device)[:k] for n, k in ((height, height), (width, width // 2 + 1))
    )
    blur = torch.exp(-2 * (math.pi * _BLUR) ** 2 * (rows[:, None] ** 2 + columns**2))  # even: the sign does not count
    least = (_TINY * size.amax(dim=(1, 2), keepdim=True)).clamp(min=torch.finfo(size.dtype).tiny)
    agreement: Tensor = torch.fft.irfft2(product * (blur / (size + least)), s=(height, width))
    return agreement


def _peaks(agreement: Tensor) -> tuple[Tensor, Tensor]:
    """Where agreement is largest, and where next to that, between pixels: [M, H, W] to [M, 2] each.

    The second is the camera's where something sharp moves before a plain background.
    """
    reach = [int(size * MAX_SHIFT) for size in agreement.shape[1:]]
    around = [torch.arange(-r - 1, r + 2, device=agreement.device) for r in reach]
    rows, columns = (each % size for each, size in zip(around, agreement.shape[1:], strict=True))
    near = agreement[:, rows[:, None], columns]  # [M, h + 2, w + 2]
    inner = near[:, 1:-1, 1:-1]  # within reach, where all have neighbours
    places = [torch.arange(size, device=near.device) for size in inner.shape[1:]]
    number = inner.flatten(1).argmax(dim=1)
    row, column = number // inner.shape[2], number % inner.shape[2]
    close = [(all_ - one[:, None]).abs() <= _APART for all_, one in zip(places, (row, column), strict=True)]
    other = inner.masked_fill(close[0][:, :, None] & close[1][:, None], -math.inf).flatten(1).argmax(dim=1)
    return (
        _between(near, row, column, reach),
        _between(near, other // inner.shape[2], other % inner.shape[2], reach),
    )


def _between(near: Tensor, row: Tensor, column: Tensor, reach: list[int]) -> Tensor:
    """Where a peak lies between the pixels around it: [M, h + 2, w + 2] and places within [h, w] to [M, 2]."""
    each, shifts = torch.arange(len(near), device=near.device), []
    for place, middle, down, right in ((row, reach[0], 1, 0), (column, reach[1], 0, 1)):
        before, top, after = (
            near[each, row + 1 + n * down, column + 1 + n * right].clamp(min=_TINY).log() for n in (-1, 0, 1)
        )
        bend = (before + after - 2 * top).clamp(max=-_TINY)  # of a parabola: the logarithm of a Gaussian is one
        shifts.append(place - middle + ((before - after) / (2 * bend)).clamp(-0.5, 0.5))
    return torch.stack(shifts, dim=1)
