from dataclasses import replace
from pathlib import Path

import pytest

from everest.datasets import ClipRecord, Manifest, check_manifest, load_data

BUNDLED = load_data("bundled")


@pytest.mark.parametrize("num_workers", [0, 3])
def test_every_file_is_described_once_in_order(num_workers: int) -> None:
    manifest = replace(BUNDLED, records=BUNDLED.records[:12])
    progress: list[tuple[int, int]] = []
    rows = check_manifest(manifest, num_workers, lambda done, total: progress.append((done, total)))
    assert [row.path for row in rows] == list(dict.fromkeys(r.path for r in manifest.records))
    assert progress == [(i + 1, len(rows)) for i in range(len(rows))]
    assert all(row.fault is None for row in rows)
    first = rows[0]
    assert (first.num_frames, first.fps, first.height, first.width) == (118, 30.0, 128, 228)
    assert (first.codec, first.rotation_degrees) == ("h264", 0)
    assert first.duration_seconds == pytest.approx(118 / 30)


def test_faults_are_found_and_named(tmp_path: Path) -> None:
    good = BUNDLED.records[0].path.read_bytes()
    for name, content in {"cut": good[: len(good) // 3], "empty": b"", "text": b"hello", "good": good}.items():
        (tmp_path / f"{name}.mp4").write_bytes(content)
    names = ("good", "cut", "empty", "text", "none")
    records = tuple(ClipRecord(tmp_path / f"{name}.mp4") for name in names)
    rows = {row.path.stem: row for row in check_manifest(Manifest(records, (), tmp_path), 1)}
    assert list(rows) == list(names)
    assert rows["good"].fault is None
    assert "empty" in str(rows["empty"].fault)
    assert "no such file" in str(rows["none"].fault)
    assert rows["cut"].fault is not None
    assert rows["text"].fault is not None
    assert all(row.fault is None or str(tmp_path) not in row.fault for row in rows.values())
    assert rows["empty"].num_frames == 0


def test_a_file_that_ends_early_is_found_although_its_header_is_whole(tmp_path: Path) -> None:
    data = bytearray(BUNDLED.records[0].path.read_bytes())
    header = data.find(b"moov")
    media = data.find(b"mdat")
    path = tmp_path / "a.mp4"
    if header < media:  # header first: the end can be cut off
        path.write_bytes(data[: len(data) // 2])
    else:  # header last: overwrite half of the pictures
        data[media + len(data) // 3 : header - 4] = bytes(header - 4 - media - len(data) // 3)
        path.write_bytes(data)
    (row,) = check_manifest(Manifest((ClipRecord(path),), (), tmp_path), 1)
    assert row.num_frames == 118
    assert row.fault is not None


def test_spans_beyond_the_end_are_named() -> None:
    path = BUNDLED.records[0].path  # 3.93 s
    spans = ((0.0, 3.95), (3.0, 4.5), (5.0, None))
    records = tuple(ClipRecord(path, 0, None, *span) for span in spans)
    (row,) = check_manifest(Manifest(records, ("x",), path), 1)
    assert row.fault == "clips reach beyond the end at 3.93333 s: 3-4.5 s, 5-end"
