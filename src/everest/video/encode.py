"""Frames to a small mp4 from which single frames are read fast.

Layout: a P frame every fourth frame, three B frames between that nothing refers to, a key frame every few of these, and
an entropy coding that is quick to undo. A clip at any stride then costs few frames that nobody asked for (see
``groups.py``), and the file is little larger than one with rare key frames.

Shapes: T frames, H height, W width, C channels (always 3, RGB).
"""

from collections.abc import Generator, Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import torch
import torch.nn.functional as F
from av.error import FFmpegError
from torch import Tensor

from everest.errors import VideoError

NUM_B = 3  # B frames between two others
# mbtree gives other bytes now and then for the same frames.
_X264 = f"bframes={NUM_B}:b-adapt=0:b-pyramid=none:scenecut=0:open-gop=0:mbtree=0"
# ITU-R BT.601, limited range: what decoders assume where a file says nothing.
_RGB_TO_YUV = torch.tensor([[65.481, 128.553, 24.966], [-37.797, -74.203, 112.0], [112.0, -93.786, -18.214]]) / 255
_OFFSETS = torch.tensor([16.0, 128.0, 128.0])
# What FFmpeg's conversion to RGB cuts off on average. Frames went through it once when they were read and will again.
_CUT_OFF = torch.tensor([1.0, 1.5, 1.0])


def encode_video(
    chunks: Iterable[Tensor], path: Path, rate: Fraction, *, keyframe_interval: int = 12, crf: int = 20
) -> Generator[None, None, int]:
    """Write frames as h264 in mp4, without sound, run by run. The same frames give the same bytes.

    Args:
        chunks: The frames in runs of any length, each uint8, shape [T, H, W, C], H and W even and equal for all.
        path: The file to write.
        rate: Frames per second.
        keyframe_interval: Frames from one key frame to the next; 1 makes every frame a key frame.
        crf: Quality of x264, 0 (no loss) to 51; 18 to 23 are good.

    Yields:
        After each run.

    Returns:
        Number of frames.

    Raises:
        VideoError: There are no frames, a size that cannot be written, or the disk is full.
    """
    num_frames = 0
    options = {"preset": "medium", "tune": "fastdecode", "crf": str(crf), "g": str(keyframe_interval)}
    try:
        path.unlink(missing_ok=True)  # it may be a link to something else
        with av.open(str(path), "w", format="mp4") as container:
            stream: Any = container.add_stream("libx264", rate=rate, options=options | {"x264-params": _X264})
            stream.pix_fmt = "yuv420p"
            stream.codec_context.thread_count = 1  # threads would change the bytes, and cores are busy with other clips
            for chunk in chunks:
                if not num_frames:
                    stream.height, stream.width = chunk.shape[1:3]
                for pixels in chunk:
                    frame = av.VideoFrame.from_ndarray(_to_yuv420p(pixels).numpy(), format="yuv420p")
                    frame.pts, frame.time_base = num_frames, 1 / rate
                    container.mux(stream.encode(frame))
                    num_frames += 1
                yield
            if not num_frames:
                raise VideoError(f"{path}: no frames to encode")
            container.mux(stream.encode(None))
    except (FFmpegError, OSError, ValueError) as error:
        raise VideoError(f"{path}: cannot be encoded: {error}") from None
    return num_frames


def _to_yuv420p(pixels: Tensor) -> Tensor:
    """Convert a frame [H, W, C] to planes of Y, U and V below each other, shape [H * 3 / 2, W].

    Read back, the frame has the mean colours that it has now: without care it would be darker by a level.
    """
    H, W = pixels.shape[:2]
    yuv = ((pixels.reshape(-1, 3) + _CUT_OFF) @ _RGB_TO_YUV.T + _OFFSETS).T.view(3, H, W)  # [C,H,W]
    chroma = F.avg_pool2d(yuv[1:], 2)  # [2,H/2,W/2]
    planes = torch.cat([yuv[0].flatten(), chroma.flatten()])  # [H*W*3/2]
    return planes.round_().clamp_(0, 255).to(torch.uint8).view(H * 3 // 2, W)


def psnr(a: Tensor, b: Tensor) -> float:
    """Measure how alike pictures are, in decibel: peak signal to noise, infinite for equal ones.

    Args:
        a: uint8, any shape.
        b: uint8, the same shape.
    """
    error = (a.to(torch.float32) - b.to(torch.float32)).square().mean()
    return float("inf") if error == 0 else float(10 * torch.log10(255.0**2 / error))
