import json
import os
import shutil
import signal
import threading
from collections.abc import Callable, Generator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import pytest

from everest.datasets import (
    CheckReport,
    ClipRecord,
    Manifest,
    check,
    check_file,
    check_manifest,
    default_report,
    load_data,
    read_manifest,
    write_quarantine,
)
from everest.datasets.check_rows import CheckRow, ReportFile
from everest.errors import DataError, ManifestError
from everest.video.source import ShardMember

BUNDLED = load_data("bundled")
CLIP = BUNDLED.records[0].path  # 118 frames, 3.93 s


def manifest_of(*paths: Path) -> Manifest:
    return Manifest(tuple(ClipRecord(path) for path in paths), (), paths[0].parent)


@pytest.fixture
def copies(tmp_path: Path) -> list[Path]:
    """Four different videos."""
    folder = tmp_path / "videos"
    folder.mkdir()
    sources = list(dict.fromkeys(r.path for r in BUNDLED.records))[:4]
    return [Path(shutil.copy(source, folder / f"{i}.mp4")) for i, source in enumerate(sources)]


@pytest.mark.parametrize("num_workers", [0, 3])
def test_every_file_is_described_once_in_order(num_workers: int) -> None:
    manifest = replace(BUNDLED, records=BUNDLED.records[:12])
    progress: list[tuple[int, int]] = []
    report = check_manifest(manifest, num_workers, lambda done, total: progress.append((done, total)))
    rows = report.rows
    assert [row.path for row in rows] == list(dict.fromkeys(r.path for r in manifest.records))
    assert progress == [(i + 1, len(rows)) for i in range(len(rows))]
    assert report.unreadable == report.faulty_records == ()
    first = rows[0]
    assert (first.num_frames, first.fps, first.height, first.width) == (118, 30.0, 128, 228)
    assert (first.codec, first.pixel_format, first.container) == ("h264", "yuv420p", "mov")
    assert (first.rotation_degrees, first.num_bytes) == (0, CLIP.stat().st_size)
    assert first.duration_seconds == pytest.approx(118 / 30)


def test_faults_are_found_and_named(tmp_path: Path) -> None:
    good = CLIP.read_bytes()
    for name, content in {"cut": good[: len(good) // 3], "empty": b"", "text": b"hello", "good": good}.items():
        (tmp_path / f"{name}.mp4").write_bytes(content)
    names = ("good", "cut", "empty", "text", "none")
    report = check_manifest(manifest_of(*(tmp_path / f"{name}.mp4" for name in names)), 1)
    rows = {row.path.stem: row for row in report.rows}
    assert list(rows) == list(names)
    assert rows["good"].fault is None
    assert rows["good"].is_constant_rate is True
    assert "empty" in str(rows["empty"].fault)
    assert "no such file" in str(rows["none"].fault)
    assert rows["cut"].fault is not None
    assert rows["text"].fault is not None
    assert all(row.fault is None or str(tmp_path) not in row.fault for row in report.rows)
    assert rows["empty"].num_frames == 0


def test_a_file_that_ends_early_is_found_although_its_header_is_whole(tmp_path: Path) -> None:
    data = bytearray(CLIP.read_bytes())
    header = data.find(b"moov")
    media = data.find(b"mdat")
    path = tmp_path / "a.mp4"
    if header < media:  # header first: the end can be cut off
        path.write_bytes(data[: len(data) // 2])
    else:  # header last: overwrite half of the pictures
        data[media + len(data) // 3 : header - 4] = bytes(header - 4 - media - len(data) // 3)
        path.write_bytes(data)
    (row,) = check_manifest(manifest_of(path), 1).rows
    assert row.num_frames == 118
    assert row.fault is not None


def damaged_at_the_end(path: Path) -> Path:
    """Write a video whose first half alone can be decoded."""
    with av.open(str(CLIP)) as container:
        packets = sorted(p.pos for p in container.demux(video=0) if p.size and p.pos is not None)
    data = bytearray(CLIP.read_bytes())
    middle = packets[len(packets) // 2]
    data[middle : packets[-1]] = bytes(packets[-1] - middle)
    path.write_bytes(data)
    return path


def test_only_the_clips_that_lie_in_the_damage_are_faulty(tmp_path: Path) -> None:
    path = damaged_at_the_end(tmp_path / "a.mp4")
    spans = ((0.0, 1.0), (0.5, 1.5), (1.5, 3.5), (2.5, 3.5), (5.0, None))
    records = tuple(ClipRecord(path, 0, None, *span) for span in spans)
    report = check_manifest(Manifest(records, ("x",), tmp_path), 1)
    assert report.faulty_records == records[2:]
    assert report.clean().records == records[:2]
    (row,) = report.rows
    assert set(row.faulty_spans) == set(spans[2:])
    assert str(row.fault).startswith("3 of 5 clips: ")
    assert row.is_constant_rate is None  # only parts of it were read


def test_clips_that_end_late_are_used_and_warned_of() -> None:
    spans = ((0.0, 3.95), (3.0, 4.5))
    records = tuple(ClipRecord(CLIP, 0, None, *span) for span in spans)
    (row,) = check_manifest(Manifest(records, ("x",), CLIP), 1).rows
    assert row.fault is None
    assert "clips end after the video does, at 3.93333 s: 3-4.5 s" in row.warnings


def test_clips_that_share_frames_are_decoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    original = check_file.open_video

    def opened(*arguments: object) -> object:
        reader = original(*arguments)  # type: ignore[arg-type]
        take = reader.read
        reader.read = lambda indices: (read.extend(indices), take(indices))[1]  # type: ignore[method-assign]
        return reader

    monkeypatch.setattr(check_file, "open_video", opened)
    records = tuple(ClipRecord(CLIP, 0, None, start / 10, start / 10 + 1.0) for start in range(10))
    assert check_manifest(Manifest(records, ("x",), CLIP), 0).unreadable == ()
    assert sorted(read) == list(range(57))


def test_what_is_odd_but_can_be_used_is_a_warning(tmp_path: Path) -> None:
    shutil.copy(CLIP, tmp_path / "a.avi")
    shutil.copy(CLIP, tmp_path / "b.mp4")
    records = (ClipRecord(tmp_path / "a.avi", 0), ClipRecord(tmp_path / "b.mp4", None, None, 1.0, 2.0))
    report = check_manifest(Manifest(records, ("x",), tmp_path), 1)
    a, b = report.rows
    assert (a.fault, b.fault) == (None, None)
    assert a.warnings == ("the container is mov, not what the extension 'avi' says",)
    assert b.warnings == (
        "shorter than a clip of 16 frames at stride 4",
        f"the same content as {tmp_path / 'a.avi'}",
    )
    assert report.num_unlabelled == 1
    assert "1 clip of 2 without a label" in report.summary()


def write_small(path: Path, left_out: tuple[int, ...] = ()) -> Path:
    """Encode the clip again, in a container without a header of its own for everything."""
    with av.open(str(CLIP)) as given, av.open(str(path), "w") as made:
        stream = made.add_stream("mpeg4", rate=30)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for index, frame in enumerate(given.decode(video=0)):
            small = frame.reformat(64, 48)
            small.pts, small.time_base = index, Fraction(1, 30)
            if index % 7 not in left_out:
                made.mux(stream.encode(small))
        made.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(("promised", "is_used"), [(120, True), (500, False)])
def test_a_header_that_promises_too_much_is_warned_of(promised: int, is_used: bool, tmp_path: Path) -> None:
    path = write_small(tmp_path / "a.avi")
    content = bytearray(path.read_bytes())
    at = content.find(b"strh") + 40  # number of frames of the stream
    assert int.from_bytes(content[at : at + 4], "little") == 118
    content[at : at + 4] = promised.to_bytes(4, "little")
    path.write_bytes(content)
    (row,) = check_manifest(manifest_of(path), 1).rows
    assert row.warnings == (f"the header promises {promised} frames, the file holds 118",)
    assert (row.fault is None) is is_used


@pytest.mark.parametrize("left_out", [(), (2, 3)])
def test_a_variable_frame_rate_is_seen(left_out: tuple[int, ...], tmp_path: Path) -> None:
    path = write_small(tmp_path / "a.mkv", left_out)  # which rounds times to milliseconds
    (row,) = check_manifest(manifest_of(path), 1).rows
    assert row.fault is None
    assert row.is_constant_rate is not bool(left_out)


def test_members_of_a_shard_are_checked_one_by_one(tmp_path: Path) -> None:
    good = CLIP.read_bytes()
    shard = tmp_path / "000.tar"
    shard.write_bytes(b"x" * 512 + good + bytes(100))
    records = tuple(
        ClipRecord(shard / name, 0, member=ShardMember(str(shard), name, offset, size))
        for name, offset, size in (("a.mp4", 512, len(good)), ("b.mp4", 100, 2000), ("c.mp4", 512, len(good) + 9999))
    )
    report = check_manifest(Manifest(records, ("x",), tmp_path), 1)
    assert [row.fault is None for row in report.rows] == [True, False, False]
    assert report.rows[0].num_bytes == len(good)
    assert "the shard ends early" in str(report.rows[2].fault)
    assert str(shard) not in str(report.rows[2].fault)
    assert report.clean().records == records[:1]


# --- files that stop the process which reads them


def hang() -> None:
    threading.Event().wait()


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize(
    ("act", "fault"),
    [(hang, "took longer than 0.5 s and was stopped"), (die, "the decoder died: its process was killed by SIGKILL")],
)
def test_a_file_that_hangs_or_kills_the_decoder_is_faulty(
    act: Callable[[], None], fault: str, copies: list[Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def task(item: check_file.CheckTask) -> Generator[None, None, CheckRow]:
        if item.asked.path == copies[1]:
            act()
        return (yield from check_file.check_file(item))

    manifest, kept = manifest_of(*copies), tmp_path / "report.jsonl"
    with monkeypatch.context() as patch:
        patch.setattr(check, "check_file", task)
        report = check_manifest(manifest, 2, report=kept, time_limit_seconds=0.5)
    assert [row.path for row in report.unreadable] == [copies[1]]
    assert str(report.rows[1].fault).startswith(fault)
    assert report.clean().records == tuple(r for r in manifest.records if r.path != copies[1])
    again = check_manifest(manifest, 2, report=kept)  # that may have been the machine: it is tried again
    assert (again.num_reused, again.unreadable) == (3, ())


# --- going on where a check was stopped


def test_an_interrupted_check_goes_on_where_it_stopped(copies: list[Path], tmp_path: Path) -> None:
    manifest, kept = manifest_of(*copies), tmp_path / "report.jsonl"

    def stop(done: int, _: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        check_manifest(manifest, 1, stop, report=kept)
    lines = kept.read_bytes().splitlines()
    assert len(lines) == 2
    kept.write_bytes(kept.read_bytes() + lines[0][: len(lines[0]) // 2])  # killed in the middle of a line
    progress: list[tuple[int, int]] = []
    report = check_manifest(manifest, 1, lambda *numbers: progress.append(numbers), report=kept)
    assert report.num_reused == 2
    assert progress == [(2, 4), (3, 4), (4, 4)]
    assert report.rows == check_manifest(manifest, 0).rows
    assert [json.loads(line)["path"] for line in kept.read_text().splitlines()] == [str(path) for path in copies]


def test_rows_are_used_again_only_for_the_same_file_and_clips(copies: list[Path], tmp_path: Path) -> None:
    manifest, kept = manifest_of(*copies), tmp_path / "report.jsonl"
    check_manifest(manifest, 0, report=kept)
    assert check_manifest(manifest, 0, report=kept).num_reused == 4
    os.utime(copies[0], ns=(1, 1))
    copies[1].write_bytes(b"")
    records = (*manifest.records[:3], replace(manifest.records[3], start_seconds=1.0))
    report = check_manifest(replace(manifest, records=records), 0, report=kept)
    assert report.num_reused == 1
    assert [row.path for row in report.unreadable] == [copies[1]]


def test_rows_of_another_version_are_not_used(copies: list[Path], tmp_path: Path) -> None:
    kept = tmp_path / "report.jsonl"
    check_manifest(manifest_of(*copies), 0, report=kept)
    lines = [json.loads(line) for line in kept.read_text().splitlines()]
    lines[0]["decoder"] = "PyAV 1.0"
    del lines[1]["codec"]
    lines[2]["more"] = 1
    kept.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert check_manifest(manifest_of(*copies), 0, report=kept).num_reused == 1


@pytest.mark.parametrize("content", ["a list of mine", "hello\n", "[1, 2]\n", '{"path": "a"}\nhello\n'])
def test_a_file_that_is_no_report_is_left_alone(content: str, copies: list[Path], tmp_path: Path) -> None:
    kept = tmp_path / "report.jsonl"
    kept.write_text(content)
    with pytest.raises(DataError, match="not the report of a check"):
        check_manifest(manifest_of(*copies), 0, report=kept)
    assert kept.read_text() == content


def test_a_report_that_cannot_be_written_is_an_error(copies: list[Path], tmp_path: Path) -> None:
    for place in (tmp_path / "none" / "report.jsonl", tmp_path):
        with pytest.raises(DataError, match="--report"):
            check_manifest(manifest_of(*copies), 0, report=place)


def test_two_checks_do_not_write_one_report_at_once(copies: list[Path], tmp_path: Path) -> None:
    kept = tmp_path / "report.jsonl"
    refused = []

    def begin_another(done: int, _: int) -> None:
        before = kept.read_bytes()
        with pytest.raises(DataError, match="wait until that is done, or name another file with --report"):
            check_manifest(manifest_of(*copies), 0, report=kept)
        refused.append(kept.read_bytes() == before)

    report = check_manifest(manifest_of(*copies), 0, begin_another, report=kept)
    assert refused == [True] * len(copies)
    assert len(kept.read_text().splitlines()) == len(report.rows)
    assert check_manifest(manifest_of(*copies), 0, report=kept).num_reused == len(copies)
    assert sorted(path.name for path in tmp_path.glob("report*")) == ["report.jsonl"]


def test_any_file_name_survives_the_report(tmp_path: Path) -> None:
    rows = tuple(CheckRow(tmp_path / name, fault="x") for name in ("new\nline", "\udcff", "日本", '"'))
    with ReportFile(tmp_path / "r.jsonl") as kept:
        for row in rows:
            kept.add(row)
    with ReportFile(tmp_path / "r.jsonl") as kept:
        assert tuple(kept.rows.values()) == rows


def test_the_report_lies_beside_the_manifest(tmp_path: Path) -> None:
    assert default_report(tmp_path / "list.csv") == tmp_path / "list.csv.check.jsonl"
    assert default_report(tmp_path) == Path(f"{tmp_path.name}.check.jsonl")
    assert default_report("bundled") == Path("bundled.check.jsonl")
    assert default_report("s3://bucket/packed/manifest.csv") == Path("manifest.csv.check.jsonl")


# --- what is made of it


def faulty_report(tmp_path: Path) -> CheckReport:
    good, bad, other = tmp_path / "good.mp4", tmp_path / "bad\n.mp4", tmp_path / "other.mp4"
    shutil.copy(CLIP, good)
    bad.write_bytes(b"")
    other.write_bytes(b"")
    records = (
        ClipRecord(good, 0, "train", 0.0, 3.0),
        ClipRecord(good, 2, "test", 1.0, None),
        ClipRecord(bad, 1, "train"),
        ClipRecord(other, 0, "train"),
    )
    return check_manifest(Manifest(records, ("jump", "run", "sit"), tmp_path), 0)


def test_a_clean_manifest_keeps_what_can_be_used_as_it_is(tmp_path: Path) -> None:
    report = faulty_report(tmp_path)
    quarantine = write_quarantine(report, tmp_path / "clean.csv")
    assert quarantine.to_dict() == {
        "path": str(tmp_path / "clean.csv"),
        "num_clips": 2,
        "num_left_out": 2,
        "emptied_classes": ["run"],
    }
    assert quarantine.summary().splitlines() == [
        f"written: {tmp_path / 'clean.csv'}, 2 clips; left out: 2",
        "1 class without any clip now: run",
    ]
    clean = read_manifest(tmp_path / "clean.csv")
    assert clean.class_names == ("jump", "run", "sit")
    assert clean.records == report.manifest.records[:2]
    with pytest.raises(ManifestError, match="exists already"):
        write_quarantine(report, tmp_path / "clean.csv")


def test_nothing_that_can_be_used_is_an_error(tmp_path: Path) -> None:
    report = check_manifest(manifest_of(tmp_path / "a.mp4", tmp_path / "b.mp4"), 0)
    with pytest.raises(DataError, match="none of the 2 clips can be used"):
        write_quarantine(report, tmp_path / "clean.csv")


def test_the_summary_groups_faults(tmp_path: Path) -> None:
    report = faulty_report(tmp_path)
    text = report.summary()
    assert "3 files checked" in text
    assert "h264 yuv420p (1)" in text
    assert "128x228 (1)" in text
    assert "2 files cannot be read:\n  2 x the file is empty\n" in text
    assert f"{tmp_path}/bad\\n.mp4" in text  # one line for each file
    values = json.loads(json.dumps(report.to_dict()))
    assert (values["num_files"], values["num_unreadable"], values["num_unusable_clips"]) == (3, 2, 2)
    assert values["files"][0]["fault"] is None
    assert "2 unreadable" in repr(report)
