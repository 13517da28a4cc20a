"""Reading what may be half written, damaged or of another version."""

import json
import time
from pathlib import Path

import pytest

from everest.history.files import (
    changed_at,
    flatten,
    number,
    read_before,
    read_json,
    read_lines,
    read_log,
    read_object,
    size_of,
)
from everest.texts import printable


def test_what_is_missing_is_no_problem_and_what_is_damaged_is(tmp_path: Path) -> None:
    problems: list[str] = []
    for read in (read_json, read_object, read_lines, read_log):
        assert not read(tmp_path / "none", problems)
    assert read_before(tmp_path / "none", "x", problems) == {}
    assert problems == []
    (tmp_path / "torn.json").write_text('{"a": ')
    (tmp_path / "list.json").write_text("[1]")
    (tmp_path / "bytes.json").write_bytes(b"\xff\xfe")
    (tmp_path / "folder.json").mkdir()
    for name in ("torn", "list", "bytes", "folder"):
        assert read_object(tmp_path / f"{name}.json", problems) == {}
        assert len(problems) == 1
        assert problems.pop().startswith(f"{name}.json ")


@pytest.mark.parametrize("num_predictions", [0, 1, 20_000])
def test_an_evaluation_is_read_up_to_its_predictions(tmp_path: Path, num_predictions: int) -> None:
    path, problems = tmp_path / "evaluation.json", []
    predictions = [{"path": '"predictions": ', "probabilities": [0.25] * 8}] * num_predictions
    values = {"top1": 0.5, "failures": [{"path": '\n  "predictions": '}]}
    path.write_text(json.dumps(values | {"predictions": predictions, "after": 1}, indent=2))
    assert read_before(path, "predictions", problems) == values
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 5)  # what comes after is not looked at
    assert read_before(path, "predictions", problems) == values
    path.write_text(json.dumps(values))  # laid out in another way: read completely
    assert read_before(path, "predictions", problems) == values
    assert problems == []
    path.write_text(json.dumps(values | {"predictions": []}, indent=2)[:20])
    assert read_before(path, "predictions", problems) == {}
    assert "evaluation.json cannot be read" in problems[0]


def test_lines_that_are_no_metrics_are_counted_and_the_others_read(tmp_path: Path) -> None:
    path, problems = tmp_path / "metrics.jsonl", []
    path.write_text('{"step": 0, "loss": 1}\nnot json\n[1]\n{"step": true}\n{"step": 1, "new": {"a": 1}}\n{"step": 2, ')
    assert [line["step"] for line in read_lines(path, problems)] == [0, 1]
    assert problems == ["3 lines of metrics.jsonl cannot be read"]


def test_the_end_of_a_long_file_is_read_alone(tmp_path: Path) -> None:
    path, problems = tmp_path / "metrics.jsonl", []
    line = '{"step": %d, "epoch": 0.5, "time": 1800000000.5, "loss": 0.123456, "clips_per_second": 12.5}\n'
    path.write_text("".join(line % step for step in range(300_000)))
    tail = read_lines(path, problems, tail=True)
    assert 100 < len(tail) < 1000
    assert tail[-1]["step"] == 299_999
    assert [line["step"] for line in tail] == list(range(300_000 - len(tail), 300_000))
    log = tmp_path / "log.txt"
    log.write_text("first\n" + "x" * 70_000 + "\nlast\n")
    assert read_log(log, problems, tail=True) == ["last"]
    assert problems == []


def test_numbers_are_finite_and_not_truths() -> None:
    assert [number(v) for v in (1, 0.5, True, "1", None, float("nan"), float("inf"), [1])] == [1, 0.5] + [None] * 6


def test_settings_of_any_version_are_listed_by_key() -> None:
    assert flatten({"a": {"b": 1, "new": {"c": None}}, "task": "pretrain"}) == {
        "a.b": 1,
        "a.new.c": None,
        "task": "pretrain",
    }
    assert flatten([1]) == {}


def test_a_folder_is_measured_without_following_links(tmp_path: Path) -> None:
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    (tmp_path / "run" / "checkpoints" / "state.pt").write_bytes(b"x" * 1000)
    (tmp_path / "large").write_bytes(b"x" * 100_000)
    (tmp_path / "run" / "link").symlink_to(tmp_path / "large")
    assert 1000 <= size_of(tmp_path / "run") < 2000
    assert changed_at(tmp_path) is None
    assert changed_at(tmp_path / "run") == pytest.approx(time.time(), abs=60)


def test_names_take_one_line() -> None:
    assert printable("a\nb\x1b[31mc\u202ed é") == "a\\nb\\x1b[31mc\\u202ed é"
