"""Targets against an independent computation, and laws of the loss.

Shapes: B clips, N tokens, M targets, P pixels of a tubelet, C channels.
"""

import numpy as np
import pytest
import torch
from torch import Tensor

from everest.models import Prediction
from everest.objectives import patch_statistics, pixel_loss, pixel_targets, target_pixels
from everest.tokens import TokenGrid, TokenSelection, patchify
from everest.video import normalize

GRID = TokenGrid(num_slots=3, num_rows=2, num_columns=3, tubelet_size=2, patch_size=4)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
TARGET = torch.tensor([[0, 4, 5, 17], [1, 2, 9, 10]])


def u8_clips() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (2, 3, *GRID.clip_shape), dtype=torch.uint8, generator=generator)


def patches_of(clips: Tensor) -> Tensor:
    return patchify(normalize(clips, MEAN, STD).double(), GRID)


def statistics() -> tuple[Tensor, Tensor]:
    return torch.tensor(MEAN, dtype=torch.float64), torch.tensor(STD, dtype=torch.float64)


def tubelet(clips: Tensor, clip: int, token: int) -> np.ndarray:
    """Pixels of one token as values 0 to 1, in the order (frame, row, column, channel)."""
    slot, place = divmod(token, GRID.tokens_per_slot)
    row, column = divmod(place, GRID.num_columns)
    pixels = clips[clip].numpy().transpose(1, 2, 3, 0)  # [T, H, W, C]
    return pixels[2 * slot : 2 * slot + 2, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4] / 255


def prediction(values: Tensor) -> Prediction:
    visible = torch.tensor([[3], [3]])
    return Prediction(values, TokenSelection(visible, TARGET[:, : values.shape[1]], GRID))


def test_targets_are_normalised_by_tubelet_and_channel() -> None:
    clips = u8_clips()
    targets = pixel_targets(patches_of(clips), TARGET, GRID, *statistics())
    assert targets.shape == (2, 4, GRID.num_pixels)
    for clip in range(2):
        for position, token in enumerate(TARGET[clip].tolist()):
            pixels = tubelet(clips, clip, token).reshape(-1, 3)  # [S, C]
            expected = (pixels - pixels.mean(axis=0)) / (pixels.std(axis=0, ddof=1) + 1e-6)
            np.testing.assert_allclose(targets[clip, position].numpy(), expected.reshape(-1), rtol=0, atol=1e-5)


def test_target_pixels_are_the_pixels_of_the_clip() -> None:
    clips = u8_clips()
    pixels = target_pixels(patches_of(clips), TARGET, GRID, *statistics())
    assert pixels.shape == (2, 4, 32, 3)
    for clip in range(2):
        for position, token in enumerate(TARGET[clip].tolist()):
            expected = tubelet(clips, clip, token).reshape(-1, 3)
            np.testing.assert_allclose(pixels[clip, position].numpy(), expected, rtol=0, atol=1e-6)


def test_statistics_bring_targets_back_to_pixels() -> None:
    patches = patches_of(u8_clips())
    pixels = target_pixels(patches, TARGET, GRID, *statistics())
    center, spread = patch_statistics(pixels)
    assert center.shape == spread.shape == (2, 4, 1, 3)
    targets = pixel_targets(patches, TARGET, GRID, *statistics()).unflatten(-1, (-1, 3))
    torch.testing.assert_close(targets * spread + center, pixels, rtol=0, atol=1e-12)


def test_a_tubelet_of_one_colour_has_targets_of_zero() -> None:
    clips = torch.full_like(u8_clips(), 97)
    targets = pixel_targets(patches_of(clips), TARGET, GRID, *statistics())
    assert bool(torch.isfinite(targets).all())
    assert float(targets.abs().max()) < 1e-6


def test_the_smallest_standard_deviation_is_a_millionth() -> None:
    flat = torch.full((1, 1, 32, 3), 0.25, dtype=torch.float64)
    center, spread = patch_statistics(flat)
    assert torch.equal(center, flat[:, :, :1])
    assert torch.equal(spread, torch.full_like(center, 1e-6))


def test_tokens_that_are_no_target_have_no_say() -> None:
    patches = patches_of(u8_clips())
    where = TARGET.unsqueeze(-1).expand(-1, -1, GRID.num_pixels)
    spoilt = torch.full_like(patches, float("nan")).scatter(1, where, patches.gather(1, where))
    expected = pixel_targets(patches, TARGET, GRID, *statistics())
    assert torch.equal(pixel_targets(spoilt, TARGET, GRID, *statistics()), expected)


def test_a_perfect_prediction_has_no_loss() -> None:
    targets = pixel_targets(patches_of(u8_clips()), TARGET, GRID, *statistics())
    assert float(pixel_loss(prediction(targets.clone()), targets)) == 0.0


def test_the_loss_is_the_mean_of_squares_over_everything() -> None:
    targets = torch.randn(2, 4, GRID.num_pixels)
    values = targets.clone()
    values[0, 0, 0] += 3
    assert float(pixel_loss(prediction(values), targets)) == pytest.approx(9 / targets.numel())


def test_the_gradient_flows_to_the_prediction_only() -> None:
    patches = patches_of(u8_clips()).requires_grad_()
    targets = pixel_targets(patches, TARGET, GRID, *statistics())
    assert not targets.requires_grad
    values = torch.zeros_like(targets, requires_grad=True)
    pixel_loss(prediction(values), targets).backward()
    assert patches.grad is None
    assert values.grad is not None
    torch.testing.assert_close(values.grad, -2 * targets / targets.numel())


@pytest.mark.parametrize(
    ("given", "returned"),
    [(torch.bfloat16, torch.float32), (torch.float32, torch.float32), (torch.float64, torch.float64)],
)
def test_the_loss_is_float32_at_least(given: torch.dtype, returned: torch.dtype) -> None:
    values = torch.full((2, 4, GRID.num_pixels), 1.5, dtype=given)
    loss = pixel_loss(prediction(values), torch.zeros(values.shape))
    assert loss.dtype == returned
    assert float(loss) == 2.25
