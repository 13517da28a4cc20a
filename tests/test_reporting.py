"""``everest report`` as a user meets it."""

import json
from pathlib import Path

import pytest

from everest.cli import main
from run_folders import make_run

Capture = pytest.CaptureFixture[str]


def call(capsys: Capture, *arguments: object) -> tuple[int, str, str]:
    code = main([str(argument) for argument in arguments])
    return code, *capsys.readouterr()


def test_one_run_gets_a_page_in_its_folder(tmp_path: Path, capsys: Capture) -> None:
    run = make_run(tmp_path / "run")
    code, out, err = call(capsys, "report", run)
    assert (code, out, err) == (0, f"report: {run}/report.html\n", "")
    assert "Pre-training: run" in (run / "report.html").read_text()
    assert call(capsys, "report", run)[0] == 0  # it may be drawn again
    code, out, _ = call(capsys, "report", run, "--out", tmp_path / "page.html", "--json")
    assert (code, json.loads(out)["out"]) == (0, str(tmp_path / "page.html"))


def test_several_runs_get_a_page_of_their_own(tmp_path: Path, capsys: Capture) -> None:
    runs = make_run(tmp_path / "one"), make_run(tmp_path / "two", "optim.base_lr=0.5")
    page = tmp_path / "both.html"
    code, out, _ = call(capsys, "report", *runs, "--out", page)
    assert code == 0
    assert out.endswith(f"report: {page}\n")
    assert "2 runs compared" in page.read_text()
    code, out, _ = call(capsys, "report", *runs, "--json")
    assert (code, list(json.loads(out)["differing"])) == (0, ["optim.base_lr"])
    code, _, err = call(capsys, "report", *runs, tmp_path / "no run", "--json")
    assert code == 0
    assert err.startswith("warning: ")


def test_nothing_else_is_overwritten(tmp_path: Path, capsys: Capture) -> None:
    run = make_run(tmp_path / "run")
    for name in ("notes.html", "run/report.html"):
        (tmp_path / name).write_text("<p>my notes")
        arguments = ("--out", tmp_path / name) if name == "notes.html" else ()
        code, out, err = call(capsys, "report", run, *arguments)
        assert (code, out) == (2, "")
        assert "exists already" in err
        assert (tmp_path / name).read_text() == "<p>my notes"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["no run"], "not the folder of a run"),
        (["run", "--out", "page.txt"], "ends in .html"),
        (["run", "--out", "no folder/page.html"], "does not exist"),
        (["run", "run"], "--out FILE.html"),
        (["run", "run", "--evaluate", "--json"], "of one run"),
        (["run", "--evaluate"], "pre-training run"),
        (["fine", "--evaluate"], "nothing to evaluate on"),
        (["run", "--data", "no data"], "no such file"),
    ],
)
def test_what_makes_no_sense_is_one_line(
    arguments: list[str], told: str, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_run(tmp_path / "run")
    make_run(tmp_path / "fine", task="finetune")
    monkeypatch.chdir(tmp_path)
    code, out, err = call(capsys, "report", *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert told in err
    assert not list(tmp_path.rglob("*.html"))
