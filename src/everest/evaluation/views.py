"""From videos to class probabilities, averaged over views: the one way that evaluation and prediction share.

Shapes: R videos, n of them readable, V views of a video, B views of a batch, C channels, T frames, H height, W width,
K classes.
"""

import re
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from everest.config import CheckpointInfo, EvaluationConfig, num_sampled_frames
from everest.datasets import Manifest, build_view_loader
from everest.errors import ConfigError, DataError, WeightsError
from everest.models import Classifier, classify_clips
from everest.training.heartbeats import now_evaluating
from everest.training.processes import gather_rows, gather_values, this_process
from everest.training.stopping import asked_to_stop, stop_if_asked, until_asked

OnProgress = Callable[[int, int], None]  # videos that are done, all videos
OnVideo = Callable[[int, Tensor | str], None]  # record index; mean over its views [K], float64, or why there is none

MAX_VIEWS = 100  # segments, and crops of each
VIEWS = re.compile(r"([1-9][0-9]{0,3})\s*[xX×]\s*([1-9][0-9]{0,3})")


@dataclass(frozen=True, eq=False, repr=False)
class VideoProbabilities:
    """What a classifier says of each video that can be read.

    Attributes:
        record_indices: The records that were read, ascending, shape [n], int64.
        probabilities: Mean over the views, shape [n, K], float64, on the CPU.
        failures: Reason by record index of those that cannot be read.
    """

    record_indices: Tensor
    probabilities: Tensor
    failures: dict[int, str]

    def __post_init__(self) -> None:
        if len(self.record_indices) != len(self.probabilities):
            raise DataError(f"{len(self.record_indices)} videos need as many rows, not {len(self.probabilities)}")

    def __repr__(self) -> str:
        return f"VideoProbabilities({list(self.probabilities.shape)}, {len(self.failures)} failures)"


def parse_views(text: str) -> EvaluationConfig:
    """Read ``5x3`` as five segments in time with three crops each.

    Raises:
        ConfigError: Anything else.
    """
    match = VIEWS.fullmatch(text.strip())
    if match is None or not all(1 <= int(number) <= MAX_VIEWS for number in match.groups()):
        raise ConfigError(f"views {text!r}: expected SEGMENTSxCROPS with numbers from 1 to {MAX_VIEWS}, such as 5x3")
    return EvaluationConfig(num_segments=int(match[1]), num_crops=int(match[2]))


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Turn off what is random in a model, and leave it as it was."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


def classify_videos(
    model: Classifier,
    info: CheckpointInfo,
    manifest: Manifest,
    views: EvaluationConfig,
    *,
    device: torch.device | None = None,
    dtype: torch.dtype = torch.float32,
    num_workers: int = 0,
    on_progress: OnProgress | None = None,
    divided: bool = False,
    on_video: OnVideo | None = None,
    every_seconds: float = 0.0,
) -> VideoProbabilities:
    """Classify every video by the mean of the probabilities of its views.

    Every video is opened once for all its views; batches are full, whatever the number of views. Nothing is random,
    and the global random state is not touched.

    Args:
        model: Moved to the device.
        info: What travels with it.
        manifest: The videos or spans; labels are not looked at.
        views: How many, and how many at a time.
        device: Where to compute; None: where the model is.
        dtype: What matrix products compute in: float32 or bfloat16.
        num_workers: Decoding processes; 0 decodes in this one, -1 takes one process per spare core.
        on_progress: Called after each video.
        divided: The processes of a run share the videos out, each video to one of them, and all get all results; every
            process must call it.
        on_video: Called with what is said of each video that this process has classified, as soon as it is known; what
            is not finite too.
        every_seconds: How often it is called at most, for several videos then: each time the device is waited for.

    Raises:
        WeightsError: The model's output is not finite.
        RunInterruptedError: The program trains, and was asked to stop.
    """
    rank, world_size = this_process() if divided else (0, 1)
    device = device or next(model.parameters()).device
    model.to(device)
    loader = build_view_loader(
        manifest,
        info.clip,
        views,
        num_sampled_frames=num_sampled_frames(info),
        num_workers=num_workers,
        pin_memory=device.type == "cuda",
        rank=rank,
        world_size=world_size,
    )
    waiting: list[Tensor] = []  # each [C,T,H,W], on the device
    owners: list[int] = []  # record of each view, in the order of the outputs
    outputs: list[Tensor] = []  # each [B,K]; they stay on the device, so that it need not be waited for
    failures: dict[int, str] = {}
    told = _Told(on_video, every_seconds)

    def forward(num_views: int) -> None:
        clips = torch.stack(waiting[:num_views])  # [B,C,T,H,W]
        del waiting[:num_views]
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
            outputs.append(classify_clips(model, clips, info))
        told.take(outputs[-1])

    with evaluation_mode(model):
        for done, video in enumerate(until_asked(loader), start=1):
            now_evaluating(str(manifest.records[video.record_index].source))
            if video.error is not None:
                failures[video.record_index] = video.error
            told.expect(video.record_index, video.num_views, video.error)
            waiting.extend(video.to(device).unbind())
            owners.extend([video.record_index] * video.num_views)
            while len(waiting) >= views.batch_size:
                forward(views.batch_size)
            if on_progress is not None:
                on_progress(min(done * world_size, len(manifest)), len(manifest))
        if waiting:
            forward(len(waiting))
        told.tell()
    stop_if_asked(*(gather_values(asked_to_stop()) if divided else ()))  # all of them, for each waits for the others
    found = _average(outputs, owners, failures, len(info.class_names))
    return _check(_gather(found) if divided else found)


def refuse_infinite(outputs: Tensor) -> Tensor:
    """Give outputs back.

    Raises:
        WeightsError: One is not finite.
    """
    if not bool(outputs.isfinite().all()):
        raise WeightsError("the model's output is not finite: the weights are damaged or training has diverged")
    return outputs


class _Told:
    """Tells of each video once the outputs of all its views are there; does nothing where nobody asked."""

    def __init__(self, on_video: OnVideo | None, every_seconds: float) -> None:
        self._on_video, self._every_seconds = on_video, every_seconds
        self._waiting: deque[tuple[int, int]] = deque()  # record and number of views, in the order of the outputs
        self._outputs: list[Tensor] = []  # that were not told of, [B, K] each, on the device
        self._rest = torch.empty(0)  # of a video not all of whose views were there when others were told of, [v, K]
        self._told = time.monotonic()

    def expect(self, record_index: int, num_views: int, error: str | None) -> None:
        if self._on_video is None:
            return
        if error is not None:
            self._on_video(record_index, error)
        elif num_views:
            self._waiting.append((record_index, num_views))

    def take(self, outputs: Tensor) -> None:
        """Take the outputs of some views [B, K]."""
        if self._on_video is None:
            return
        self._outputs.append(outputs)
        if time.monotonic() - self._told >= self._every_seconds:
            self.tell()

    def tell(self) -> None:
        """Tell of all videos that are known."""
        if self._on_video is None or not self._outputs:
            return
        outputs = torch.cat(self._outputs).cpu().double()  # [B, K]
        outputs = torch.cat([self._rest, outputs]) if len(self._rest) else outputs
        self._outputs.clear()
        first = 0
        while self._waiting and len(outputs) - first >= self._waiting[0][1]:
            record_index, num_views = self._waiting.popleft()
            self._on_video(record_index, outputs[first : first + num_views].mean(dim=0))  # [K]
            first += num_views
        self._rest = outputs[first:]
        self._told = time.monotonic()


def _average(
    outputs: list[Tensor], owners: list[int], failures: dict[int, str], num_classes: int
) -> VideoProbabilities:
    """Average the views of each video, in double precision, so that the order of adding does not show."""
    if not outputs:
        return VideoProbabilities(torch.empty(0, dtype=torch.int64), torch.empty(0, num_classes).double(), failures)
    of_views = torch.cat(outputs).cpu().double()  # [n * V, K]
    row_of = {record: row for row, record in enumerate(sorted(set(owners)))}
    rows = torch.tensor([row_of[record] for record in owners])  # [n * V]
    sums = torch.zeros(len(row_of), num_classes, dtype=torch.float64).index_add_(0, rows, of_views)  # [n, K]
    return VideoProbabilities(torch.tensor(list(row_of)), sums / torch.bincount(rows)[:, None], failures)


def _gather(found: VideoProbabilities) -> VideoProbabilities:
    """Put what all processes have found together, every video once, in the order of the records."""
    indices, probabilities = gather_rows(found.record_indices), gather_rows(found.probabilities)  # [R], [R, K]
    order = indices.argsort()
    failures = {int(index): why for part in gather_values(found.failures) for index, why in part.items()}
    return VideoProbabilities(indices[order], probabilities[order], dict(sorted(failures.items())))


def _check(found: VideoProbabilities) -> VideoProbabilities:
    """Refuse what is not a number: in all processes together, so that none waits for another."""
    refuse_infinite(found.probabilities)
    return found
