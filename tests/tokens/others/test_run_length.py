"""Laws of run-length selection: what repeats is dropped, what is new is kept.

Shapes: B clips, T frames, N tokens.
"""

import pytest
import torch
from torch import Tensor

from everest.tokens import TokenGrid, patchify
from everest.tokens.others.run_length import is_new

GRID = TokenGrid(4, 2, 3, 2, 4)
ONES = torch.ones(3)


def clips_of(frames: Tensor) -> Tensor:
    """Grey frames [T] to clips [1, 3, T, H, W]."""
    return frames.reshape(1, 1, -1, 1, 1).expand(1, 3, len(frames), 8, 12).clone()


def found(clips: Tensor, threshold: float = 0.1, scale: Tensor = ONES) -> Tensor:
    return is_new(patchify(clips, GRID), scale, grid=GRID, threshold=threshold).reshape(len(clips), *GRID.shape)


def test_a_still_clip_keeps_its_first_slot_only() -> None:
    new = found(torch.rand(1, 3, 1, 8, 12).expand(1, 3, 8, 8, 12))
    assert bool(new[:, 0].all())
    assert not bool(new[:, 1:].any())


def test_a_place_that_changes_is_new_there_and_nowhere_else() -> None:
    clips = torch.zeros(1, 3, 8, 8, 12)
    clips[:, :, 4:, 4:, 8:] = 1.0  # row 1, column 2, from slot 2 on
    new = found(clips)
    assert new[0, 1:].nonzero().tolist() == [[1, 1, 2]]  # slot 2, once: afterwards it repeats


def test_compares_the_last_frame_with_the_first_of_the_tubelet_before() -> None:
    flicker = clips_of(torch.tensor([0.0, 1, 1, 0, 0, 1, 1, 0]))
    # slot 1 ends as slot 0 begins; slot 2 ends at 1, and slot 1 begins at 1; slot 3 likewise
    assert not bool(found(flicker)[:, 1:].any())
    ramp = clips_of(torch.tensor([0.0, 0, 0, 0.09, 0.1, 0.18, 0.18, 0.25]))
    # differences of last and first: 0.09, 0.18, 0.15
    assert found(ramp)[0, :, 0, 0].tolist() == [True, False, True, True]


def test_the_mean_over_pixels_and_channels_counts() -> None:
    clips = torch.zeros(1, 3, 8, 8, 12)
    clips[:, 0, 2:] = 0.3  # one channel of three, for good: the mean difference is 0.1
    assert bool(found(clips, 0.0999)[:, 1].all())
    assert not bool(found(clips, 0.1001)[:, 1].any())
    assert bool(found(clips, 0.19, torch.tensor([2.0, 1, 1]))[:, 1].all())  # a channel of small spread counts more


@pytest.mark.parametrize("threshold", [0.0, 0.05, 0.3])
def test_bytes_are_what_their_values_are(threshold: float) -> None:
    pixels = torch.randint(0, 256, (2, 3, 8, 8, 12), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    pixels[:, :, 2:4] = pixels[:, :, :2]
    std = torch.tensor([0.229, 0.224, 0.225])
    values = pixels / 255 / std.reshape(3, 1, 1, 1)
    assert torch.equal(found(pixels, threshold, 1 / (255 * std)), found(values, threshold))


def test_a_threshold_of_zero_keeps_everything() -> None:
    assert bool(found(torch.zeros(1, 3, 8, 8, 12), 0.0).all())
