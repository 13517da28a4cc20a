"""Streams: what is one, and the frames that come."""

import io
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from everest.datasets import load_data
from everest.errors import VideoError
from everest.video import opening
from everest.video.live import LiveStream, _Clock, is_live, is_pushed
from everest.video.reader import VideoReader
from live_sources import as_transport_stream, repack, sending, serving_folder, write_playlist

CLIP = load_data("bundled").records[0].path


@pytest.mark.parametrize(
    "location",
    [
        "rtsp://user:secret@camera/1",
        "udp://239.0.0.1:1234",
        "tcp://127.0.0.1:5",
        "RTMP://host/app",
        "https://host/live.m3u8?token=1",
        "http://host/x.mpd",
    ],
)
def test_broadcasts_and_playlists_are_live(location: str) -> None:
    assert is_live(location)
    assert is_pushed(location) == (not location.startswith("http"))


@pytest.mark.parametrize(
    "location", ["clip.mp4", "https://host/clip.mp4", "s3://bucket/data", "live.m3u8", "/dev/null", "bundled", "a\0b"]
)
def test_files_are_not(location: str) -> None:
    assert not is_live(location)
    assert not is_pushed(location)


def test_frames_are_those_of_the_file_at_their_times() -> None:
    with sending(as_transport_stream(CLIP)) as address, LiveStream(address) as stream:
        found = [(frame.seconds, frame.pixels()) for frame in stream]
    with VideoReader(CLIP) as reader:
        known = reader.read(range(reader.info.num_frames))
        assert stream.fps == pytest.approx(reader.info.fps, rel=0.01)
    assert len(found) == known.num_frames
    assert [seconds for seconds, _ in found] == pytest.approx(known.pts_seconds.tolist(), abs=0.01)
    assert all(torch.equal(pixels, frame) for (_, pixels), frame in zip(found, known.frames, strict=True))


def test_a_playlist_of_a_web_server_is_followed_there_and_no_further(tmp_path: Path) -> None:
    write_playlist(CLIP, tmp_path)
    with VideoReader(CLIP) as reader:
        num_frames = reader.info.num_frames
    piece = min(path for path in tmp_path.iterdir() if path.suffix == ".ts")
    planted = (tmp_path / "live.m3u8").read_text().replace(piece.name, f"file://{piece}")
    (tmp_path / "planted.m3u8").write_text(planted)
    with serving_folder(tmp_path) as url:
        with LiveStream(f"{url}/live.m3u8") as stream:
            assert len(list(stream)) == num_frames
        with LiveStream(f"{url}/planted.m3u8") as stream:
            assert len(list(stream)) < num_frames  # without the piece that would be a file of this machine


def test_what_is_no_video_nobody_sends_or_breaks_off_is_said_without_passwords() -> None:
    with sending(b"no video at all" * 1000) as address, pytest.raises(VideoError, match=r"cannot be opened|no moving"):
        LiveStream(address)
    with sending(b"", silent_seconds=2) as address, pytest.raises(VideoError, match="cannot be opened"):
        LiveStream(address, timeout_seconds=0.5)
    with pytest.raises(VideoError, match=r"^tcp://127\.0\.0\.1:1: cannot be opened: connection refused$"):
        LiveStream("tcp://me:secret@127.0.0.1:1")


def test_a_codec_that_nobody_knows_and_sound_alone_are_said(tmp_path: Path) -> None:
    repack(CLIP, path := tmp_path / "a.mkv")
    content = path.read_bytes()
    assert content.count(b"V_MPEG4/ISO/AVC") == 1
    with (
        sending(content.replace(b"V_MPEG4/ISO/AVC", b"V_MPEG9/ISO/AVC")) as address,
        pytest.raises(VideoError, match=rf"^{address}: its codec is unknown; a stream of video is expected$"),
    ):
        LiveStream(address)
    with av.open(str(path), "w", format="nut") as container:
        sound = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), "s16", "mono")
        frame.sample_rate, frame.pts = 8000, 0
        container.mux([*sound.encode(frame), *sound.encode(None)])
    with (
        sending(path.read_bytes()) as address,
        pytest.raises(VideoError, match=rf"^{address}: holds no moving picture; a stream of video is expected$"),
    ):
        LiveStream(address)


def test_pictures_that_grow_beyond_the_limit_are_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A transport stream states its pictures' size anew with every key frame."""
    content = growing_stream((64, 64), (256, 192))
    with sending(content) as address, LiveStream(address) as stream:
        assert {(frame.frame.height, frame.frame.width) for frame in stream} == {(64, 64), (192, 256)}
    monkeypatch.setattr(opening, "CODEC_OPTIONS", {"max_pixels": "20000"})
    sizes: list[tuple[int, int]] = []
    with sending(content) as address, pytest.raises(VideoError, match="broke off"), LiveStream(address) as stream:
        sizes.extend((frame.frame.height, frame.frame.width) for frame in stream)
    assert set(sizes) == {(64, 64)}


def growing_stream(*sizes: tuple[int, int]) -> bytes:
    """Pictures of several widths and heights, one after the other."""
    buffer = io.BytesIO()
    for place, (width, height) in enumerate(sizes):
        with av.open(buffer, "w", format="mpegts") as container:
            video = container.add_stream("mpeg2video", rate=25)
            video.width, video.height, video.pix_fmt = width, height, "yuv420p"
            for number in range(25):
                frame = av.VideoFrame.from_ndarray(np.full((height, width, 3), 9 * number, np.uint8), "rgb24")
                frame.pts = 25 * place + number
                container.mux(video.encode(frame))
            container.mux(video.encode(None))
    return buffer.getvalue()


def test_files_are_no_cameras(tmp_path: Path) -> None:
    for path in (CLIP, tmp_path):
        with pytest.raises(
            VideoError, match=rf"^{path}: is neither a camera nor at a URL; a file is read without --live"
        ):
            LiveStream(str(path))
    with pytest.raises(VideoError, match="none: cannot be opened: no such file"):
        LiveStream(str(tmp_path / "none"))


def test_a_sender_that_falls_silent_is_not_waited_for_for_ever() -> None:
    content = as_transport_stream(CLIP)
    with sending(content[: len(content) // 2], silent_seconds=2) as address:
        stream = LiveStream(address, timeout_seconds=0.7)
        found: list[float] = []
        with pytest.raises(VideoError, match="broke off"), stream:
            found.extend(frame.seconds for frame in stream)
        assert found == sorted(found)
        assert len(found) > 20  # what came before is there
    with sending(content, silent_seconds=0.5, torn=True) as address, LiveStream(address) as stream:
        found = []
        with pytest.raises(VideoError, match=rf"^{address}: broke off: connection reset by peer$"):
            found.extend(frame.seconds for frame in stream)
        assert len(found) > 100


def test_times_neither_fall_nor_leap() -> None:
    clock = _Clock(0.1)
    stamps = [100.0, 100.1, None, 100.3, 5.0, 5.1, 9000.0, 9000.1, 9000.1]
    assert [clock.place(stamp) for stamp in stamps] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8])
