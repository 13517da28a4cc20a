"""Look at every video before training does: decode it fully and say what is wrong with it."""

import hashlib
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

from everest.datasets.check_file import CheckTask, check_file
from everest.datasets.check_report import CheckReport
from everest.datasets.check_rows import CheckRow, ReportFile
from everest.datasets.engine import Engine, LocalEngine
from everest.datasets.pool import Lost
from everest.datasets.records import ClipRecord, Manifest
from everest.datasets.source import BUNDLED
from everest.video.backends import describe_decoder
from everest.video.source import VideoSource, is_url, open_member, say_location
from everest.video.urls import Url


def check_manifest(
    manifest: Manifest,
    num_workers: int = -1,
    on_progress: Callable[[int, int], None] | None = None,
    *,
    report: str | Path | None = None,
    time_limit_seconds: float = 60.0,
    on_skip: Callable[[int], None] = lambda _: None,
    engine: Engine | None = None,
) -> CheckReport:
    """Open and decode every file of a manifest: all of it, or the parts that clips are taken from.

    Args:
        manifest: The clips; a file that holds several of them is opened once.
        num_workers: Processes; -1 takes one per core. 0 decodes in this process, where nothing can be stopped.
        on_progress: Called with the number of finished files and the number of all.
        report: Where rows are kept while they come in, as JSON lines. What is in it already is not checked again,
            if path, size and time of the last change of the file, its clips and the version of the decoder are the
            same. None: nowhere.
        time_limit_seconds: A file that does not give some 64 MiB of frames in this time is stopped, and faulty.
        on_skip: Called with the number of files that the report knows already, before they count as finished.
        engine: What does the work; None: ``num_workers`` processes of this machine.

    Returns:
        One row per distinct file, in the order of the manifest.

    Raises:
        DataError: The report cannot be used.
    """
    tasks = _tasks(manifest)
    with ReportFile(report) if report is not None else nullcontext() as kept:
        before = {} if kept is None else kept.rows
        known = {i: before[t.asked.path] for i, t in enumerate(tasks) if t.asked.path in before}
        known = {i: row for i, row in known.items() if row.answers(tasks[i].asked)}
        remaining = [i for i in range(len(tasks)) if i not in known]
        rows: dict[int, CheckRow] = dict(known)
        on_skip(len(known))
        if on_progress is not None and known:
            on_progress(len(known), len(tasks))

        def keep(place: int, outcome: CheckRow | Lost) -> None:
            index = remaining[place]
            row = outcome if isinstance(outcome, CheckRow) else _lost_row(tasks[index].asked, outcome)
            rows[index] = row
            if kept is not None:
                kept.add(row)
            if on_progress is not None:
                on_progress(len(rows), len(tasks))

        outcomes = (engine or LocalEngine(num_workers)).run(
            check_file,
            [tasks[index] for index in remaining],
            time_limit_seconds=time_limit_seconds,
            on_done=keep,
            look_ahead=len(remaining),  # rows are small, and one long video must not hold up the others
        )
        for _ in outcomes:
            pass
        in_order = _hash_twins([rows[index] for index in range(len(tasks))], tasks)
        if kept is not None:
            kept.finish(in_order)
    return CheckReport(manifest, _mark_copies(in_order), len(known))


def default_report(data: str | Path) -> Path:
    """Name the report of a check: beside a manifest; for a folder, a URL or bundled data in the current folder."""
    if str(data) == BUNDLED or is_url(str(data)) or Path(data).expanduser().is_dir():
        name = Url(str(data)) if is_url(str(data)) else str(data)
        return Path(f"{Path(name).expanduser().absolute().name}.check.jsonl")
    path = Path(data).expanduser()
    return path.with_name(f"{path.name}.check.jsonl")


def _tasks(manifest: Manifest) -> list[CheckTask]:
    """List the distinct files with their clips."""
    decoder = describe_decoder().removeprefix("decoding with ")
    records_of: dict[VideoSource, list[ClipRecord]] = {}
    for record in manifest.records:
        records_of.setdefault(record.source, []).append(record)
    tasks = []
    for source, records in records_of.items():
        spans = tuple(dict.fromkeys((r.start_seconds, r.end_seconds) for r in records))
        num_bytes, modified_ns = stat_source(source)
        tasks.append(CheckTask(source, CheckRow(records[0].path, num_bytes, modified_ns, spans, decoder)))
    return tasks


def stat_source(source: VideoSource) -> tuple[int, int]:
    """Look up size and time of the last change; 0 where there is no file or no such time."""
    try:
        status = (source if isinstance(source, Path) else Path(source.shard)).stat()
    except (OSError, ValueError):  # not there, or a name that cannot be one
        return (0 if isinstance(source, Path) else source.num_bytes), 0
    return (status.st_size if isinstance(source, Path) else source.num_bytes), status.st_mtime_ns


def _lost_row(asked: CheckRow, lost: Lost) -> CheckRow:
    """Describe a file that stopped the process which read it."""
    fault = f"the decoder died: {lost.reason}" if lost.has_died else lost.reason
    return replace(asked, fault=fault, faulty_spans=asked.spans, was_stopped=True)


def _hash_twins(rows: list[CheckRow], tasks: list[CheckTask]) -> tuple[CheckRow, ...]:
    """Hash the files of the same size that were not hashed before, and no others."""
    sizes = Counter(row.num_bytes for row in rows if row.fault is None)
    return tuple(
        replace(row, content_hash=_hash(task.source))
        if row.fault is None and sizes[row.num_bytes] > 1 and not row.content_hash and not _is_remote(task.source)
        else row
        for row, task in zip(rows, tasks, strict=True)
    )


def _mark_copies(rows: tuple[CheckRow, ...]) -> tuple[CheckRow, ...]:
    """Warn of files with the same content."""
    first_of: dict[str, Path] = {}
    marked = []
    for row in rows:
        warnings = row.warnings
        if row.content_hash:
            first = first_of.setdefault(row.content_hash, row.path)
            warnings += (f"the same content as {say_location(first)}",) if first != row.path else ()
        marked.append(replace(row, warnings=warnings))
    return tuple(marked)


def _is_remote(source: VideoSource) -> bool:
    return not isinstance(source, Path) and is_url(source.shard)  # it would be fetched once more


def _hash(source: VideoSource) -> str:
    with source.open("rb") if isinstance(source, Path) else open_member(source) as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()
