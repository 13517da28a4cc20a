"""What a report holds stays there, whatever happens to the next check."""

from pathlib import Path

import pytest

from everest.datasets.check_rows import CheckRow, ReportFile
from everest.errors import DataError
from full_disk import no_file_above

ROWS = tuple(CheckRow(Path(f"/videos/{number}.mp4"), num_bytes=1) for number in range(100))


def a_report(path: Path, rows: tuple[CheckRow, ...] = ROWS) -> bytes:
    with ReportFile(path) as report:
        for row in rows:
            report.add(row)
    return path.read_bytes()


def test_a_full_disk_takes_no_row_that_was_there(tmp_path: Path) -> None:
    path = tmp_path / "report.jsonl"
    before = a_report(path)
    with no_file_above(len(before) // 2):
        with pytest.raises(DataError, match="cannot be written"), ReportFile(path) as report:
            report.add(ROWS[0])
        with pytest.raises(DataError, match="cannot be written"), ReportFile(path) as report:
            report.finish(ROWS)
    assert path.read_bytes() == before
    assert len(a_report(path, ROWS[:1])) > len(before)


def test_of_a_line_that_was_cut_off_nothing_is_left(tmp_path: Path) -> None:
    path = tmp_path / "report.jsonl"
    whole = a_report(path)
    lines = whole.splitlines(keepends=True)
    for cut in (whole[:-1], whole + b'{"path"', lines[0][:20]):
        path.write_bytes(cut)
        with no_file_above(200), ReportFile(path) as report:
            assert list(report.rows.values()) == list(ROWS[: cut.count(b"\n")])
        assert path.read_bytes() == b"".join(lines[: cut.count(b"\n")])
