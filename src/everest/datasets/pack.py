"""Pack a manifest: short clips that decode fast, in tar shards that can be read at random, locally or from a URL.

``OUT`` holds shards in the layout of WebDataset (``KEY.mp4`` beside ``KEY.json``), ``manifest.csv``, which is a
manifest like any other whose clips say where in which shard they lie, and ``pack.json`` with settings, sizes and
failures.
"""

import hashlib
import io
import json
import shutil
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

from everest.datasets.engine import Engine, LocalEngine
from everest.datasets.lock import Lock
from everest.datasets.manifest import write_manifest
from everest.datasets.outside import clips_outside
from everest.datasets.pack_work import Outcome, PackWork, Row, keep_clip, sync, write_text
from everest.datasets.packing import PackedClip, PackSettings
from everest.datasets.pool import Lost
from everest.datasets.records import ClipRecord, Manifest, relative_path
from everest.errors import DataError
from everest.hashing import sha256_of
from everest.links import write_new
from everest.texts import printable
from everest.video.source import ShardMember

SUMMARY, MANIFEST = "pack.json", "manifest.csv"
LOCK = ".lock"  # there while somebody packs
_BEGUN = (LOCK, f"{SUMMARY}.part")  # what a start leaves that is killed before its first shard
_WORK = ".encoding"  # clips that are in no shard yet
_BLOCK = 512  # bytes of a tar header, and what contents are filled up to
_FORMAT_VERSION = 1
NUM_LISTED = 5

OnProgress = Callable[[int, int], None]


@dataclass(frozen=True, repr=False)
class PackReport:
    """What became of a manifest.

    Attributes:
        manifest: The packed clips.
        failures: Source and reason of every clip that is not among them.
        num_reused: Clips that an earlier start had packed.
        values: What ``pack.json`` holds: settings, sizes, times.
        outside: Source files that do not lie below the folder of the list.
    """

    manifest: Manifest
    failures: tuple[tuple[str, str], ...]
    num_reused: int
    values: dict[str, Any]
    outside: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"PackReport({len(self.manifest)} clips, {len(self.failures)} failures)"

    def to_dict(self) -> dict[str, Any]:
        """Give everything as plain values that JSON can hold."""
        return {**self.values, "num_reused": self.num_reused, "outside": list(self.outside)}

    def summary(self) -> str:
        """Tell a person, in a few lines."""
        v = self.values
        before, after = v["bytes_before"] / 1e6, v["bytes_after"] / 1e6
        lines = [
            f"{v['num_clips']} clips in {len(v['shards'])} shards, {self.num_reused} of them packed before",
            f"bytes: {before:.1f} MB before, {after:.1f} MB after (x{after / max(before, 1e-9):.2f})",
            f"reading 16 frames at stride 4: {v['ms_before']:.1f} ms before, {v['ms_after']:.1f} ms after "
            f"(x{v['ms_before'] / max(v['ms_after'], 1e-9):.1f} as fast)",
            f"likeness of re-encoded pictures: {v['psnr_mean']:.1f} dB on average, {v['psnr_min']:.1f} dB at least",
        ]
        if self.failures:
            lines.append(f"{len(self.failures)} clips could not be packed:")
            lines += [f"  {printable(source)}: {reason}" for source, reason in self.failures[:NUM_LISTED]]
        if len(self.failures) > NUM_LISTED:
            lines.append(f"  and {len(self.failures) - NUM_LISTED} more, see {SUMMARY}")
        if self.outside:
            listed = ", ".join(printable(place) for place in self.outside[:NUM_LISTED])
            more = f" and {len(self.outside) - NUM_LISTED} more" if len(self.outside) > NUM_LISTED else ""
            lines.append(
                f"{len(self.outside)} files are not below the folder of the list: {listed}{more}; if others wrote it, "
                "see that these may be given away"
            )
        return "\n".join(lines)


def pack_manifest(
    manifest: Manifest,
    out: str | Path,
    settings: PackSettings | None = None,
    *,
    num_workers: int = -1,
    time_limit_seconds: float = 300.0,
    on_progress: OnProgress | None = None,
    on_skip: Callable[[int], None] = lambda _: None,
    engine: Engine | None = None,
) -> PackReport:
    """Re-encode every clip of a manifest into shards.

    A clip that is a span of a longer video becomes a clip of its own. Each one is read back and compared with its
    source before it counts. The order within the shards is mixed, the same every time, so that readers that go through
    them in a row see all classes. Run again, it keeps finished clips and tries those that failed once more.

    Args:
        manifest: The clips.
        out: A new or empty folder, or one in which the same manifest was being packed with the same settings.
        settings: How; None: short side 256, a key frame every 12 frames, crf 20, 256 clips in a shard.
        num_workers: Processes; -1 takes one per core.
        time_limit_seconds: A clip that makes no progress for so long is given up.
        on_progress: Called with the number of finished and of all clips.
        on_skip: Called with the number of clips that an earlier start has packed, before they count as finished.
        engine: What does the work; None: ``num_workers`` processes of this machine.

    Returns:
        What was packed, and what could not be.

    Raises:
        DataError: The folder holds something else, cannot be written, or is being written by another program; or not a
            single clip can be packed.
    """
    settings = settings or PackSettings()
    folder = Path(out).expanduser().absolute()
    _refuse_foreign(folder, manifest, settings)
    lock = Lock(folder / LOCK, f"{folder}: {{owner}} is packing into it: wait until that is done, or stop it")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{folder}: cannot be used: {error}") from None
    try:
        with lock:
            _prepare(folder, manifest, settings)
            order = sorted(range(len(manifest)), key=lambda index: hashlib.sha256(f"shard {index}".encode()).digest())
            size = settings.clips_per_shard
            shards = [tuple(order[start : start + size]) for start in range(0, len(order), size)]
            work = PackWork(manifest, settings, folder / _WORK, shards, partial(_finished_rows, folder))
            with work.encoding(engine or LocalEngine(num_workers), time_limit_seconds):
                rows, num_reused = _write_shards(folder, manifest, work, on_progress, on_skip)
            shutil.rmtree(folder / _WORK, ignore_errors=True)
            report = _finish(folder, manifest, settings, rows, num_reused)
            return replace(report, outside=clips_outside(manifest))
    except OSError as error:
        raise DataError(f"{folder}: packing stopped: {error.strerror or error}; run it again to go on") from None


def _write_shards(
    folder: Path, manifest: Manifest, work: PackWork, on_progress: OnProgress | None, on_skip: Callable[[int], None]
) -> tuple[dict[int, Row], int]:
    """Write all shards that are not there yet; give what is written down of every clip, and how many were there."""
    rows: dict[int, Row] = {}
    num_reused = 0
    for number, indices in enumerate(work.shards):
        plan = work.plan(number)
        packed, found = plan.packed, plan.rows or []
        num_reused += len(packed)
        clips = _clips(folder, number, indices, work)
        if clips is not None:
            found = []
            for row in _write_shard(folder, number, manifest, clips):
                found.append(row)
                on_skip(int(row["index"] in packed))
                if on_progress is not None:
                    on_progress(len(rows) + len(found), len(manifest))
        else:
            on_skip(len(packed))
        rows |= {row["index"]: row for row in found}
        if on_progress is not None:
            on_progress(len(rows), len(manifest))
    return rows, num_reused


def _clips(folder: Path, number: int, indices: tuple[int, ...], work: PackWork) -> Iterator[tuple[int, Outcome]] | None:
    """Give the clips of a shard in their order; None where it is finished and nothing can be added to it."""
    plan = work.plan(number)
    if plan.rows is None:
        return ((index, plan.kept[index] if index in plan.kept else work.take(index)) for index in indices)
    clips: dict[int, Outcome] = {**plan.kept, **{index: work.take(index) for index in plan.missing}}
    if not any(isinstance(outcome, PackedClip) for outcome in clips.values()):
        return None
    clips |= _take_out(folder, number, plan.rows)
    return ((index, clips[index]) for index in indices)


def _what_is_packed(manifest: Manifest, settings: PackSettings) -> dict[str, Any]:
    return {"format_version": _FORMAT_VERSION, "source_digest": manifest.digest, "settings": asdict(settings)}


def _refuse_foreign(folder: Path, manifest: Manifest, settings: PackSettings) -> None:
    """See that the folder is new, empty, or the one of this manifest and these settings; nothing is changed."""
    given = _what_is_packed(manifest, settings)
    summary = folder / SUMMARY
    try:
        if summary.is_file():
            known = json.loads(summary.read_text(encoding="utf-8"))
            if {key: known.get(key) for key in given} != given:
                raise DataError(f"{folder} holds another manifest, or other settings: choose a new or empty folder")
        elif folder.exists() and (not folder.is_dir() or any(path.name not in _BEGUN for path in folder.iterdir())):
            raise DataError(f"{folder} holds files that are not those of a pack: choose a new or empty folder")
    except (OSError, ValueError) as error:
        raise DataError(f"{folder}: cannot be used: {error}") from None


def _prepare(folder: Path, manifest: Manifest, settings: PackSettings) -> None:
    """Begin in the folder, or go on in it; somebody may have begun there since it was looked at."""
    _refuse_foreign(folder, manifest, settings)
    if not (folder / SUMMARY).is_file():
        write_text(folder / SUMMARY, json.dumps(_what_is_packed(manifest, settings), indent=2) + "\n")
    if (folder / _WORK).is_symlink():
        raise DataError(f"{folder / _WORK}: is a link, through which nothing is written; delete it")
    (folder / _WORK).mkdir(exist_ok=True)


def _take_out(folder: Path, number: int, rows: list[Row]) -> dict[int, Outcome]:
    """Take the clips out of a finished shard again, to which one that had failed can be added."""
    clips: dict[int, Outcome] = {}
    with (folder / f"{number:06d}.tar").open("rb") as shard:
        for row in rows:
            if "failure" not in row:
                path = folder / _WORK / f"{row['index']:08d}.mp4"
                clip = PackedClip(path, **{f.name: row[f.name] for f in fields(PackedClip)[1:]})
                shard.seek(row["offset"])
                write_new(path, shard.read(row["num_bytes"]))
                keep_clip(path, clip)
                clips[row["index"]] = clip
    return clips


def _write_shard(
    folder: Path,
    number: int,
    manifest: Manifest,
    work: Iterator[tuple[int, PackedClip | Lost]],
) -> Iterator[dict[str, Any]]:
    """Write a shard and its list, and give each clip's line as it comes; files are there only when complete."""
    name = f"{number:06d}.tar"
    part = folder / f"{name}.part"
    rows: list[dict[str, Any]] = []
    part.unlink(missing_ok=True)  # it may be a link to something else
    with tarfile.open(part, "w", format=tarfile.USTAR_FORMAT) as tar:
        for index, outcome in work:
            record = manifest.records[index]
            if isinstance(outcome, Lost):
                reason = outcome.reason.removeprefix(f"{record.path}: ")
                rows.append({"index": index, "source": str(record.path), "failure": reason})
            else:
                description = _describe(manifest, record, outcome)
                _add(tar, f"{index:08d}.json", json.dumps(description, indent=1).encode())
                content, offset = outcome.path.read_bytes(), tar.offset + _BLOCK
                _add(tar, f"{index:08d}.mp4", content)
                values = {k: v for k, v in asdict(outcome).items() if k != "path"}
                place = {"index": index, "shard": name, "offset": offset, "num_bytes": len(content)}
                rows.append({**place, "sha256": hashlib.sha256(content).hexdigest(), **values})
            yield rows[-1]
    listed = {"shard": {"name": name, "bytes": part.stat().st_size, "sha256": sha256_of(part)}, "rows": rows}
    sync(part)
    part.replace(folder / name)
    write_text(folder / f"{number:06d}.json", json.dumps(listed) + "\n")
    for row in rows:
        for ending in ("mp4", "json"):
            (folder / _WORK / f"{row['index']:08d}.{ending}").unlink(missing_ok=True)


def _finished_rows(folder: Path, number: int) -> list[dict[str, Any]] | None:
    """Read the list of a shard that an earlier start has finished; None where there is none."""
    listed, shard = folder / f"{number:06d}.json", folder / f"{number:06d}.tar"
    if not listed.is_file() or not shard.is_file():
        return None
    try:
        values = json.loads(listed.read_text(encoding="utf-8"))
    except ValueError:
        return None
    if values["shard"]["bytes"] != shard.stat().st_size:
        return None
    rows: list[dict[str, Any]] = values["rows"]
    if any("failure" not in row and "sha256" not in row for row in rows):  # as earlier versions left them
        with shard.open("rb") as file:
            for row in (row for row in rows if "failure" not in row):
                file.seek(row["offset"])
                row["sha256"] = hashlib.sha256(file.read(row["num_bytes"])).hexdigest()
        write_text(listed, json.dumps({**values, "rows": rows}) + "\n")
    return rows


def _finish(
    folder: Path, manifest: Manifest, settings: PackSettings, rows: dict[int, dict[str, Any]], num_reused: int
) -> PackReport:
    """Write manifest and summary."""
    failures = tuple((rows[i]["source"], rows[i]["failure"]) for i in sorted(rows) if "failure" in rows[i])
    packed = [rows[i] for i in sorted(rows) if "failure" not in rows[i]]
    if not packed:
        raise DataError(f"{folder}: none of {len(rows)} clips can be packed; the first one: {': '.join(failures[0])}")
    records = tuple(_record(folder, manifest.records[row["index"]], row) for row in packed)
    result = Manifest(records, manifest.class_names, folder / MANIFEST)
    write_manifest(result, folder / MANIFEST, overwrite=True)
    numbers = range(-(-len(manifest) // settings.clips_per_shard))
    shards = [json.loads((folder / f"{n:06d}.json").read_text(encoding="utf-8"))["shard"] for n in numbers]
    values = {
        "format_version": _FORMAT_VERSION,
        "source_digest": manifest.digest,
        "settings": asdict(settings),
        "digest": result.digest,
        "num_clips": len(packed),
        "num_frames": sum(row["num_frames"] for row in packed),
        "bytes_before": sum(row["source_bytes"] for row in packed),
        "bytes_after": sum(shard["bytes"] for shard in shards),
        "ms_before": 1e3 * sum(row["seconds_before"] for row in packed) / len(packed),
        "ms_after": 1e3 * sum(row["seconds_after"] for row in packed) / len(packed),
        "psnr_mean": sum(row["psnr"] for row in packed) / len(packed),
        "psnr_min": min(row["psnr"] for row in packed),
        "shards": shards,
        "failures": [{"source": source, "reason": reason} for source, reason in failures],
    }
    write_text(folder / SUMMARY, json.dumps(values, indent=2) + "\n")
    return PackReport(result, failures, num_reused, values)


def _record(folder: Path, source: ClipRecord, row: dict[str, Any]) -> ClipRecord:
    shard, name = folder / row["shard"], f"{row['index']:08d}.mp4"
    member = ShardMember(str(shard), name, row["offset"], row["num_bytes"], row["sha256"])
    return replace(source, path=shard / name, start_seconds=None, end_seconds=None, member=member)


def _describe(manifest: Manifest, record: ClipRecord, clip: PackedClip) -> dict[str, Any]:
    """What other readers of the shard may want to know of a clip."""
    return {
        "label": record.label,
        "class_name": None if record.label is None else manifest.class_names[record.label],
        "split": record.split,
        "source": relative_path(record.path, manifest.root),
        "start": record.start_seconds,
        "end": record.end_seconds,
        "num_frames": clip.num_frames,
        "fps": clip.rate,
        "height": clip.height,
        "width": clip.width,
    }


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    """Add a member without anything that differs from one run to the next."""
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(content), 0o644
    tar.addfile(info, io.BytesIO(content))
