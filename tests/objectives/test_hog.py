"""Histograms of oriented gradients against those of scikit-image, on real frames."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from skimage.feature import hog
from torch import Tensor

from everest.datasets import load_data
from everest.models.tubelets import cut
from everest.objectives import hog_targets
from everest.tokens import TokenGrid
from everest.video import normalize, read_clip

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
GRID = TokenGrid(num_slots=2, num_rows=8, num_columns=8, tubelet_size=2, patch_size=16)
TINY = 1e-10  # so small that scikit-image's epsilon is all that it divides by


def real_clips(grid: TokenGrid = GRID) -> Tensor:
    """Two clips cut out of bundled videos."""
    T, H, W = grid.clip_shape
    clips = []
    for record in (load_data("bundled").records[3], load_data("bundled").records[40]):
        frames = read_clip(record.source, range(10, 10 + 3 * T, 3)).frames  # [T, H, W, C]
        clips.append(frames[:, :H, 40 : 40 + W].permute(3, 0, 1, 2))
    return torch.stack(clips)  # [B, C, T, H, W]


def reference(frame: NDArray[np.float64], cell: int = 8) -> NDArray[np.float64]:
    """Histograms of one channel [H, W] by scikit-image, undone of the normalisation that it insists on."""
    blocks = hog(
        frame * TINY,
        orientations=9,
        pixels_per_cell=(cell, cell),
        cells_per_block=(1, 1),
        block_norm="L2",
        feature_vector=False,
    )
    return blocks[:, :, 0, 0] * 1e-5 / TINY  # [rows, columns, 9]


def expected(clips: Tensor, target: Tensor, grid: TokenGrid) -> NDArray[np.float64]:
    """The targets, made of histograms of whole frames: [B, M, values]."""
    pixels = normalize(clips, MEAN, STD).double().numpy()  # [B, C, T, H, W]
    r = grid.patch_size // 8
    tokens = []
    for clip, numbers in zip(pixels, target.tolist(), strict=True):
        for number in numbers:
            slot, place = divmod(number, grid.tokens_per_slot)
            row, column = divmod(place, grid.num_columns)
            frame = clip[:, slot * grid.tubelet_size + grid.tubelet_size // 2]  # [C, H, W]
            cells = np.stack([reference(channel) for channel in frame], axis=2)  # [rows, columns, C, 9]
            tokens.append(cells[row * r : (row + 1) * r, column * r : (column + 1) * r].reshape(-1))
    return np.stack(tokens).reshape(*target.shape, -1)


@pytest.mark.parametrize("as_bytes", [True, False], ids=["bytes", "normalised"])
def test_histograms_are_those_of_scikit_image(as_bytes: bool) -> None:
    clips = real_clips()
    target = torch.tensor(
        [[0, 7, 27, 56, 63, 64, 100, 127], [3, 8, 15, 36, 70, 71, 119, 126]]
    )  # corners, edges, inside
    given = clips if as_bytes else normalize(clips, MEAN, STD).double()
    values = hog_targets(cut(given, GRID, MEAN, STD), target, GRID)
    assert values.shape == (2, 8, 108)
    wanted = expected(clips, target, GRID)
    assert wanted.max() > 0.1
    np.testing.assert_allclose(values.numpy(), wanted, rtol=0, atol=2e-6)


@pytest.mark.parametrize(("tubelet_size", "patch_size"), [(1, 8), (3, 16), (4, 32)])
def test_other_tubelets_and_patches_too(tubelet_size: int, patch_size: int) -> None:
    side = 64 // patch_size
    grid = TokenGrid(2, side, side, tubelet_size, patch_size)
    clips = real_clips(grid)
    target = torch.tensor([[0, grid.num_tokens - 1]] * 2)
    values = hog_targets(cut(clips, grid, MEAN, STD), target, grid)
    np.testing.assert_allclose(values.numpy(), expected(clips, target, grid), rtol=0, atol=2e-6)


def test_a_ramp_votes_for_one_bin() -> None:
    ramp = torch.arange(128.0).expand(2, 3, 4, 128, 128)  # from left to right
    for image, number in ((ramp, 0), (-ramp, 0), (ramp.transpose(3, 4), 4), (ramp + ramp.transpose(3, 4), 2)):
        inside = torch.tensor([[9, 18]] * 2)
        values = hog_targets(cut(image, GRID, MEAN, STD), inside, GRID).reshape(2, 2, 4, 3, 9)
        length = 2.0 * 2**0.5 if number == 2 else 2.0  # of every gradient, and so the mean of a cell
        torch.testing.assert_close(values, length * torch.eye(9)[number].expand_as(values))


def test_one_colour_has_no_gradient() -> None:
    clips = torch.full((1, 3, *GRID.clip_shape), 97, dtype=torch.uint8)
    assert float(hog_targets(cut(clips, GRID, MEAN, STD), torch.arange(128)[None], GRID).abs().max()) == 0.0


def test_only_targets_and_their_neighbours_have_a_say() -> None:
    clips = normalize(real_clips(), MEAN, STD)
    target = torch.tensor([[9], [9]])
    values = hog_targets(cut(clips, GRID, MEAN, STD), target, GRID)
    spoilt = torch.full_like(clips, float("nan"))
    spoilt[:, :, 1, 15:33, 15:33] = clips[:, :, 1, 15:33, 15:33]  # token 9 in the second frame, and a pixel around it
    assert torch.equal(hog_targets(cut(spoilt, GRID, MEAN, STD), target, GRID), values)
    assert bool(torch.isfinite(values).all())
