"""Views of many videos through a model on a Ray cluster: decoding on cores, the model on GPUs where there are any.

:func:`compute_views` takes anything that makes one output of each clip: class probabilities (:class:`Classify`), or
features.

Shapes: V views of a video, S segments, F distinct frames, B views of a batch, C channels, T frames, H height, W width,
K classes.
"""

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from everest.config import CheckpointInfo, ClipConfig, EvaluationConfig, num_sampled_frames
from everest.datasets import ClipRecord, ViewClips, Views
from everest.datasets.pool import Lost
from everest.datasets.ray_engine import RayEngine
from everest.datasets.ray_worker import Then
from everest.datasets.store import arriving, through_store
from everest.datasets.watch import DIED, GRACE, say_stopped
from everest.errors import ConfigError, VideoError
from everest.evaluation.views import refuse_infinite
from everest.models import Classifier, classify_clips

Computed = tuple[str | None, Any]  # why a video cannot be read, and None; or None, and what was made of its views


class ViewFunction(Protocol):
    """Makes something of clips. It is sent to the workers, each of which has a copy of its own."""

    def to(self, device: torch.device) -> None:
        """Move to where it shall compute."""

    def __call__(self, clips: Tensor) -> Sequence[Any]:
        """Give one output for each clip: [B, C, T, H, W], uint8, on the device."""

    def combine(self, outputs: list[Any]) -> Any:
        """Make one output of those of a video's views, to be sent back."""


@dataclass(frozen=True)
class Classify:
    """Class probabilities, of a video the mean of its views.

    Attributes:
        model: In evaluation mode.
        info: What travels with it.
        dtype: What matrix products compute in: float32 or bfloat16.
    """

    model: Classifier
    info: CheckpointInfo
    dtype: torch.dtype = torch.float32

    def to(self, device: torch.device) -> None:
        """Move the model."""
        self.model.to(device)

    def __call__(self, clips: Tensor) -> Sequence[Tensor]:
        """Give the probabilities of each clip [K], float64, on the CPU."""
        with torch.autocast(clips.device.type, dtype=torch.bfloat16, enabled=self.dtype == torch.bfloat16):
            outputs = classify_clips(self.model, clips, self.info)  # [B,K]
        return refuse_infinite(outputs.cpu().double()).unbind()

    def combine(self, outputs: list[Tensor]) -> NDArray[np.float64]:
        """Average [K]; as numpy, to travel between processes."""
        mean: NDArray[np.float64] = torch.stack(outputs).mean(dim=0).numpy()
        return mean


@dataclass(frozen=True)
class DecodedVideo:
    """What :class:`~everest.datasets.Views` holds, as it travels between processes."""

    scaled: NDArray[np.uint8]  # [C,F,h,w]
    rows: NDArray[np.int64]  # [S,T]
    error: str | None

    def views(self, clip: ClipConfig, num_crops: int) -> Views:
        """Give the views again."""
        scaled, rows = torch.from_numpy(self.scaled), torch.from_numpy(self.rows)
        return Views(scaled, rows, (clip.height, clip.width), num_crops, -1, 0, self.error)


@dataclass(frozen=True)
class Decode:
    """The task of a worker: reads the views of a record.

    Every ``yield`` says that it gets on: the time limit is that of decoding, and the network has a patience of its own.
    """

    clip: ClipConfig
    views: EvaluationConfig
    num_sampled_frames: int

    def __call__(self, record: ClipRecord) -> Generator[None, None, DecodedVideo]:
        """Read a video; one that cannot be read has no frames and says why."""
        yield from arriving(record.source)
        yield
        views = ViewClips((record,), self.clip, self.views, num_sampled_frames=self.num_sampled_frames)[0]
        return DecodedVideo(views.scaled.numpy(), views.rows.numpy(), views.error)


class ComputeBlock:
    """What follows, in the same worker or on a GPU: the function, on the views of several videos at a time."""

    def __init__(self, function: ViewFunction, clip: ClipConfig, views: EvaluationConfig, device: str) -> None:
        self._function, self._clip, self._views, self._device = function, clip, views, torch.device(device)
        function.to(self._device)

    def __call__(self, videos: list[DecodedVideo | Lost]) -> list[Computed]:
        """Give what is made of each video, or why it cannot be read.

        Raises:
            DataError: The store of the videos is gone, so that it is not for a video that one cannot be read.
        """
        clips: list[Tensor] = []  # each [C,T,H,W], on the device
        numbers: list[int] = []  # of views of each video
        for video in videos:
            if isinstance(video, Lost) and video.error is not None and not isinstance(video.error, VideoError):
                raise video.error
            views = None if isinstance(video, Lost) else video.views(self._clip, self._views.num_crops)
            numbers.append(0 if views is None else views.num_views)
            if views is not None and views.num_views:
                clips += views.to(self._device).unbind()
        outputs = iter(self._outputs(clips))
        return [
            (None, self._function.combine([next(outputs) for _ in range(number)]))
            if number
            else (_why(video, self._views.time_limit_seconds), None)
            for video, number in zip(videos, numbers, strict=True)
        ]

    def _outputs(self, clips: list[Tensor]) -> list[Any]:
        """Run batches of about one size, rather than full ones and a rest."""
        outputs: list[Any] = []
        if clips:
            num_batches = -(-len(clips) // self._views.batch_size)
            size = -(-len(clips) // num_batches)
            for start in range(0, len(clips), size):
                outputs += self._function(torch.stack(clips[start : start + size]))  # [B,C,T,H,W]
        return outputs


def compute_views(
    engine: RayEngine,
    function: ViewFunction,
    records: Sequence[ClipRecord],
    info: CheckpointInfo,
    views: EvaluationConfig,
    *,
    device: str = "auto",
) -> Iterator[Computed]:
    """Put the views of every video through a function.

    Args:
        engine: The cluster.
        function: On the CPU; each worker gets a copy.
        records: The videos or spans; labels are not looked at.
        info: What the function takes.
        views: How many of each video, and at most how many at a time.
        device: ``auto`` takes the GPUs of the cluster where it has any; ``cuda`` insists; ``cpu`` leaves them alone.

    Yields:
        For each record, in their order: why it cannot be read, and None; or None, and what was made of its views.

    Raises:
        ConfigError: The cluster has no such device.
    """
    if device == "mps" or (device == "cuda" and not engine.num_gpus):
        raise ConfigError(f"device {device}: the Ray cluster has none: use auto or cpu")
    block_size = max(1, views.batch_size // (views.num_segments * views.num_crops))
    spans, _ = through_store(records, views.remote, num_workers=1)
    outcomes = engine.run(
        Decode(info.clip, views, num_sampled_frames(info)),
        spans,
        time_limit_seconds=views.time_limit_seconds * GRACE,
        then=Then(ComputeBlock, (function, info.clip, views), block_size),
        on_gpus=device != "cpu" and engine.num_gpus > 0,
    )
    for _, outcome in outcomes:
        yield outcome


def _why(video: DecodedVideo | Lost, limit_seconds: float) -> str:
    """Say in the words of the local engine why a video has no views."""
    if isinstance(video, DecodedVideo):
        return video.error or "it has no views"
    if video.has_died:
        return DIED
    return say_stopped(limit_seconds) if video.was_stopped else video.reason
