"""The two ways to read videos give the same frames; what cannot be is said."""

import logging
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import pytest
import torch
from av.stream import Disposition
from torch import Tensor
from video_files import FALLS, FALLS_CLIPS, Writer, decode_all

from everest.errors import VideoError
from everest.video import ShardMember, VideoReader, backends, describe_decoder, open_video
from everest.video.backends import _say_once
from everest.video.torchcodec import TorchCodecReader, why_no_torchcodec

CLIP = FALLS / "Fall" / "Subject1_Fall_13.mp4"
needs_torchcodec = pytest.mark.skipif(bool(why_no_torchcodec()), reason=why_no_torchcodec() or "torchcodec is there")


@pytest.fixture(autouse=True)
def _say_again() -> Iterator[None]:
    _say_once.cache_clear()
    yield
    _say_once.cache_clear()


@needs_torchcodec
@pytest.mark.parametrize("path", FALLS_CLIPS[:6], ids=lambda p: p.stem)
def test_torchcodec_gives_the_frames_of_pyav(path: Path) -> None:
    with open_video(path, "pyav") as ours, open_video(path, "torchcodec") as theirs:
        assert isinstance(ours, VideoReader)
        assert isinstance(theirs, TorchCodecReader)
        assert abs(ours.info.num_frames - theirs.info.num_frames) <= 1
        assert (ours.info.height, ours.info.width) == (theirs.info.height, theirs.info.width)
        indices = list(range(1, ours.info.num_frames - 2, 4))
        a, b = ours.read(indices), theirs.read(indices)
        assert torch.equal(a.frames, b.frames)
        assert torch.allclose(a.pts_seconds, b.pts_seconds, atol=1e-3)


@needs_torchcodec
@pytest.mark.parametrize("name", ["a.mkv", "a.mov", "a.webm"])
def test_torchcodec_gives_the_same_frames_in_other_containers(name: str, footage: Tensor, write_video: Writer) -> None:
    path = write_video(footage, name, "libvpx-vp9" if name == "a.webm" else "libx264", options={"g": "12"})
    indices = list(range(2, 44, 3))
    with open_video(path, "pyav") as ours, open_video(path, "torchcodec") as theirs:
        difference = (ours.read(indices).frames.int() - theirs.read(indices).frames.int()).abs()
        assert difference.max() <= 1


def two_streams(path: Path, footage: Tensor) -> Path:
    """A file with two moving pictures, of which FFmpeg thinks the second the better one."""
    larger = footage.repeat_interleave(2, 1).repeat_interleave(2, 2)
    with av.open(str(path), "w") as container:
        written = []
        for frames, rate, crf in ((footage[:20], 25, "40"), (larger, 25, "10")):
            stream = container.add_stream("libx264", rate=rate, options={"g": "12", "crf": crf})
            stream.height, stream.width, stream.pix_fmt = frames.shape[1], frames.shape[2], "yuv420p"
            stream.codec_context.thread_count, stream.disposition = 1, Disposition.default
            written.append((stream, frames))
        for stream, frames in written:
            for pixels in frames.numpy():
                container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
            container.mux(stream.encode(None))
    with av.open(str(path)) as container:
        assert container.streams.best("video") == container.streams.video[1]
    return path


@needs_torchcodec
@pytest.mark.parametrize("as_part", [False, True])
def test_of_two_moving_pictures_both_read_the_first(as_part: bool, tmp_path: Path, footage: Tensor) -> None:
    path = two_streams(tmp_path / "two.mp4", footage)
    source = ShardMember(str(path), "two.mp4", 0, path.stat().st_size) if as_part else path
    with open_video(source, "pyav") as ours, open_video(source, "torchcodec") as theirs:
        assert isinstance(theirs, TorchCodecReader)
        assert ours.info == theirs.info
        assert (ours.info.num_frames, ours.info.fps, ours.info.height) == (20, 25, 64)
        assert torch.equal(ours.read([3, 11, 19]).frames, decode_all(path)[[3, 11, 19]])
        assert torch.equal(ours.read([3, 11, 19]).frames, theirs.read([3, 11, 19]).frames)


@needs_torchcodec
def test_torchcodec_reads_parts_of_files(tmp_path: Path) -> None:
    content = CLIP.read_bytes()
    (tmp_path / "shard").write_bytes(b"xx" + content + b"yy")
    member = ShardMember(str(tmp_path / "shard"), "a.mp4", 2, len(content))
    with open_video(member, "torchcodec") as part, open_video(CLIP, "torchcodec") as whole:
        assert torch.equal(part.read([3, 9]).frames, whole.read([3, 9]).frames)


@needs_torchcodec
def test_torchcodec_refuses_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "x.mp4").write_bytes(b"no video at all" * 100)
    for path in (tmp_path / "x.mp4", tmp_path / "nowhere.mp4"):
        with pytest.raises(VideoError) as raised:
            open_video(path, "torchcodec")
        assert "\n" not in str(raised.value)
    with open_video(CLIP, "torchcodec") as reader, pytest.raises(VideoError, match="the video has 0 to"):
        reader.read([10_000])
    with pytest.raises(VideoError, match="longer than"):
        open_video(CLIP, "torchcodec", time_limit_seconds=1e-9)


@needs_torchcodec
@pytest.mark.parametrize("name", ["b.avi", "a.ts", "vfr.mp4", "ten_bits.mp4", "odd.webm"])
def test_files_that_torchcodec_mixes_up_are_read_by_pyav(
    name: str, footage: Tensor, write_video: Writer, caplog: pytest.LogCaptureFixture
) -> None:
    pts = [3 * i + (i % 5 == 0) for i in range(48)] if name == "vfr.mp4" else None
    codecs = {"b.avi": ("mpeg4", {"bf": "2"}), "odd.webm": ("libvpx-vp9", {"cpu-used": "8"})}
    codec, options = codecs.get(name, ("libx264", {"bf": "0"}))
    rate, pixels = Fraction(75) if pts else Fraction(25), "yuv420p10le" if name == "ten_bits.mp4" else "yuv420p"
    frames = footage[:, 1:] if name == "odd.webm" else footage
    path = write_video(frames.contiguous(), name, codec, pixels, options=options, pts=pts, rate=rate)
    with caplog.at_level(logging.WARNING, "everest"), open_video(path, "torchcodec") as reader:
        assert isinstance(reader, VideoReader)
    open_video(path, "torchcodec").close()
    assert caplog.text.count("read by PyAV") == 1


def test_without_torchcodec_the_message_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "why_no_torchcodec", lambda: "torchcodec is not installed")
    with pytest.raises(VideoError, match="take decoder pyav, or install it"):
        open_video(CLIP, "torchcodec")
    with open_video(CLIP) as reader:
        assert isinstance(reader, VideoReader)
    assert describe_decoder("auto").startswith("decoding with PyAV 1")


def test_reading_ends_when_its_time_is_over(footage: Tensor, write_video: Writer) -> None:
    path = write_video(footage, "a.mp4", "libx264", options={"g": "12"})
    for indices in ([5, 30, 40], list(range(48))):  # group by group, and frame by frame
        reader = VideoReader(path, time_limit_seconds=60)
        reader._stream._deadline._end = 0.0
        with reader, pytest.raises(VideoError, match="reading took longer than 60 s"):
            reader.read(indices)


def test_the_time_is_accounted_for() -> None:
    with VideoReader(CLIP) as reader:
        opened = reader.seconds.open
        reader.read([3, 50, 90])
        seconds = reader.seconds
        assert seconds.open == opened > 0
        assert min(seconds.decode, seconds.convert, seconds.seek) > 0
