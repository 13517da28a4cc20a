"""``everest runs`` as a user meets it."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageColor

from everest.cli import main
from everest.visualize.charts import COLORS
from run_folders import make_run


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    make_run(tmp_path / "runs" / "pre")
    make_run(tmp_path / "runs" / "fine", task="finetune", losses=(4.0, 2.5, 1.5), top1=0.5)
    (tmp_path / "runs" / "broken").mkdir()
    (tmp_path / "runs" / "broken" / "config.json").write_text("{")
    return tmp_path / "runs"


def call(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = main([str(argument) for argument in arguments])
    return code, *capsys.readouterr()


def test_a_damaged_folder_is_named_and_ends_nothing(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = call(capsys, "runs", "list", runs)
    assert (code, len(out.splitlines())) == (0, 3)
    assert err.startswith(f"warning: {runs / 'broken'} is not the folder of a run")
    code, out, err = call(capsys, "runs", "list", runs, "--json")
    assert {row["task"] for row in json.loads(out)["runs"]} == {"pretrain", "finetune"}
    assert len(json.loads(out)["problems"]) == 1
    code, _, err = call(capsys, "runs", "compare", *sorted(runs.iterdir()))
    assert code == 0
    assert "broken" in err
    assert call(capsys, "runs", "show", runs / "broken")[0] == 2


def test_a_run_is_shown(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = call(capsys, "runs", "show", runs / "fine")
    assert (code, err) == (0, "")
    assert "top-1 50.0%" in out
    assert json.loads(call(capsys, "runs", "show", runs / "fine", "--json")[1])["state"] == "going on"


def heights_of(picture: Path, color: str) -> list[float]:
    """Where a colour is in each column of pixels that has it: rows from the top, averaged."""
    pixels = np.asarray(Image.open(picture).convert("RGB")).astype(int)
    rows, columns = np.nonzero(np.abs(pixels - ImageColor.getrgb(color)).max(axis=2) < 30)
    return [float(rows[columns == column].mean()) for column in np.unique(columns)]


@pytest.mark.parametrize("axis", ["steps", "epochs", "hours"])
def test_a_comparison_leaves_a_picture(runs: Path, axis: str, capsys: pytest.CaptureFixture[str]) -> None:
    picture = runs / "plot.png"
    options = ("runs", "compare", runs / "pre", runs / "fine", "--plot", picture, "--over", axis)
    for _ in range(2):  # a picture may be drawn again
        code, out, _ = call(capsys, *options)
        assert code == 0
    assert out.endswith(f"written: {picture}\n")
    assert picture.read_bytes().startswith(b"\x89PNG")
    pre, fine, third = (heights_of(picture, color) for color in COLORS[:3])
    assert len(third) == 0
    for heights in (pre, fine):  # of lines, not only of what explains them: from left to right, and falling
        assert len(heights) > 0.7 * Image.open(picture).width
        assert heights[0] < heights[len(heights) // 3] < heights[len(heights) // 2]
    assert json.loads(call(capsys, *options, "--json")[1])["plot"] == str(picture)


def test_nothing_else_is_overwritten_by_a_picture(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, told in (("config.json", "ends in .png"), ("notes.png", "something else"), ("no/x.png", "be written")):
        if name == "notes.png":
            (runs / name).write_text("my notes")
        code, out, err = call(capsys, "runs", "compare", runs / "pre", "--plot", runs / name)
        assert (code, out) == (2, "")
        assert told in err
    assert (runs / "notes.png").read_text() == "my notes"
