"""The views of each video, in the order of evaluation."""

import logging
from collections.abc import Iterator
from dataclasses import replace

from torch.utils.data import Dataset

from everest.config import ClipConfig, EvaluationConfig
from everest.datasets.ahead import begin_views
from everest.datasets.clips import ViewClips, Views
from everest.datasets.handover import NoSharedMemoryError, Places
from everest.datasets.records import Manifest
from everest.datasets.store import through_store
from everest.datasets.workers import Workers, resolve_num_workers
from everest.errors import DataError

_LOG = logging.getLogger("everest")


class PlacedViews(Dataset["Views | DataError"]):
    """Views as items, their frames where the program can see them. Errors travel as values.

    Args:
        clips: The videos.
        step: From one that this device evaluates to the next.
    """

    def __init__(self, clips: ViewClips, step: int = 1) -> None:
        self.clips = clips
        self._step = step
        self._places = Places()

    def __getitem__(self, index: int) -> "Views | DataError":
        begin_views(self.clips.records, index, self._step)
        try:
            views = self.clips[index]
            return replace(views, scaled=self._places.empty(views.scaled.shape).copy_(views.scaled))
        except DataError as error:
            return error


class ViewLoader:
    """The views of each video for evaluation, in the order of the records. Made by :func:`build_view_loader`.

    Attributes:
        indices: The records that this device evaluates.
    """

    def __init__(
        self,
        clips: ViewClips,
        indices: range,
        *,
        num_workers: int = 0,
        pin_memory: bool = False,
    ) -> None:
        self.indices = indices
        self._clips, self._pin_memory = clips, pin_memory
        self._workers = self._start(num_workers)

    def _start(self, num_workers: int) -> Workers:
        return Workers(
            PlacedViews(self._clips, self.indices.step),
            self._clips,
            num_workers=num_workers,
            time_limit_seconds=self._clips.evaluation.time_limit_seconds,
            pin_memory=self._pin_memory,
        )

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[Views]:
        num_done = 0
        for views in self._workers.read(lambda number: self.indices[number:]):
            if isinstance(
                views, NoSharedMemoryError
            ):  # there is no setting to lower: no frames of a video are left out
                break
            if isinstance(views, DataError):
                raise DataError(str(views))  # a new one, as in training
            yield views
            num_done += 1
        else:
            return
        _LOG.warning(
            "shared memory is too little for the views of a video (on Linux it is /dev/shm; containers have little "
            "unless told, as by docker run --shm-size=8g): this process reads the videos itself, which takes longer"
        )
        self._workers = self._start(0)
        yield from self._workers.read(lambda number: self.indices[num_done + number :])


def build_view_loader(
    manifest: Manifest,
    clip: ClipConfig,
    evaluation: EvaluationConfig,
    *,
    num_sampled_frames: int | None = None,
    num_workers: int = -1,
    pin_memory: bool = False,
    rank: int = 0,
    world_size: int = 1,
) -> ViewLoader:
    """Make the loader of an evaluation.

    Args:
        manifest: The clips to evaluate, one split.
        clip: Length, size and sampling, as in training.
        evaluation: Numbers of segments and crops.
        num_sampled_frames: Frames per view where frames are chosen later; from
            :func:`~everest.config.num_sampled_frames`.
        num_workers: Decoding processes; -1 takes one per spare core.
        pin_memory: Hand over pinned memory, for copies to a GPU.
        rank: This device, which takes every ``world_size``-th record.
        world_size: Number of devices.
    """
    indices = range(rank, len(manifest), world_size)
    workers = min(resolve_num_workers(num_workers), len(indices))
    records, _ = through_store(manifest.records, evaluation.remote, workers)
    clips = ViewClips(records, clip, evaluation, num_sampled_frames=num_sampled_frames)
    return ViewLoader(clips, indices, num_workers=workers, pin_memory=pin_memory)
