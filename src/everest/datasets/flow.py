"""Compute the optical flow of all clips of a list, once, in parallel: what ``everest data flow`` does."""

import time
from collections.abc import Callable, Generator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from everest.datasets.engine import Engine, LocalEngine
from everest.datasets.flow_files import FlowHeader, default_flow, flow_name, header_of, read_header, write_flow
from everest.datasets.pool import Lost
from everest.datasets.records import ClipRecord, Manifest
from everest.datasets.spans import chunked, span_of
from everest.errors import DataError, VideoError
from everest.video.backends import open_video
from everest.video.optical_flow import FlowEstimator, FlowGrid, flow_of, load_opencv

NUM_LISTED = 3  # failures that a summary names


@dataclass(frozen=True)
class FlowReport:
    """What was computed.

    Attributes:
        folder: Where the flow is.
        num_clips: Different spans of videos.
        num_known: Of them, those that had their flow before.
        num_bytes: Of all files.
        video_seconds: Length of all spans that have flow.
        computed_seconds: Of them, those that were computed now.
        work_seconds: Processor time that these took.
        failures: Video and reason, for spans without flow.
    """

    folder: Path
    num_clips: int
    num_known: int
    num_bytes: int
    video_seconds: float
    computed_seconds: float
    work_seconds: float
    failures: tuple[tuple[str, str], ...] = ()

    @property
    def bytes_per_minute(self) -> float:
        """Bytes for a minute of video."""
        return 60 * self.num_bytes / self.video_seconds if self.video_seconds else 0.0

    @property
    def seconds_per_minute(self) -> float:
        """Seconds of processor time for a minute of video; 0 where nothing was computed."""
        return 60 * self.work_seconds / self.computed_seconds if self.computed_seconds else 0.0

    def to_dict(self) -> dict[str, object]:
        """Give everything as values for JSON."""
        rates = {"bytes_per_minute": self.bytes_per_minute, "seconds_per_minute": self.seconds_per_minute}
        failures = [{"path": path, "reason": reason} for path, reason in self.failures]
        return {**asdict(self), "folder": str(self.folder), "failures": failures, **rates}

    def summary(self) -> str:
        """Say it in a few lines."""
        num_done = self.num_clips - len(self.failures)
        lines = [
            f"{num_done:,} of {self.num_clips:,} clips have optical flow, {self.num_known:,} had it before",
            f"{self.num_bytes / 1e6:.1f} MB for {self.video_seconds / 60:.1f} minutes of video, "
            f"{self.bytes_per_minute / 1e6:.2f} MB a minute",
        ]
        if self.computed_seconds:
            lines.append(f"{self.seconds_per_minute:.1f} s of processor time for a minute of video")
        lines += [f"no flow: {path}: {reason}" for path, reason in self.failures[:NUM_LISTED]]
        more = len(self.failures) - NUM_LISTED
        return "\n".join([*lines, f"and {more} more"] if more > 0 else lines)


@dataclass(frozen=True)
class FlowTask:
    """A span whose flow is wanted, and the file that it goes to."""

    record: ClipRecord
    header: FlowHeader
    target: Path


@dataclass(frozen=True)
class FlowRow:
    """What became of it."""

    header: FlowHeader
    num_bytes: int
    work_seconds: float = 0.0


def compute_flow(
    manifest: Manifest,
    out: str | Path | None = None,
    num_workers: int = -1,
    on_progress: Callable[[int, int], None] | None = None,
    *,
    time_limit_seconds: float = 300.0,
    on_skip: Callable[[int], None] = lambda _: None,
    engine: Engine | None = None,
) -> FlowReport:
    """Compute the optical flow of every span of a manifest and keep it in a folder.

    What is there already, of the same video, is not computed again; a video that failed is tried again.

    Args:
        manifest: The clips; a span that is listed twice is done once.
        out: The folder; None: :func:`~everest.datasets.flow_files.default_flow`.
        num_workers: Processes; -1 takes one per core. 0 works in this process, where nothing can be stopped.
        on_progress: Called with the number of finished spans and the number of all.
        time_limit_seconds: A span that does not get on for so long is given up.
        on_skip: Called with the number of spans that have flow already, before they count as finished.
        engine: What does the work; None: ``num_workers`` processes of this machine.

    Raises:
        ConfigError: OpenCV is not installed.
        DataError: The folder cannot be written to.
    """
    load_opencv()
    folder = default_flow(manifest) if out is None else Path(out).expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{folder} cannot be made ({error.strerror}): name another folder with --out") from None
    tasks = _tasks(manifest, folder)
    rows: dict[int, FlowRow] = {i: row for i, task in enumerate(tasks) if (row := _known(task)) is not None}
    num_known, remaining = len(rows), [i for i in range(len(tasks)) if i not in rows]
    on_skip(num_known)
    if on_progress is not None and rows:
        on_progress(num_known, len(tasks))

    def keep(place: int, outcome: FlowRow | Lost) -> None:
        index = remaining[place]
        if isinstance(outcome, Lost):
            if outcome.error is not None:  # the folder is full, or may not be written to: no span will do better
                raise DataError(f"{outcome.reason}: name another folder with --out")
            outcome = _failed(tasks[index], outcome.reason)
        rows[index] = outcome
        if on_progress is not None:
            on_progress(len(rows), len(tasks))

    outcomes = (engine or LocalEngine(num_workers)).run(
        compute_span,
        [tasks[index] for index in remaining],
        time_limit_seconds=time_limit_seconds,
        on_done=keep,
        look_ahead=len(remaining),
        has_files=True,
    )
    for _ in outcomes:
        pass
    return _report(folder, tasks, rows, num_known)


def compute_span(task: FlowTask) -> Generator[None, None, FlowRow]:
    """Compute and write the flow of one span; every ``yield`` says that it gets on."""
    started = time.process_time()
    try:
        with open_video(task.record.source) as reader:
            first, num_frames = span_of(task.record, reader.info)
            grid = FlowGrid.of_frames(reader.info.height, reader.info.width)
            estimator = FlowEstimator(grid)
            steps, last = [], None
            for indices in chunked(first, num_frames, reader.info):
                frames = reader.read(indices if last is None else range(indices.start - 1, indices.stop)).frames.numpy()
                for step in flow_of(frames, estimator):
                    steps.append(step)
                    if len(steps) % 64 == 0:
                        yield
                last = indices
            seconds = num_frames / reader.info.fps
    except VideoError as error:
        return _failed(task, str(error).removeprefix(f"{task.record.source}: "))
    header = replace(task.header, rows=grid.rows, columns=grid.columns, seconds=seconds)
    num_bytes = write_flow(task.target, header, steps)
    return FlowRow(header, num_bytes, time.process_time() - started)


def _tasks(manifest: Manifest, folder: Path) -> list[FlowTask]:
    """List the different spans."""
    tasks: dict[str, FlowTask] = {}
    for record in manifest.records:
        name = flow_name(record, manifest.root)
        if name not in tasks:
            tasks[name] = FlowTask(record, header_of(record, manifest.root), folder / name)
    return list(tasks.values())


def _known(task: FlowTask) -> FlowRow | None:
    """Look whether the flow of the same video is there."""
    header = read_header(task.target)
    if header is None or header.fault:
        return None
    asked = task.header
    is_same = (header.num_bytes, header.modified_ns) == (asked.num_bytes, asked.modified_ns)
    return FlowRow(header, task.target.stat().st_size) if is_same else None


def _failed(task: FlowTask, reason: str) -> FlowRow:
    """Write down that there is no flow, so that training can do without this video."""
    header = replace(task.header, fault=reason)
    return FlowRow(header, write_flow(task.target, header, []))


def _report(folder: Path, tasks: list[FlowTask], rows: dict[int, FlowRow], num_known: int) -> FlowReport:
    done = [row for row in rows.values() if not row.header.fault]
    return FlowReport(
        folder,
        num_clips=len(tasks),
        num_known=num_known,
        num_bytes=sum(row.num_bytes for row in done),
        video_seconds=sum(row.header.seconds for row in done),
        computed_seconds=sum(row.header.seconds for row in done if row.work_seconds),
        work_seconds=sum(row.work_seconds for row in done),
        failures=tuple(
            (str(tasks[i].record.source), rows[i].header.fault) for i in range(len(tasks)) if rows[i].header.fault
        ),
    )
