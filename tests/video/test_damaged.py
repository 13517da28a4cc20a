"""Files that damage has made worse than unreadable: they must cost neither memory, nor time, nor their good frames."""

import resource
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Tensor
from video_files import FALLS_CLIPS, Writer

from everest.errors import VideoError
from everest.video import VideoReader
from everest.video.decoding import FrameStream
from everest.video.opening import MAX_PIXELS, open_stream, packets_of


def write_gif(path: Path, width: int, height: int, footage: Tensor, write_video: Writer) -> Path:
    content = bytearray(write_video(footage[:8], path.name, "gif", "rgb8").read_bytes())
    size = width.to_bytes(2, "little") + height.to_bytes(2, "little")
    picture = content.find(b"\x2c", 13) + 5
    content[6:10] = content[picture : picture + 4] = size
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(("width", "height"), [(65535, 65535), (20000, 12000), (8192, 4609)])
def test_pictures_that_no_memory_holds_are_refused_before_they_are_decoded(
    width: int, height: int, footage: Tensor, write_video: Writer, tmp_path: Path
) -> None:
    path = write_gif(tmp_path / "a.gif", width, height, footage, write_video)
    begin, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(VideoError, match=r"a\.gif: "):
        VideoReader(path)
    assert time.perf_counter() - begin < 5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 * 1024  # kB
    assert width * height > MAX_PIXELS


def test_pictures_that_grow_beyond_the_header_are_refused(footage: Tensor, write_video: Writer, tmp_path: Path) -> None:
    """VP9 states the size of every key frame in the stream itself."""
    content = bytearray(write_video(footage[:8], "a.webm", "libvpx-vp9", options={"cpu-used": "8"}).read_bytes())
    at = content.find(b"\x49\x83\x42") + 3  # behind the sync code of the first frame
    bits = int.from_bytes(content[at : at + 5], "big")
    content[at : at + 5] = (bits & ~(0xFFFFFFFF << 4) | (15999 << 16 | 15999) << 4).to_bytes(5, "big")
    path = tmp_path / "b.webm"
    path.write_bytes(content)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(VideoError, match=r"b\.webm"):
        VideoReader(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 * 1024  # kB


def test_a_codec_that_nobody_knows_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(FALLS_CLIPS[0].read_bytes().replace(b"avc1", b"zzzz"))
    with pytest.raises(VideoError, match=r"a\.mp4: "):
        VideoReader(path)


def test_another_stream_that_begins_in_the_middle_ends_nothing_early() -> None:
    class Container:
        def demux(self, _: object) -> Iterator[str]:
            yield from ("a", "b")
            raise IndexError

    container: Any = Container()
    assert list(packets_of(container, cast("Any", None))) == ["a", "b"]
    opened, stream = open_stream(FALLS_CLIPS[0])
    with opened:
        assert sum(packet.size > 0 for packet in packets_of(opened, stream)) == 118


def test_frames_that_a_jump_does_not_find_are_decoded_from_the_start(
    footage: Tensor, write_video: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_video(footage, "a.mp4", "libx264", options={"g": "8", "bf": "0"})
    jumps: list[float] = []
    jump = FrameStream._jump

    def jump_into_nothing(self: FrameStream, position: float) -> bool:
        jumps.append(position)
        has_jumped = jump(self, position)
        self.upcoming, self._frames = None, iter(())
        return has_jumped

    with VideoReader(path) as reader:
        wanted = reader.read(range(30, 48)).frames
    monkeypatch.setattr(FrameStream, "_jump", jump_into_nothing)
    with VideoReader(path) as reader:
        assert torch.equal(reader.read(range(30, 48)).frames, wanted)
    assert len(jumps) == 1
