"""Animations hold every frame of the clip, in its time."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from everest.tokens import TokenGrid, TokenSelection
from everest.visualize.animation import SMALL_WIDTH, animate, animate_small, encode_gif, encode_mp4, encode_webp

GRID = TokenGrid(3, 2, 4, 2, 16)  # 6 frames of 32 x 64


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray]:
    """Frames that become brighter from one to the next."""
    clip = (torch.arange(6, dtype=torch.uint8) * 40).reshape(1, 6, 1, 1).expand(3, 6, 32, 64)
    selection = TokenSelection(torch.tensor([[0, 9]]), torch.tensor([[17]]), GRID)
    return animate(clip, torch.rand(24), selection)


def test_every_frame_is_drawn(pictures: list[np.ndarray]) -> None:
    assert len(pictures) == 6
    assert len({picture.shape for picture in pictures}) == 1
    assert all(side % 2 == 0 for side in pictures[0].shape[:2])
    assert [int(picture[20, 20, 0]) for picture in pictures] == [0, 40, 80, 120, 160, 200]


def test_a_gif_holds_the_frames_in_their_time(pictures: list[np.ndarray]) -> None:
    with Image.open(io.BytesIO(encode_gif(pictures, 5.0))) as image:
        assert image.n_frames == 6
        assert image.info["loop"] == 0
        for number in range(6):
            image.seek(number)
            assert image.info["duration"] == 200
            assert abs(int(np.asarray(image.convert("RGB"))[20, 20, 0]) - 40 * number) < 12


def test_an_mp4_is_read_as_it_was_drawn(pictures: list[np.ndarray]) -> None:
    av = pytest.importorskip("av")
    with av.open(io.BytesIO(encode_mp4(pictures, 6.0))) as container:
        assert container.streams.video[0].average_rate == 6
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert [frame.shape for frame in frames] == [picture.shape for picture in pictures]
    for frame, picture in zip(frames, pictures, strict=True):
        assert abs(int(frame[20, 20, 0]) - int(picture[20, 20, 0])) < 12


def test_a_small_animation_holds_the_clip_and_what_is_kept() -> None:
    clip = (torch.arange(6, dtype=torch.uint8) * 40).reshape(1, 6, 1, 1).expand(3, 6, 32, 64)
    kept = TokenSelection(torch.tensor([[0, 9]]), torch.tensor([[]], dtype=torch.int64), GRID)
    for selection, num_panels in ((kept, 2), (None, 1)):
        small = animate_small(clip, selection)
        assert [picture.shape for picture in small] == [(SMALL_WIDTH // 2, num_panels * SMALL_WIDTH, 3)] * 6
        with Image.open(io.BytesIO(encode_webp(small, 5.0))) as image:
            assert (image.format, image.n_frames) == ("WEBP", 6)
            for number in range(6):
                image.seek(number)
                pixels = np.asarray(image.convert("RGB")).astype(int)
                assert abs(pixels[40, 80, 0] - 40 * number) < 12
                if selection is not None and number > 1:
                    assert pixels[-8, -8, 0] < 80  # dropped
