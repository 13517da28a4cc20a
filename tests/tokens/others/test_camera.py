"""A camera that moves is followed, one that stands is not, and what moves by itself stays a change. On real frames."""

from functools import cache

import pytest
import torch
from torch import Tensor

from everest.datasets import load_data
from everest.errors import SelectionError
from everest.tokens.others.camera import CLEARLY, changes_beside_camera, find_translations, translate
from everest.video import VideoReader

SIDES = (64, 96)
QUARTER = (16, 24)
ONES = torch.ones(3)


@cache
def pictures() -> Tensor:
    """One frame of each of seven wide clips, float32, [7, 3, 128, 228]."""
    frames = []
    for path in sorted({record.path for record in load_data("bundled").records}):
        with VideoReader(path) as reader:
            frame = reader.read([5]).frames[0]
        if tuple(frame.shape) == (128, 228, 3):
            frames.append(frame.permute(2, 0, 1).float())
    assert len(frames) >= 7
    return torch.stack(frames[:7])


def panned(picture: Tensor, down: int, right: int, num_frames: int = 2) -> Tensor:
    """A window that moves over a picture, so that the picture moves by so many pixels: [C, H, W] to [1, C, T, h, w]."""
    (height, width), last = SIDES, num_frames - 1
    row, column = (picture.shape[1] - height + last * down) // 2, (picture.shape[2] - width + last * right) // 2
    views = [
        picture[:, row - n * down : row - n * down + height, column - n * right : column - n * right + width]
        for n in range(num_frames)
    ]
    return torch.stack(views, dim=1)[None]


def halved(picture: Tensor) -> Tensor:
    """Pixels of twice the size: a shift of one becomes half a one, as a lens would see it."""
    return torch.nn.functional.avg_pool2d(picture, 2)


SHIFTS = [(0, 1), (1, 0), (-3, 2), (7, -11), (16, 0), (0, -24), (-16, 24), (16, 24)]


@pytest.mark.parametrize("shift", SHIFTS)
def test_a_translation_is_found_to_a_quarter_of_a_pixel(shift: tuple[int, int]) -> None:
    for picture in pictures():
        found = find_translations(panned(picture, *shift).mean(dim=1), 1)
        assert found.shape == (1, 1, 2)
        assert (found[0, 0] - torch.tensor(shift)).abs().max() <= 0.25


@pytest.mark.parametrize("shift", [(1, 0), (3, 5), (-3, 1)])
def test_it_is_found_between_pixels(shift: tuple[int, int]) -> None:
    for picture in pictures():
        clip = panned(picture, *shift)[0].mean(dim=0)  # [2, H, W]
        found = find_translations(halved(clip)[None], 1)[0, 0]
        assert (found - torch.tensor(shift) / 2).abs().max() <= 0.25


def test_noise_of_a_sensor_does_not_hide_it() -> None:
    generator = torch.Generator().manual_seed(0)
    for picture in pictures():
        clip = panned(picture, 4, -6).mean(dim=1)
        found = find_translations(clip + 4 * torch.randn(clip.shape, generator=generator), 1)
        assert (found[0, 0] - torch.tensor((4, -6))).abs().max() <= 0.25


def test_frames_are_compared_with_those_so_many_earlier() -> None:
    clip = panned(pictures()[0], 1, -2, num_frames=6).mean(dim=1)
    assert find_translations(clip, 2).tolist() == [[[2.0, -4.0]] * 4]


def test_what_no_translation_explains_is_no_camera() -> None:
    noise = 255 * torch.rand(3, 4, *SIDES, generator=torch.Generator().manual_seed(0))
    for frames in (noise, torch.zeros(1, 3, *SIDES), torch.full((1, 2, 1, 1), 7.0)):
        assert not find_translations(frames, 1).any()


@cache
def before_a_camera_that_stands() -> tuple[Tensor, ...]:
    """In all the clips people move and the camera does not: [1, 3, T, H, W] each."""
    clips = []
    for record in load_data("bundled").records[::4]:
        with VideoReader(record.source) as reader:
            frames = reader.read(list(range(0, min(reader.info.num_frames, 64), 4))).frames
        clips.append(frames.permute(3, 0, 1, 2)[None].float())
    return tuple(clips)


def test_a_camera_that_stands_is_left_alone() -> None:
    for clip in before_a_camera_that_stands():
        assert not find_translations(clip.mean(dim=1), 2).any()
        assert torch.equal(changes_beside_camera(clip, 2, ONES), clip[:, :, 2:] - clip[:, :, :-2])


def test_people_who_fill_a_crop_are_seldom_taken_for_the_camera() -> None:
    """In four pairs of a thousand; in eighteen if only the whole crop were asked, and not its border."""
    followed = []
    for clip in before_a_camera_that_stands():
        grey, (height, width) = clip.mean(dim=1), clip.shape[3:]
        for row in (0, height - 96):
            for column in (0, (width - 96) // 2, width - 96):
                crop = grey[:, :, row : row + 96, column : column + 96]
                followed.append(find_translations(crop, 2).any(dim=-1).flatten())
    assert torch.cat(followed).float().mean() < 0.01


@pytest.mark.parametrize("shift", [(2, 0), (0, -3), (1, 1)])
def test_nothing_changes_in_a_still_picture_that_is_panned_over(shift: tuple[int, int]) -> None:
    for picture in pictures():
        clip = panned(picture, *shift, num_frames=6)
        assert changes_beside_camera(clip, 2, ONES).abs().max() == 0
        assert (clip[:, :, 2:] - clip[:, :, :-2]).abs().mean() > 1


def test_what_moves_by_itself_is_what_changes() -> None:
    for picture in pictures():
        clip = panned(picture, 0, 2, num_frames=4)
        for n in range(4):
            clip[0, :, n, 20:32, 30 + 6 * n : 42 + 6 * n] = pictures()[3][:, 60:72, 60:72]
        changes = changes_beside_camera(clip, 2, ONES).abs().sum(dim=1)[0]  # [2, H, W]
        assert changes[:, 20:32].sum() == changes.sum() > 0


def test_clips_are_looked_at_apart_and_cameras_too() -> None:
    still, moving = panned(pictures()[0], 0, 0, 5), panned(pictures()[1], 3, 1, 5)
    both = changes_beside_camera(torch.cat([still, moving]), 2, ONES)
    for number, clip in enumerate((still, moving)):
        torch.testing.assert_close(both[number], changes_beside_camera(clip, 2, ONES)[0])


def test_the_scale_of_the_pixels_does_not_matter() -> None:
    clip = panned(pictures()[2], 3, 2, 4)
    mean, std = (torch.tensor(each)[:, None, None, None] for each in ((0.5, 0.4, 0.3), (0.2, 0.3, 0.25)))
    of_bytes = changes_beside_camera(clip, 2, 1 / (255 * std.flatten()))
    of_numbers = changes_beside_camera((clip / 255 - mean) / std, 2, ONES)
    torch.testing.assert_close(of_bytes / (255 * std), of_numbers, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shift", [(0.0, 0.0), (5.0, 0.0), (-2.0, 7.0), (0.0, -64.0), (200.0, 0.0)])
def test_whole_pixels_are_moved_without_loss(shift: tuple[float, float]) -> None:
    frames = pictures()[:2]
    moved, inside = translate(frames, torch.tensor([shift, shift]))
    down, right = (int(part) for part in shift)
    expected = frames.roll((down, right), dims=(2, 3))
    assert torch.equal(moved * inside[:, None], expected * inside[:, None])
    height, width = frames.shape[2:]
    assert inside[0].sum() == max(0, height - abs(down)) * max(0, width - abs(right))


def test_between_pixels_is_between_values() -> None:
    ramp = torch.arange(12.0).expand(1, 1, 6, 12) + 10 * torch.arange(6.0)[:, None]
    moved, inside = translate(ramp, torch.tensor([[0.5, -0.25]]))
    torch.testing.assert_close(moved[0, 0][inside[0]], (ramp - 5 + 0.25)[0, 0][inside[0]])
    assert inside[0].sum() == 5 * 11


def test_a_clip_of_one_slot_has_nothing_to_be_compared_with() -> None:
    with pytest.raises(SelectionError, match="at least two"):
        changes_beside_camera(torch.zeros(1, 3, 2, 16, 16), 2, ONES)


def test_what_is_clear_is_less_than_what_no_camera_explains() -> None:
    assert 0.5 < CLEARLY < 0.97
