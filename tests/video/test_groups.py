"""Frames found group by group are those of decoding everything, and cost less."""

import random
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from test_decoding import Contrary
from torch import Tensor
from video_files import FALLS, FALLS_CLIPS, Writer, decode_all

from everest.video import ShardMember, VideoReader

FPS = Fraction(75)
FAST = {"preset": "ultrafast", "tune": "fastdecode"}
LAYOUTS: dict[str, tuple[str, dict[str, str]]] = {
    "intra.mp4": ("libx264", {**FAST, "g": "1"}),
    "short.mp4": ("libx264", {**FAST, "g": "4"}),
    "p_and_b.mp4": ("libx264", {"g": "12", "x264-params": "bframes=3:b-adapt=0:b-pyramid=none:scenecut=0"}),
    "pyramid.mkv": ("libx264", {"g": "16", "x264-params": "bframes=7:b-adapt=0:b-pyramid=normal:scenecut=0"}),
    "one_key.mov": ("libx264", {"g": "500", "x264-params": "bframes=2:scenecut=0"}),
    "open.mp4": ("libx264", {"g": "12", "x264-params": "bframes=3:open-gop=1:scenecut=0"}),
    "mpeg4.avi": ("mpeg4", {"g": "12"}),
    "mpeg4_b.mp4": ("mpeg4", {"g": "12", "bf": "2"}),
    "vp9.webm": ("libvpx-vp9", {"g": "12", "cpu-used": "8", "deadline": "realtime"}),
    "hevc.mp4": ("libx265", {"preset": "ultrafast", "x265-params": "keyint=12:bframes=3:pools=1:log-level=none"}),
    "open_hevc.mkv": ("libx265", {"preset": "ultrafast", "x265-params": "keyint=12:open-gop=1:pools=1:log-level=none"}),
    "av1.mkv": ("libsvtav1", {"preset": "12", "g": "12", "svtav1-params": "lp=1"}),
    "av1.mp4": ("libsvtav1", {"preset": "12", "g": "24", "svtav1-params": "lp=1"}),
    "h264.ts": ("libx264", {**FAST, "g": "12"}),
    "mpeg2.mpg": ("mpeg2video", {"g": "12", "bf": "2"}),  # never jumped in
    "mpeg1.vob": ("mpeg1video", {"g": "12", "bf": "2"}),
    "mpeg1.ts": ("mpeg1video", {"g": "12", "bf": "2"}),
}


def clip_indices(num_frames: int, stride: int, draw: random.Random) -> list[int]:
    start = draw.randrange(max(num_frames - 15 * stride, 1))
    return [min(start + stride * i, num_frames - 1) for i in range(16)]


@pytest.fixture(scope="module")
def long_footage() -> Tensor:
    """96 frames of a fall, 64 x 80 pixels."""
    return decode_all(FALLS / "Fall" / "Subject1_Fall_13.mp4")[:96, 10:74, 60:140].contiguous()


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("stride", [2, 4, 5])
def test_clips_are_frame_exact(name: str, stride: int, long_footage: Tensor, write_video: Writer) -> None:
    codec, options = LAYOUTS[name]
    path = write_video(long_footage, name, codec, options=options)
    expected = decode_all(path)
    draw = random.Random(stride)
    for _ in range(3):
        with VideoReader(path) as reader:  # opened anew, as training does, and twice read, as reports do
            for _ in range(2):
                indices = clip_indices(len(expected), stride, draw)
                clip = reader.read(indices)
                assert torch.equal(clip.frames, expected[indices])
                assert torch.allclose(clip.pts_seconds, torch.tensor(indices, dtype=torch.float64) / 25, atol=0.021)


@pytest.mark.parametrize("path", FALLS_CLIPS, ids=lambda p: p.stem)
def test_bundled_clips_are_frame_exact_at_stride_four(path: Path) -> None:
    expected = decode_all(path)
    draw = random.Random(0)
    with VideoReader(path) as reader:
        indices = clip_indices(len(expected), 4, draw)
        assert torch.equal(reader.read(indices).frames, expected[indices])


@pytest.mark.parametrize(("name", "most"), [("intra.mp4", 17), ("short.mp4", 65), ("p_and_b.mp4", 45)])
def test_only_what_a_frame_depends_on_is_decoded(
    name: str, most: int, long_footage: Tensor, write_video: Writer
) -> None:
    codec, options = LAYOUTS[name]
    path = write_video(long_footage, name, codec, options=options)
    for start in (0, 3, 21, 34):
        with VideoReader(path) as reader:
            reader.read(list(range(start, start + 61, 4)))
            assert reader.num_decoded <= most


def test_frames_of_a_part_of_a_file_are_those_of_the_file(long_footage: Tensor, write_video: Writer) -> None:
    path = write_video(long_footage, "clip.mp4", "libx264", options={"g": "12"})
    content = path.read_bytes()
    shard = path.with_name("shard")
    shard.write_bytes(b"before" + content + b"after")
    indices = list(range(3, 64, 4))
    with VideoReader(path) as whole, VideoReader(ShardMember(str(shard), "clip.mp4", 6, len(content))) as part:
        assert torch.equal(whole.read(indices).frames, part.read(indices).frames)
        assert (whole.info.num_frames, whole.info.fps) == (part.info.num_frames, part.info.fps)


@pytest.mark.parametrize("seconds_late", [None, 0.5, 1.5, 60.0])
def test_jumps_that_fail_do_not_change_the_frames(
    seconds_late: float | None, long_footage: Tensor, write_video: Writer
) -> None:
    path = write_video(long_footage, "clip.mp4", "libx264", options={"g": "12"})
    expected = decode_all(path)
    with VideoReader(path) as reader:
        groups: Any = reader._stream._groups
        contrary = groups._container = Contrary(groups._container, seconds_late)
        assert torch.equal(reader.read([80, 90]).frames, expected[[80, 90]])
        assert contrary.num_seeks > 0
        assert torch.equal(reader.read([5, 50]).frames, expected[[5, 50]])


def test_all_frames_in_a_row_are_decoded_once(long_footage: Tensor, write_video: Writer) -> None:
    path = write_video(long_footage, "clip.mp4", "libx264", options={"g": "48"})
    expected = decode_all(path)
    with VideoReader(path) as reader:
        parts = [reader.read(range(start, start + 24)).frames for start in range(0, 96, 24)]
        assert torch.equal(torch.cat(parts), expected)
        assert reader.num_decoded <= len(expected) + 1


def test_a_variable_frame_rate_gives_the_frame_on_show(long_footage: Tensor, write_video: Writer) -> None:
    pts = [3 * i + (i % 5 == 0) - (i % 7 == 0) + 1 for i in range(96)]
    path = write_video(long_footage, "vfr.mkv", "libx264", options={"g": "12", "bf": "0"}, pts=pts, rate=FPS)
    expected = decode_all(path)
    with VideoReader(path) as fast, VideoReader(path) as plain:
        plain._stream._groups = None
        plain._stream._start()
        indices = list(range(1, fast.info.num_frames - 8, 6))
        ours, theirs = fast.read(indices), plain.read(indices)
        assert torch.equal(ours.pts_seconds, theirs.pts_seconds)
        assert torch.equal(ours.frames, theirs.frames)
        assert fast.num_decoded < plain.num_decoded <= len(expected) + 2
