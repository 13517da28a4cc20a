from fractions import Fraction
from pathlib import Path

import pytest
import torch
from torch import Tensor

from everest.errors import VideoError
from everest.video import VideoReader
from everest.video.encode import encode_video, psnr


def write(chunks: list[Tensor], path: Path, rate: Fraction = Fraction(25), **options: int) -> int:
    steps = encode_video(chunks, path, rate, **options)
    num_steps = 0
    while True:
        try:
            next(steps)
            num_steps += 1
        except StopIteration as end:
            assert num_steps == len(chunks)
            return int(end.value)


def test_frames_come_back_in_number_order_and_time(footage: Tensor, tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    assert write([footage[:20], footage[20:]], path, Fraction(30000, 1001), crf=12) == 48
    with VideoReader(path) as reader:
        assert reader.info.num_frames == 48
        assert reader.info.fps == pytest.approx(30000 / 1001)
        found = reader.read(range(48)).frames
    assert psnr(found, footage) > 30
    errors = [[psnr(found[i], footage[j]) for j in range(48)] for i in range(0, 48, 7)]
    assert [max(range(48), key=row.__getitem__) for row in errors] == list(range(0, 48, 7))


def test_the_same_frames_give_the_same_bytes(footage: Tensor, tmp_path: Path) -> None:
    write([footage], tmp_path / "a.mp4")
    write([footage[:5], footage[5:]], tmp_path / "b.mp4")
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


def test_key_frames_are_as_often_as_asked_for(footage: Tensor, tmp_path: Path) -> None:
    for interval, most in ((1, 17), (4, 64), (48, 64)):
        write([footage], tmp_path / f"{interval}.mp4", keyframe_interval=interval)
        with VideoReader(tmp_path / f"{interval}.mp4") as reader:
            reader.read(range(1, 48, 3))
            assert reader.num_decoded <= most


def test_better_quality_takes_more_bytes(footage: Tensor, tmp_path: Path) -> None:
    sizes = []
    for crf in (12, 20, 35):
        write([footage], tmp_path / "x.mp4", crf=crf)
        sizes.append((tmp_path / "x.mp4").stat().st_size)
    assert sizes == sorted(sizes, reverse=True)


def test_what_cannot_be_written_is_said(footage: Tensor, tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="no frames"):
        write([], tmp_path / "a.mp4")
    with pytest.raises(VideoError, match="cannot be encoded"):
        write([footage], tmp_path / "nowhere" / "a.mp4")


def test_likeness_of_equal_pictures_is_infinite(footage: Tensor) -> None:
    assert psnr(footage, footage) == float("inf")
    assert psnr(torch.zeros(4, dtype=torch.uint8), torch.full((4,), 255, dtype=torch.uint8)) == pytest.approx(0.0)
