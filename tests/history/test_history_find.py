"""The list of runs below a folder."""

import json
from pathlib import Path

import pytest

from everest.errors import RunError
from everest.history import find_runs, show_run
from everest.history.find import layout
from run_folders import GONE, make_run


def test_runs_are_found_however_deep_and_the_others_named(tmp_path: Path) -> None:
    make_run(tmp_path / "a" / "deep" / "fine", task="finetune", top1=0.5, process=GONE)
    make_run(tmp_path / "pre", "optim.epochs=1")
    make_run(tmp_path / "pre" / "inner")  # of the run, whatever it is
    make_run(tmp_path / ".hidden")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    (tmp_path / "bert").mkdir()
    (tmp_path / "bert" / "config.json").write_text('{"model_type": "bert"}')
    (tmp_path / "lost").mkdir()
    (tmp_path / "lost" / "metrics.jsonl").write_text("")
    with (tmp_path / "pre" / "metrics.jsonl").open("a") as file:
        file.write("rubbish\n")
    found = find_runs(tmp_path)
    assert {str(run.path.relative_to(tmp_path)) for run in found.runs} == {"a/deep/fine", "pre"}
    assert len(found.problems) == 3
    assert all(any(name in problem for problem in found.problems) for name in ("bert", "lost", "1 lines of metrics"))
    lines = str(found).splitlines()
    assert lines[0].split()[:9] == ["run", "task", "model", "tokens", "data", "steps", "loss", "top-1", "state"]
    text = {line.split()[0]: line for line in lines[1:]}
    assert "3/3 " in text["pre"]
    assert " finished " in text["pre"]
    assert " stopped " in text["a/deep/fine"]
    assert "50.0%" in text["a/deep/fine"]
    values = json.loads(json.dumps(found.to_dict()))
    assert [row["num_steps"] for row in values["runs"] if row["task"] == "pretrain"] == [3]


def test_the_first_started_comes_first(tmp_path: Path) -> None:
    for name, date in (("b", "2027-01-01T00:00:00+00:00"), ("c", "2026-01-01T00:00:00+00:00"), ("a", None)):
        path = make_run(tmp_path / name)
        (path / "environment.json").write_text(json.dumps([{"date": date}]))
    assert [run.path.name for run in find_runs(tmp_path).runs] == ["a", "c", "b"]


def test_a_single_run_and_none_are_listed_too(tmp_path: Path) -> None:
    path = make_run(tmp_path / "mine")
    assert str(find_runs(path)).splitlines()[1].startswith("mine ")
    (tmp_path / "empty").mkdir()
    assert str(find_runs(tmp_path / "empty")).startswith("no runs in ")
    with pytest.raises(RunError, match="no such folder"):
        find_runs(tmp_path / "none")


def test_of_long_runs_the_end_is_read(tmp_path: Path) -> None:
    line = '{"step": %d, "epoch": %f, "time": 1800000000.5, "loss": 0.123456, "clips_per_second": 12.5}\n'
    text = "".join(line % (step, (step + 1) / 1000) for step in range(100_000))
    for number in range(5):
        (make_run(tmp_path / str(number)) / "metrics.jsonl").write_text(text)
    found = find_runs(tmp_path)
    assert all(len(run.lines) < 1000 for run in found.runs)
    assert [run.num_done for run in found.runs] == [100_000] * 5


def test_names_cannot_leave_their_line(tmp_path: Path) -> None:
    make_run(tmp_path / "two\nlines\x1b[31m")
    assert len(str(find_runs(tmp_path)).splitlines()) == 2
    assert "\x1b" not in str(find_runs(tmp_path))


def test_settings_cannot_leave_their_line_either(tmp_path: Path) -> None:
    bad = "x\x1b[2J\nfaked  pretrain  vit-base"
    for name, settings in {"a": {"model": {"size": bad}}, "b": {"model": {"arch": bad}}}.items():
        path = make_run(tmp_path / name)
        given = json.loads((path / "config.json").read_text()) | {"selection": {"method": bad}} | settings
        (path / "config.json").write_text(json.dumps(given))
        (path / "environment.json").write_text(json.dumps([{"date": "2027-01-15\x1b08:00:00"}]))
    text = str(find_runs(tmp_path))
    assert len(text.splitlines()) == 3
    assert "\x1b" not in text
    assert text.count("\\x1b[2J") == 4
    assert text.count("2027-01-15\\x1b08:00") == 2


@pytest.mark.parametrize("number", ["9" * 400, "-" + "9" * 400, "1e999", "9" * 5000])
def test_a_number_that_is_none_ends_nothing(number: str, tmp_path: Path) -> None:
    bad = make_run(tmp_path / "bad")
    make_run(tmp_path / "good")
    for line in (f'{{"step": {number}, "epoch": 1.0}}', f'{{"step": 2, "epoch": {number}, "loss": {number}}}'):
        with (bad / "metrics.jsonl").open("a") as file:
            file.write(line + "\n")
    found = find_runs(tmp_path)
    assert len(str(found).splitlines()) == 3
    assert [run.num_done for run in found.runs] == [3, 3]
    assert "lines of metrics.jsonl cannot be read" in found.problems[0]
    (bad / "data.json").write_text(f'{{"num_clips": {number}}}')
    assert len(str(find_runs(tmp_path)).splitlines()) == 3
    assert str(show_run(bad))


def test_columns_are_as_wide_as_needed_and_numbers_to_the_right() -> None:
    assert layout([("name", "n"), ("a", "5"), ("longer", "1,000")]) == "name        n\na           5\nlonger  1,000"
