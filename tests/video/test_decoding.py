"""Where a container cannot be jumped in, the way round gives the same frames."""

from pathlib import Path
from typing import Any

import av
import pytest
import torch
from torch import Tensor
from video_files import FALLS, Writer, decode_all

from everest.errors import VideoError
from everest.video import VideoReader
from everest.video.decoding import FrameStream
from everest.video.opening import count_pictures
from everest.video.reader import _parse_duration

CLIP = FALLS / "Fall" / "Subject1_Fall_13.mp4"  # 15 frames per second, a key frame every 12


class Contrary:
    """A container whose seek fails, or lands later than asked for."""

    def __init__(self, container: Any, seconds_late: float | None) -> None:
        self._container = container
        self._seconds_late = seconds_late
        self.num_seeks = 0

    def seek(self, offset: int, **options: Any) -> None:
        self.num_seeks += 1
        if self._seconds_late is None:
            raise av.error.PermissionError(1, "operation not permitted", "x")
        late = round(self._seconds_late / options["stream"].time_base)
        self._container.seek(offset + late, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._container, name)


@pytest.mark.parametrize(
    ("seconds_late", "num_seeks", "still_jumps"), [(None, 1, False), (1.5, 3, True), (60.0, 4, False)]
)
def test_seeks_that_fail_or_land_late_do_not_change_the_frames(
    seconds_late: float | None, num_seeks: int, still_jumps: bool
) -> None:
    expected = decode_all(CLIP)
    with VideoReader(CLIP) as reader:
        stream = reader._stream
        stream._groups = None  # frame by frame
        stream._start()
        contrary = Contrary(stream._container, seconds_late)
        stream._container = contrary  # type: ignore[assignment]
        assert torch.equal(reader.read([100]).frames[0], expected[100])
        assert contrary.num_seeks == num_seeks
        assert stream._can_jump == still_jumps
        assert torch.equal(reader.read([40, 90]).frames, expected[[40, 90]])


def test_frames_come_in_order_and_end() -> None:
    with FrameStream(CLIP) as frames:
        positions = [frames.current.position]
        while frames.advance():
            positions.append(frames.current.position)
        assert positions == pytest.approx(list(range(len(decode_all(CLIP)))), abs=1e-6)
        assert frames.num_decoded == len(positions) + 1  # the first one was decoded to describe the file
        assert frames.current_end == pytest.approx(len(positions), abs=0.1)
        assert not frames.failure


def test_avi_with_reordered_frames_is_counted_and_never_jumped_in(footage: Tensor, write_video: Writer) -> None:
    reordered = write_video(footage, "b.avi", "mpeg4", options={"g": "12", "bf": "2"})
    plain = write_video(footage, "p.avi", "mpeg4", options={"g": "12"})
    for path, counted in ((reordered, True), (plain, False)):
        with VideoReader(path) as reader:
            reader.read([40])
            assert (reader.num_decoded > 40) == counted


def test_pictures_are_counted_without_decoding(footage: Tensor, write_video: Writer) -> None:
    path = write_video(footage, "count.mkv", "ffv1")
    num_pictures, span = count_pictures(path)
    assert num_pictures == 48
    assert span == pytest.approx(47 / 25, abs=2e-3)


def test_a_file_whose_pictures_are_all_broken(footage: Tensor, write_video: Writer) -> None:
    path = write_video(footage[:3], "dead.avi", "mpeg4", options={"g": "1"})
    with av.open(str(path)) as container:
        packets = [(p.pos, p.size) for p in container.demux(video=0) if p.size]
    data = bytearray(path.read_bytes())
    for position, size in packets:
        data[position + 8 : position + 8 + size] = b"\xff" * size
    path.write_bytes(data)
    with pytest.raises(VideoError, match=r"dead\.avi: no frame can be decoded"):
        FrameStream(path)


def test_duration_tags() -> None:
    assert _parse_duration("00:01:10.333000000") == pytest.approx(70.333)
    assert _parse_duration("unknown") is None
    assert _parse_duration("1:2") is None


def test_a_missing_file_is_named() -> None:
    with pytest.raises(VideoError, match="nowhere"):
        FrameStream(Path("nowhere.mp4"))
