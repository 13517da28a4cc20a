"""Reports are one page that opens offline, and escape what users wrote."""

import io
import re
from base64 import b64decode
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from everest.errors import RunError
from everest.visualize import (
    Figure,
    Report,
    Section,
    Table,
    curves_section,
    encode_picture,
    settings_section,
    timings_section,
)

EVIL = "<script>alert('class')</script>"


def report() -> Report:
    small, large = np.zeros((10, 10, 3), np.uint8), np.zeros((400, 400, 3), np.uint8)
    figures = (Figure(encode_picture(small), EVIL, EVIL), Figure(encode_picture(large), "large", "large"))
    section = Section(EVIL, (EVIL,), (EVIL,), (Table((EVIL, "n"), ((EVIL, "1"),)),), figures)
    return Report(EVIL, EVIL, (section,))


def test_what_users_wrote_is_escaped() -> None:
    page = report().render()
    assert "<script" not in page
    assert page.count("&lt;script&gt;") >= 9


def test_the_page_needs_nothing_else() -> None:
    page = report().render()
    assert not re.search(r"(src|href)=.(?!data:image/|#)", page)
    pictures = [b64decode(data) for data in re.findall(r'src="data:image/\w+;base64,([^"]+)"', page)]
    assert [Image.open(io.BytesIO(data)).format for data in pictures] == ["PNG", "JPEG"]


def test_a_report_is_never_overwritten_unasked(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    report().write(path)
    with pytest.raises(RunError, match="exists already"):
        report().write(path)
    report().write(path, overwrite=True)
    assert path.read_text() == report().render()


def test_sections_of_runs() -> None:
    rows = [
        {"step": 0, "epoch": 0.5, "loss": 2.0},
        {"step": 1, "epoch": 1, "loss": None},
        {"step": 1, "epoch": 1, "top1": 0.5},
    ]
    assert len(curves_section({"run": rows}).figures) == 2
    assert len(curves_section({"run": rows[:2]}).figures) == 1
    (table,) = settings_section({"pretrain": {"a.b": 1, "task": "pretrain"}, "finetune": {"a.c": None}}).tables
    assert table.rows == (("a.b", "1", ""), ("a.c", "", "None"))
    assert timings_section({"loading": 1.25}, "a machine").tables[0].rows == (("loading", "1.2 s"),)
