"""Classes of what a camera or a broadcast shows, window after window, as it comes.

Shapes: S segments, C channels, T frames, H height, W width, F distinct frames of a window, h, w size of a scaled frame,
K classes.
"""

import math
import queue
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from everest.config import CheckpointInfo, EvaluationConfig, num_sampled_frames
from everest.datasets.clips import ViewClips, Views
from everest.errors import ConfigError, VideoError
from everest.evaluation.views import evaluation_mode, refuse_infinite
from everest.inference.predict import ONE_VIEW, Predictor
from everest.inference.predictions import ClipPrediction
from everest.inference.windows import Windows
from everest.models import classify_clips
from everest.video.live import LiveFrame, LiveStream, is_pushed
from everest.video.transforms import resize_to_cover

_NUM_WAITING = 2  # windows that were read and not yet looked at
_TOLERANCE = 1e-6  # of a frame; as for spans of files
_JOIN_SECONDS = 1.0


@dataclass
class LiveWindow:
    """A window whose frames come one by one.

    Attributes:
        start_seconds: Since the first frame of the stream.
        end_seconds: Its end.
        rows: Positions of the stream's frames that are looked at, of each segment, [S][T].
        frames: Scaled frames by position, each [C, 1, h, w], as far as they have come.
    """

    start_seconds: float
    end_seconds: float
    rows: list[list[int]]
    frames: dict[int, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.wanted = sorted({index for row in self.rows for index in row})

    @property
    def is_full(self) -> bool:
        """Whether all frames are there."""
        return len(self.frames) == len(self.wanted)

    def views(self, info: CheckpointInfo, views: EvaluationConfig) -> Views:
        """Give its clips as those of a file."""
        place = {index: number for number, index in enumerate(self.wanted)}
        rows = torch.tensor([[place[index] for index in row] for row in self.rows])  # [S,T]
        scaled = torch.cat([self.frames[index] for index in self.wanted], dim=1)  # [C,F,h,w]
        return Views(scaled, rows, (info.clip.height, info.clip.width), views.num_crops, -1, 0)


class LiveWindows:
    """Hands the frames of a stream to the windows that they belong to; only those that are looked at are kept.

    Windows take the frames that those of a file with the same frames would take (see ``datasets/spans.py``).

    Args:
        info: What the model takes.
        windows: Their length and distance.
        views: Of each window.
        fps: Frames per second of the stream.
    """

    def __init__(self, info: CheckpointInfo, windows: Windows, views: EvaluationConfig, fps: float) -> None:
        self._info, self._fps = info, fps
        self.window_seconds, self._hop = windows.lengths(info, fps)
        clips = ViewClips((), info.clip, views, num_sampled_frames=num_sampled_frames(info))
        self._plan = clips.plan
        self._open: list[LiveWindow] = []
        self._num_begun = 0
        self._last: LiveFrame | None = None

    def add(self, frame: LiveFrame) -> list[LiveWindow]:
        """Take the next frame; give the windows that are full with it."""
        position = frame.seconds * self._fps
        self._begin_until(position + 1)
        self._fill(position)
        self._last = frame
        return self._take_full()

    def end(self) -> list[LiveWindow]:
        """Say that no frame follows; give the windows that are full with the last one."""
        if self._last is not None:
            self._fill(self._last.seconds * self._fps + 1)
        return self._take_full()

    def _begin_until(self, position: float) -> None:
        """Begin the windows that start before a position, so that none of their frames is missed."""
        while (start := self._num_begun * self._hop) * self._fps <= position:
            end = start + self.window_seconds
            first, last = (math.ceil(seconds * self._fps - _TOLERANCE) for seconds in (start, end))
            plan = self._plan(max(last - first, 1), self._fps)
            self._open.append(LiveWindow(start, end, [[first + index for index in row] for row in plan]))
            self._num_begun += 1

    def _fill(self, position: float) -> None:
        """Give the last frame to the positions at which it is on show: those that are nearer to it than to the next.

        Args:
            position: Of the next frame.
        """
        if self._last is None:
            return
        scaled: Tensor | None = None
        for window in self._open:
            for index in window.wanted[len(window.frames) :]:
                if index + 0.5 >= position:
                    break
                if scaled is None:
                    pixels = self._last.pixels().permute(2, 0, 1)[:, None]  # [C,1,H,W]
                    scaled = resize_to_cover(pixels, self._info.clip.height, self._info.clip.width)  # [C,1,h,w]
                window.frames[index] = scaled

    def _take_full(self) -> list[LiveWindow]:
        full = [window for window in self._open if window.is_full]
        self._open = [window for window in self._open if not window.is_full]
        return full


def watch(
    predictor: Predictor,
    location: str,
    windows: Windows | None = None,
    *,
    views: EvaluationConfig = ONE_VIEW,
    top: int = 5,
    max_seconds: float | None = None,
) -> Iterator[ClipPrediction]:
    """Name the classes of a stream, window by window, until it ends.

    A camera or a broadcast does not wait: where the model is slower than the windows come, the oldest that were not
    looked at are left out, which shows in the times of those that follow.

    Args:
        predictor: What names them.
        location: See :class:`~everest.video.live.LiveStream`.
        windows: Their length and distance; None: one clip of the model after the other.
        views: Of each window.
        top: Classes to name.
        max_seconds: Stop after so many seconds of the stream; None: go on to its end.

    Yields:
        A prediction for each window, with its times since the first frame.

    Raises:
        VideoError: The stream cannot be opened, breaks off, or ends before a window is full.
        ConfigError: A number makes no sense.
    """
    if top < 1 or (max_seconds is not None and not max_seconds > 0):
        raise ConfigError(f"top {top} and max_seconds {max_seconds}: expected 1 or more, and more than 0")
    stream = LiveStream(location)
    cut = LiveWindows(predictor.info, windows or Windows(), views, stream.fps)
    reader = _Reader(stream, cut, max_seconds)
    num_seen = 0
    try:
        for window in reader:
            began = time.perf_counter()
            classes = predictor.named(_classify(predictor, window.views(predictor.info, views)), top)
            seconds = time.perf_counter() - began
            yield ClipPrediction(Path(stream.name), classes, window.start_seconds, window.end_seconds, seconds)
            num_seen += 1
    finally:
        reader.stop()
    if not num_seen:
        raise VideoError(f"{stream.name}: ended before a window of {cut.window_seconds:g} s was full")


def _classify(predictor: Predictor, views: Views) -> Tensor:
    """Average the probabilities of all views: [K], as in evaluation."""
    clips = torch.stack(list(views.to(predictor.device).unbind()))  # [V,C,T,H,W]
    with (
        evaluation_mode(predictor.model),
        torch.autocast(predictor.device.type, dtype=torch.bfloat16, enabled=predictor.dtype == torch.bfloat16),
    ):
        outputs = classify_clips(predictor.model, clips, predictor.info)
    return refuse_infinite(outputs.cpu().double()).mean(dim=0)  # [K]


class _Reader:
    """Reads a stream in a thread of its own, so that a sender is never kept waiting by the model.

    Args:
        stream: Read to its end, or until :meth:`stop`, and closed there: nobody else may while a frame is waited for.
        cut: Makes windows of its frames.
        max_seconds: Of the stream that are read.
    """

    def __init__(self, stream: LiveStream, cut: LiveWindows, max_seconds: float | None) -> None:
        self._stream, self._cut = stream, cut
        self._max_seconds = math.inf if max_seconds is None else max_seconds
        self._is_pushed = is_pushed(stream.name)
        self._ready: queue.Queue[LiveWindow | BaseException | None] = queue.Queue(_NUM_WAITING)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[LiveWindow]:
        """Give windows as they get full.

        Raises:
            VideoError: The stream broke off; windows that were full before come first.
        """
        while True:
            window = self._ready.get()
            if isinstance(window, BaseException):
                raise window
            if window is None:
                return
            yield window

    def stop(self) -> None:
        """End the thread; one that waits for a silent sender ends when that wait does."""
        self._stopped.set()
        self._thread.join(_JOIN_SECONDS)

    def _read(self) -> None:
        with ExitStack() as stack:
            stack.push(self._hand_over_end)
            stack.enter_context(self._stream)
            for frame in self._stream:
                if self._stopped.is_set() or frame.seconds >= self._max_seconds:
                    break
                for window in self._cut.add(frame):
                    self._put(window)
            for window in self._cut.end():
                self._put(window)

    def _hand_over_end(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> bool:
        """Hand over how the thread ends, so that nobody waits for more; an error is raised there and not here."""
        self._put(error, keep=True)
        return True

    def _put(self, window: LiveWindow | BaseException | None, *, keep: bool = False) -> None:
        """Hand something over; where the sender does not wait, the oldest window goes if there are too many."""
        while not self._stopped.is_set():
            try:
                self._ready.put(window, timeout=0.0 if self._is_pushed and not keep else 0.1)
            except queue.Full:
                if self._is_pushed and not keep:
                    self._drop_oldest()
                continue
            return

    def _drop_oldest(self) -> None:
        with suppress(queue.Empty):  # it has just been taken
            self._ready.get_nowait()
