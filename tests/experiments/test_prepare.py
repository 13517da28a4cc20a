"""The data of experiments: small copies, tasks and controls, and data made out of them."""

import csv
import sys
from pathlib import Path

import pytest

import everest
from everest.video import probe

sys.path.append(str(Path(__file__).parents[2] / "experiments"))
import moving_camera
import prepare


def read(manifest: Path) -> list[dict[str, str]]:
    with manifest.open(newline="") as file:
        return list(csv.DictReader(file))


def test_everything_is_there_and_scenes_stay_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundled = everest.load_data("bundled")
    records = [next(r for r in bundled.records if r.split == split) for split in ("train", "test")]
    lines = [f"{r.path},{bundled.class_names[r.label or 0]},{r.split},home" for r in records]
    given = tmp_path / "given.csv"
    given.write_text("\n".join(["path,label,split,group", *lines]))
    out = tmp_path / "data"
    words = ["--footage", str(given), "--labelled", f"mine={given}", "--out", str(out), "--side", "32", "--most", "1"]
    assert prepare.main(words) == 0
    assert [row["split"] for row in read(out / "footage" / "manifest.csv")] == ["train", "test"]
    labelled = read(out / "tasks" / "mine" / "manifest.csv")
    assert [row["label"] for row in labelled] == [bundled.class_names[r.label or 0] for r in records]
    for task, num_classes in (("direction", 2), ("speed", 3)):
        rows, controls = (read(out / folder / task / "manifest.csv") for folder in ("tasks", "controls"))
        assert rows == controls
        assert len(rows) % num_classes == 0
        assert {row["group"] for row in [*rows, *labelled]} == {labelled[0]["group"]}  # one scene, said to be one
    assert prepare.main(words) == 2
    assert "holds files; give a new folder" in capsys.readouterr().err
    assert moving_camera.main([str(out), "--out", str(tmp_path / "moved"), "--tasks", "mine"]) == 0
    moved = read(tmp_path / "moved" / "tasks" / "mine-pan" / "manifest.csv")
    assert [row["group"] for row in moved] == [row["group"] for row in labelled]
    window = probe(tmp_path / "moved" / "tasks" / "mine-pan" / moved[0]["path"])
    assert (window.height, window.width) == (24, 24)  # of 32: as 56 of 72
    assert len(read(tmp_path / "moved" / "footage" / "manifest.csv")) == 3  # the training clip: still, pan, shake
