"""A video with its timeline below the picture: the class of the moment, and where in the whole it stands.

Shapes: T frames of a run, H height, W width, h height of the banner.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from everest.datasets.spans import chunked
from everest.inference.timeline import Segment, Timeline, say_time
from everest.texts import printable
from everest.video.backends import open_video
from everest.video.encode import encode_video
from everest.video.source import VideoSource
from everest.visualize.timeline import class_colors

MAX_DENOMINATOR = 100_000  # of the frame rate
_BACKGROUND, _TEXT, _QUIET = "#181818", "#ffffff", "#bbbbbb"
_MIN_WIDTH, _MIN_BANNER = 320, 48  # pixels; smaller pictures get a wider frame


@dataclass(frozen=True)
class _Layout:
    """Where everything lies: a picture of [H, W] in a frame with a banner below, all sides even."""

    height: int
    width: int

    @property
    def full_width(self) -> int:
        return -(-max(self.width, _MIN_WIDTH) // 2) * 2

    @property
    def banner(self) -> int:
        """Height of the banner, such that the whole is even."""
        wanted = max(_MIN_BANNER, self.height // 8)
        return wanted + (self.height + wanted) % 2

    @property
    def bar(self) -> int:
        """Height of the bar at the bottom of the banner."""
        return max(10, self.banner // 5)


def annotate_video(
    source: VideoSource,
    timeline: Timeline,
    path: Path,
    *,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> int:
    """Write a video again as H.264 in mp4, without sound, with its timeline below the picture.

    Args:
        source: The video.
        timeline: Of it, or of a part; the other moments say nothing.
        path: The file to write; what has the name is replaced.
        on_progress: Called with the frames that are done and the number of all.

    Returns:
        Frames that were written.

    Raises:
        VideoError: The video cannot be read to its end, or the copy cannot be written.
    """
    with open_video(source) as reader:
        info = reader.info
        banners = _Banners(timeline, _Layout(info.height, info.width), info.num_frames / info.fps)

        def draw() -> Iterator[Tensor]:
            for indices in chunked(0, info.num_frames, info):
                frames = reader.read(indices).frames  # [T,H,W,3]
                yield torch.stack([banners.below(f, i / info.fps) for i, f in zip(indices, frames, strict=True)])
                on_progress(indices.stop, info.num_frames)

        rate = Fraction(info.fps).limit_denominator(MAX_DENOMINATOR)
        writing = encode_video(draw(), path, rate, crf=23)
        while True:
            try:
                next(writing)
            except StopIteration as end:
                return int(end.value)


class _Banners:
    """Draws what stands below a frame; the texts of a segment are drawn once.

    Args:
        timeline: What is said.
        layout: Where.
        seconds: Length of the video.
    """

    def __init__(self, timeline: Timeline, layout: _Layout, seconds: float) -> None:
        self._layout, self._seconds = layout, max(seconds, 1e-9)
        self._colors, self._segments = class_colors(timeline), timeline.segments()
        self._font = ImageFont.load_default(size=max(13, layout.banner // 3))
        self._drawn: dict[int, Image.Image] = {}

    def below(self, frame: Tensor, seconds: float) -> Tensor:
        """Put the banner of a moment below a frame: [H, W, 3] to [H + h, full width, 3]."""
        layout = self._layout
        whole = frame.new_zeros(layout.height + layout.banner, layout.full_width, 3)
        left = (layout.full_width - layout.width) // 2
        whole[: layout.height, left : left + layout.width] = frame
        banner = self._of_segment(seconds).copy()
        pen = ImageDraw.Draw(banner)
        pen.text((layout.full_width - 8, 4), say_time(seconds), font=self._font, fill=_QUIET, anchor="ra")
        x = round(seconds / self._seconds * (layout.full_width - 1))
        pen.rectangle((x - 2, layout.banner - layout.bar - 3, x + 1, layout.banner), fill=_TEXT)
        whole[layout.height :] = torch.from_numpy(np.asarray(banner).copy())
        return whole

    def _of_segment(self, seconds: float) -> Image.Image:
        """Draw all that stays the same during a segment; -1 stands for moments without one."""
        at = (n for n, part in enumerate(self._segments) if part.start_seconds <= seconds < part.end_seconds)
        number = next(at, -1)
        if number not in self._drawn:
            self._drawn = {number: self._draw(self._segments[number] if number >= 0 else None)}
        return self._drawn[number]

    def _draw(self, segment: Segment | None) -> Image.Image:
        layout = self._layout
        banner = Image.new("RGB", (layout.full_width, layout.banner), _BACKGROUND)
        pen = ImageDraw.Draw(banner)
        if segment is not None:
            pen.rectangle((8, 8, 18, layout.banner - layout.bar - 8), fill=self._colors[segment.name])
            room = layout.full_width - 26 - self._font.getlength("0:00:00.0") - 16
            pen.text((26, 4), self._fit(segment, room), font=self._font, fill=_TEXT)
        top = layout.banner - layout.bar
        for part in self._segments:
            ends = (part.start_seconds, part.end_seconds)
            left, right = (round(moment / self._seconds * layout.full_width) for moment in ends)
            pen.rectangle((left, top, max(right - 1, left), layout.banner), fill=self._colors[part.name])
        return banner

    def _fit(self, segment: Segment, room: float) -> str:
        """Write a class and its probability into the pixels that there are."""
        name, share = printable(segment.name), f"  {segment.probability:.0%}"
        while len(name) > 1 and self._font.getlength(name + share) > room:
            name = name[:-2] + "…"
        return name + share
