"""Many videos to windows: opened by workers that may die; those at URLs are fetched once for all that is done."""

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from everest.config import CheckpointInfo, EvaluationConfig
from everest.datasets import ClipRecord
from everest.datasets.clip_cache import ClipCache
from everest.datasets.engine import Engine, LocalEngine
from everest.datasets.pool import Lost
from everest.datasets.ray_engine import RayEngine
from everest.datasets.store import arriving, through_store
from everest.datasets.watch import GRACE
from everest.datasets.workers import resolve_num_workers
from everest.errors import ConfigError, VideoError
from everest.inference.windows import Windows
from everest.video.source import is_url

VIDEOS_TOGETHER, VIDEOS_ON_RAY = 64, 8192  # that are opened before the first of them is read, to be cut


@dataclass(frozen=True)
class Cut:
    """The task of a worker: finds the spans of a video. Every ``yield`` says that it gets on, as in reading views."""

    windows: Windows
    info: CheckpointInfo

    def __call__(self, record: ClipRecord) -> Generator[None, None, list[ClipRecord]]:
        """Cut a video."""
        yield from arriving(record.source)
        yield
        return self.windows.cut(record, self.info)


def cut_videos(
    records: Sequence[ClipRecord],
    windows: Windows,
    info: CheckpointInfo,
    views: EvaluationConfig,
    *,
    num_workers: int = 0,
    engine: RayEngine | None = None,
) -> list[list[ClipRecord] | str]:
    """Give the spans of each video, or why it cannot be opened.

    Args:
        records: The videos.
        windows: How they are cut.
        info: What the model takes.
        views: How files are read.
        num_workers: Processes that open them; -1 takes one per spare core.
        engine: What opens them instead.

    Raises:
        DataError: The store of the videos is gone, so that it is not for a video that one cannot be opened.
    """
    num_workers = min(resolve_num_workers(num_workers), len(records))
    by: Engine = engine or LocalEngine(num_workers)
    through, _ = through_store(records, views.remote, num_workers=1)
    found: Iterator[tuple[int, list[ClipRecord] | Lost]]
    found = by.run(Cut(windows, info), through, time_limit_seconds=views.time_limit_seconds * GRACE)
    cut: list[list[ClipRecord] | str] = []
    for _, spans in found:
        if isinstance(spans, Lost) and spans.error is not None and not isinstance(spans.error, VideoError):
            raise spans.error
        cut.append(spans.reason if isinstance(spans, Lost) else spans)
    return cut


@contextmanager
def kept_near(
    records: Sequence[ClipRecord],
    views: EvaluationConfig,
    folder: Path | None = None,
    engine: RayEngine | None = None,
) -> Iterator[EvaluationConfig]:
    """Keep clips that come over the network, and have hashes, from when they are cut until all spans are read.

    Args:
        records: The videos.
        views: How they are read.
        folder: Where they are kept; None: where the system has what is needed for a while.
        engine: What reads them instead of this machine; then nothing is kept.

    Yields:
        How they are read while they are kept.
    """
    are_far = any(record.member is not None and is_url(record.member.shard) for record in records)
    if engine is not None or views.remote.cache_dir is not None or not are_far:
        yield views
        return
    with TemporaryDirectory(prefix="clips-", dir=folder) as place:
        with suppress(ConfigError):  # nobody asked for it: without it clips are fetched again
            ClipCache(place, 0).prepare()
            views = views.model_copy(update={"remote": views.remote.model_copy(update={"cache_dir": place})})
        yield views
