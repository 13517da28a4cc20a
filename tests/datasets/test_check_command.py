"""The command ``everest data check``."""

import json
import shutil
from pathlib import Path

import pytest

from everest.cli import main
from everest.datasets import load_data

CLIP = load_data("bundled").records[0].path


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    """A manifest of a good file and an empty one."""
    shutil.copy(CLIP, tmp_path / "good.mp4")
    (tmp_path / "bad.mp4").write_bytes(b"")
    manifest = tmp_path / "list.csv"
    manifest.write_text("path,label\ngood.mp4,jump\nbad.mp4,run\n")
    return manifest


def test_unreadable_files_are_named_and_left_out(listed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clean = listed.with_name("clean.csv")
    assert main(["data", "check", str(listed), "--quarantine", str(clean), "--json"]) == 1
    values = json.loads(capsys.readouterr().out)
    assert (values["num_files"], values["num_unreadable"], values["num_unlabelled_clips"]) == (2, 1, 0)
    assert values["quarantine"]["emptied_classes"] == ["run"]
    assert values["report"] == f"{listed}.check.jsonl"
    assert [record.path.name for record in load_data(clean).records] == ["good.mp4"]
    assert load_data(clean).class_names == ("jump", "run")
    assert main(["data", "check", str(clean)]) == 0


def test_a_second_check_reads_nothing_again(listed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = listed.with_name("mine.jsonl")
    for expected in (0, 2):
        assert main(["data", "check", str(listed), "--report", str(report), "--workers", "0", "--json"]) == 1
        assert json.loads(capsys.readouterr().out)["num_reused"] == expected
    assert main(["data", "check", str(listed), "--report", str(report)]) == 1
    out = capsys.readouterr().out
    assert "2 of them by an earlier check" in out
    assert "1 x the file is empty" in out


def test_an_existing_manifest_is_never_overwritten(listed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "check", str(listed), "--quarantine", str(listed)]) == 2
    assert "exists already" in capsys.readouterr().err
    assert not listed.with_name("list.csv.check.jsonl").exists()  # said before anything is decoded


def test_what_was_found_is_said_even_if_nothing_is_left(listed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (listed.parent / "good.mp4").write_bytes(b"text")
    assert main(["data", "check", str(listed), "--quarantine", str(listed.with_name("clean.csv"))]) == 2
    captured = capsys.readouterr()
    assert "2 files cannot be read" in captured.out
    assert "none of the 2 clips can be used" in captured.err
    assert not listed.with_name("clean.csv").exists()
