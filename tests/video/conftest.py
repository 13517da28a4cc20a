"""Frames to write and a function that writes them."""

from fractions import Fraction
from pathlib import Path

import av
import pytest
import torch
from torch import Tensor
from video_files import FALLS, Writer, decode_all


@pytest.fixture(scope="session")
def footage() -> Tensor:
    """48 frames of a fall, [T,H,W,C], 64 x 84 pixels, no two equal."""
    frames = decode_all(FALLS / "Fall" / "Subject1_Fall_13.mp4")[:48, ::2, ::2].clone()
    frames[:, :8, :8] = (torch.arange(48) * 5).to(torch.uint8).view(-1, 1, 1, 1)  # a mark that tells frames apart
    assert len({frame.numpy().tobytes() for frame in frames}) == 48
    return frames[:, :64, :84].contiguous()


@pytest.fixture
def write_video(tmp_path: Path) -> Writer:
    """A function that writes frames [T,H,W,C] to a file."""

    def write(
        frames: Tensor,
        name: str,
        codec: str,
        pix_fmt: str = "yuv420p",
        options: dict[str, str] | None = None,
        pts: list[int] | None = None,
        rate: Fraction = Fraction(25),
        rotation: int = 0,
        container_options: dict[str, str] | None = None,
    ) -> Path:
        path = tmp_path / name
        with av.open(str(path), "w", options=container_options or {}) as container:
            stream = container.add_stream(codec, rate=rate, options=options or {})
            stream.height, stream.width, stream.pix_fmt = frames.shape[1], frames.shape[2], pix_fmt
            stream.codec_context.thread_count = 1
            if rotation:
                stream.set_display_rotation(rotation)
            for i, pixels in enumerate(frames.numpy()):
                frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format=pix_fmt)
                frame.pts, frame.time_base = (pts[i] if pts else i), 1 / rate
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        return path

    return write
