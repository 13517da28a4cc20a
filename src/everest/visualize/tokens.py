"""Pictures of what the method does: kept tokens, scores, chosen frames. One picture per time slot.

Shapes: C channels (3), T frames, H height, W width of a clip; t time slots; N, V, M tokens, visible, targets;
h, w height and width of a picture, an integer multiple of H and W.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from everest.tokens import TokenGrid

Picture = npt.NDArray[np.uint8]  # [h, w, 3]

ENCODED_COLOR = (230, 159, 0)  # orange and blue: told apart by everybody
TARGET_COLOR = (86, 180, 233)
PAIRS_IN_A_ROW = 8
VEIL = 0.55  # share of blue over what is predicted
MIN_WIDTH = 200
GAP = 4
FONT_SIZE = 13
COLUMNS_PER_POINT = 75  # of pixels, for each of the font's size on a wide sheet


def slot_pictures(clip: Tensor, grid: TokenGrid) -> Picture:
    """Take the first frame of every time slot, enlarged to at least 200 pixels: [3, T, H, W] to [t, h, w, 3].

    Args:
        clip: Values 0 to 1, or uint8.
        grid: The tokens of the clip.
    """
    return frame_pictures(clip[:, :: grid.tubelet_size], grid)


def frame_pictures(clip: Tensor, grid: TokenGrid) -> Picture:
    """Enlarge every frame to at least 200 pixels: [3, T, H, W], 0 to 1 or uint8, to [T, h, w, 3]."""
    frames = clip.permute(1, 2, 3, 0).cpu()  # [T, H, W, 3]
    if frames.is_floating_point():
        frames = (frames.clamp(0, 1) * 255).round().to(torch.uint8)
    scale = _scale(grid)
    pixels: Picture = frames.numpy().repeat(scale, axis=1).repeat(scale, axis=2)
    return pixels


def draw_selection(clip: Tensor, visible: Tensor, target: Tensor, grid: TokenGrid) -> Picture:
    """Draw which tokens are encoded (orange outlines), which are predicted (under a blue veil), and darken the rest.

    Args:
        clip: Shape [3, T, H, W], values 0 to 1 or uint8.
        visible: Numbers of the encoded tokens, shape [V].
        target: Numbers of the predicted tokens, shape [M].
        grid: The tokens of the clip.

    Returns:
        Shape [t, h, w, 3]. Inside their outlines, encoded tokens are the pixels of the frame.
    """
    pictures = slot_pictures(clip, grid)
    grey = pictures.mean(axis=-1, keepdims=True)
    drawn: Picture = (0.3 * grey + 0 * pictures).astype(np.uint8)  # dropped: dark, without colour
    size, line = grid.patch_size * _scale(grid), max(1, grid.patch_size * _scale(grid) // 16)
    veiled = ((1 - VEIL) * pictures + VEIL * np.array(TARGET_COLOR)).astype(np.uint8)  # nobody is shown their pixels
    for tokens, color, inside in ((visible, ENCODED_COLOR, pictures), (target, TARGET_COLOR, veiled)):
        for slot, rows, columns in (_box(int(token), grid, size) for token in tokens):
            inner = (slice(rows.start + line, rows.stop - line), slice(columns.start + line, columns.stop - line))
            drawn[slot, rows, columns] = color
            drawn[slot][inner] = inside[slot][inner]
    return drawn


def draw_scores(clip: Tensor, scores: Tensor, grid: TokenGrid) -> Picture:
    """Lay the score of every token over its frame: dark blue does not change, yellow changes most of the clip.

    Args:
        clip: Shape [3, T, H, W], values 0 to 1 or uint8.
        scores: Change of every token, shape [N].
        grid: The tokens of the clip.

    Returns:
        Shape [t, h, w, 3].
    """
    from matplotlib import colormaps

    share = (scores / scores.max().clamp(min=1e-12)).reshape(grid.shape).cpu().numpy()
    size = grid.patch_size * _scale(grid)
    heat = colormaps["cividis"](share)[..., :3].repeat(size, axis=1).repeat(size, axis=2) * 255
    mixed: Picture = (0.4 * slot_pictures(clip, grid) + 0.6 * heat).astype(np.uint8)
    return mixed


def draw_pairs(candidates: Tensor, pairs: Tensor, counts: Tensor, tubelet_size: int) -> Picture:
    """Draw candidate pairs of frames with their counts; those that were chosen are framed.

    Args:
        candidates: Shape [3, T', H, W], values 0 to 1 or uint8.
        pairs: Numbers of the chosen pairs, shape [k].
        counts: Selected tokens of each candidate pair, shape [n].
        tubelet_size: Frames of a pair.

    Returns:
        One picture, shape [h, w, 3].
    """
    _, num_frames, height, width = candidates.shape
    whole = TokenGrid(num_frames // tubelet_size, 1, 1, tubelet_size, 1)
    frames = candidates[:, : whole.num_slots * tubelet_size : tubelet_size].permute(1, 2, 3, 0).cpu()
    if frames.is_floating_point():
        frames = (frames.clamp(0, 1) * 255).round().to(torch.uint8)
    pictures = frames.numpy().copy()
    edge = max(2, min(height, width) // 28)
    for pair in pairs.tolist():
        inner = pictures[pair, edge:-edge, edge:-edge].copy()
        pictures[pair] = ENCODED_COLOR
        pictures[pair, edge:-edge, edge:-edge] = inner
    captions = [str(count) for count in counts.tolist()]
    lines = [slice(start, start + PAIRS_IN_A_ROW) for start in range(0, len(captions), PAIRS_IN_A_ROW)]
    sheets = [strip([list(pictures[line])], captions=captions[line]) for line in lines]
    widest = max(sheet.shape[1] for sheet in sheets)
    return np.concatenate(
        [np.pad(sheet, ((0, 0), (0, widest - sheet.shape[1]), (0, 0)), constant_values=255) for sheet in sheets]
    )


def strip(rows: Sequence[Sequence[Picture]], *, captions: Sequence[str] = (), labels: Sequence[str] = ()) -> Picture:
    """Join pictures of one size to a sheet.

    Args:
        rows: Rows of pictures, each [h, w, 3].
        captions: One below each column.
        labels: One above each row.

    Returns:
        One picture, shape [h', w', 3], white between.
    """
    height, width = rows[0][0].shape[:2]
    num_columns = max(len(row) for row in rows)
    whole = num_columns * (width + GAP) - GAP
    font_size = max(FONT_SIZE, whole // COLUMNS_PER_POINT)  # to be read where a page shows the sheet smaller
    line = font_size + 5
    above = line if labels else 0
    full = len(rows) * (height + above + GAP) - GAP + (line if captions else 0)
    sheet = Image.new("RGB", (whole, full), "white")
    pen = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=font_size)
    for number, row in enumerate(rows):
        top = number * (height + above + GAP)
        if labels:
            pen.text((0, top), labels[number], fill="black", font=font)
        for column, picture in enumerate(row):
            sheet.paste(Image.fromarray(np.ascontiguousarray(picture)), (column * (width + GAP), top + above))
    for column, caption in enumerate(captions):
        pen.text((column * (width + GAP) + 2, full - line), caption, fill="black", font=font)
    return np.asarray(sheet)


def _scale(grid: TokenGrid) -> int:
    """How much pictures of the grid are enlarged."""
    return max(1, -(-MIN_WIDTH // (grid.num_columns * grid.patch_size)))


def _box(token: int, grid: TokenGrid, size: int) -> tuple[int, slice, slice]:
    """Slot, rows and columns of a token's pixels in pictures whose tokens have ``size`` pixels."""
    slot, place = divmod(token, grid.tokens_per_slot)
    row, column = divmod(place, grid.num_columns)
    return slot, slice(row * size, (row + 1) * size), slice(column * size, (column + 1) * size)
