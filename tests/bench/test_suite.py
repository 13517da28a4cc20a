"""The suite measures in the order of worth, writes down what it has, and survives what goes wrong."""

import json
from functools import partial
from pathlib import Path

import pytest

from everest.bench import suite
from everest.bench.scores import bench_scores
from everest.bench.suite import bench_suite, format_suite, plan_suite
from everest.errors import ConfigError


def test_the_first_size_is_measured_most() -> None:
    plan = plan_suite(("base", "small"), 32, ("mine:step",))
    names = [measurement.name for measurement in plan]
    assert len(set(names)) == len(names)
    assert names[0] == "base pretrain, EVEREST"
    assert names[-1] == "scores"
    assert "base finetune, mine:step" in names
    assert not any(name.startswith("small finetune") for name in names)
    assert "small pretrain, EVEREST, plain peer" in names
    assert {"step", "restart", "largest", "profile", "scores"} == {measurement.kind for measurement in plan}


def test_all_is_measured_and_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = ("tiny pretrain, EVEREST", *(f"tiny pretrain, EVEREST, {what}" for what in ("parts", "largest batch")))
    plan = [measurement for measurement in plan_suite(("tiny",), 1) if measurement.name in (*wanted, "scores")]
    monkeypatch.setattr(suite, "plan_suite", lambda *_: plan)
    monkeypatch.setattr(suite, "bench_scores", partial(bench_scores, size="tiny", num_clips=2))
    out, done = tmp_path / "gpu.json", []
    values = bench_suite(out, batch=1, device="cpu", steps=1, on_progress=lambda *numbers: done.append(numbers))
    assert json.loads(out.read_text()) == values
    assert len(done) == len(values["results"])
    assert not values["left_out"]
    by_name = {row["name"]: row for row in values["results"]}
    assert "on a GPU only" in by_name["tiny pretrain, EVEREST, largest batch"]["problem"]
    assert by_name["tiny pretrain, EVEREST"]["values"]["seconds_per_step"] > 0
    assert by_name["tiny pretrain, EVEREST, parts"]["values"]["stages"]
    assert by_name["scores"]["values"]["num_clips"] == 2
    problems = {name for name, row in by_name.items() if "problem" in row}
    assert problems == {"tiny pretrain, EVEREST, largest batch"}
    told = format_suite(values)
    assert "not measured" in told
    assert list(tmp_path.iterdir()) == [out]


def test_what_there_is_no_time_for_is_named(tmp_path: Path) -> None:
    values = bench_suite(tmp_path / "gpu.json", sizes=("tiny",), batch=1, device="cpu", steps=1, minutes=1e-9)
    assert not values["results"]
    assert values["left_out"] == [measurement.name for measurement in plan_suite(("tiny",), 1)]
    assert "no time was left for: tiny pretrain, EVEREST;" in format_suite(values)


def test_one_that_fails_does_not_cost_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(options: dict[str, object], _: int) -> dict[str, object]:
        if options["selection"] == "rero":
            raise MemoryError
        raise KeyError("whatever")

    for kind in suite._DO:
        monkeypatch.setitem(suite._DO, kind, fail if kind == "step" else lambda *_: {})
    values = bench_suite(tmp_path / "gpu.json", sizes=("tiny",), batch=1, device="cpu", steps=1)
    problems = {row["problem"] for row in values["results"] if "problem" in row}
    assert problems == {"the memory does not suffice", "KeyError: 'whatever'"}
    assert any("values" in row for row in values["results"])


def test_a_step_in_a_new_process_is_the_same_one() -> None:
    options = {"size": "tiny", "task": "pretrain", "selection": "rero", "batch": 1, "compile": False}
    with pytest.raises(ConfigError, match="invalid choice"):
        suite._restart(options | {"task": "nothing"}, 1)


def test_numbers_are_checked(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="at least 1"):
        bench_suite(tmp_path / "gpu.json", batch=0)
    with pytest.raises(ConfigError, match="cannot be written"):
        bench_suite(tmp_path / "no" / "gpu.json", sizes=("tiny",), batch=1, minutes=1e-9)
