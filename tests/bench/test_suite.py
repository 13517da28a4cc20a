"""The suite measures in the order of worth, writes down what it has, and survives what goes wrong."""

import json
import os
import time
from functools import partial
from pathlib import Path

import pytest
import torch

from everest.bench import suite
from everest.bench.scores import bench_scores
from everest.bench.suite import bench_suite
from everest.bench.suite_plan import FIRST_START, SECOND_START, plan_suite
from everest.bench.suite_table import format_suite
from everest.datasets import load_data
from everest.errors import ConfigError


def test_what_is_worth_most_comes_first() -> None:
    plan = plan_suite(("base", "small"), 32, ("mine:step",))
    names = [measurement.name for measurement in plan]
    assert len(set(names)) == len(names)
    assert names[:2] == ["base pretrain, EVEREST, compiled", "base pretrain, EVEREST, compiled, replayed"]
    assert names[-1] == "scores"
    place = {name: number for number, name in enumerate(names)}
    compared = ("EVEREST, compiled", "EVEREST, plain peer", "VideoMAE, plain peer", "EVEREST, largest batch")
    essential = [f"{size} pretrain, {name}" for size in ("base", "small") for name in compared]
    essential += ["base pretrain, mine:step", "base pretrain, EVEREST, compiled, second start"]
    rest = set(names) - {*essential, *(f"{size} pretrain, EVEREST, compiled, replayed" for size in ("base", "small"))}
    assert max(place[name] for name in essential) < min(place[name] for name in rest)  # all sizes first
    assert place["base pretrain, EVEREST, largest batch"] < place["small pretrain, EVEREST, compiled"]
    first = place["base finetune, EVEREST, compiled"]  # then the other task of the first size, before variants
    assert first == min(place[name] for name in rest)
    assert place["base finetune, mine:step"] < place["base pretrain, EVEREST"]
    assert {"base pretrain, VideoMAE, transformers", "small pretrain, VideoMAE, our path"} <= set(names)
    assert {"base finetune, VideoMAE, transformers, compiled", "base finetune, random at equal count"} <= set(names)
    soon = "base pretrain, VideoMAE, transformers, compiled"
    assert place["base finetune, mine:step"] < place[soon] < place["base pretrain, EVEREST"]
    last = names[-5:-1]  # four of the other size's fine-tuning, and scores
    assert all(name.startswith("small finetune") for name in last)
    kinds = {measurement.kind for measurement in plan}
    assert {"step", "apart", "footage", "largest", "profile", "waits", "levers", "scores"} == kinds
    footage = [measurement.name for measurement in plan if measurement.kind == "footage"]
    assert footage == [
        f"base {task}, {name}, real clips"
        for task in ("pretrain", "finetune")
        for name in ("EVEREST", "EVEREST, adaptive", "run-length selection (RLT)")
    ]
    apart = {measurement.name for measurement in plan if measurement.kind == "apart"}
    everywhere = ("base pretrain", "small pretrain", "base finetune")
    other = "small finetune, EVEREST, compiled, replayed"
    assert apart == {
        *("base pretrain, mine:step", "base finetune, mine:step", "base pretrain, EVEREST, compiled, second start"),
        # what may fail while it is recorded
        other,
        *(f"{which}, EVEREST, replayed" for which in everywhere),
        *(f"{which}, {name}, compiled, replayed" for which in everywhere for name in ("EVEREST", "VideoMAE, our path")),
    }


def test_all_is_measured_and_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = (
        "tiny pretrain, EVEREST",
        *(f"tiny pretrain, EVEREST, {what}" for what in ("parts", "where it waits", "largest batch")),
        *("tiny pretrain, VideoMAE, plain peer", "tiny pretrain, levers"),
        "tiny finetune, run-length selection (RLT), real clips",
    )
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
    real = by_name["tiny finetune, run-length selection (RLT), real clips"]["values"]
    assert real["manifest_digest"] == load_data("bundled").digest
    assert by_name["tiny pretrain, EVEREST, parts"]["values"]["stages"]
    assert by_name["scores"]["values"]["num_clips"] == 2
    assert by_name["tiny pretrain, EVEREST, where it waits"]["values"] == {"waits": []}
    assert any("where it waits" in line and line.endswith("nowhere") for line in format_suite(values).splitlines())
    problems = {name for name, row in by_name.items() if "problem" in row}
    assert problems == {"tiny pretrain, EVEREST, largest batch"}
    assert all(row["same"] for row in by_name["tiny pretrain, levers"]["values"]["levers"])
    told = format_suite(values)
    assert "AdamW fused x" in told
    (parts,) = [line for line in told.splitlines() if line.startswith("tiny pretrain, EVEREST, parts")]
    assert " ms; " in parts
    assert any(line.startswith("scores") and "bfloat16" in line for line in told.splitlines())
    ours = [line for line in told.splitlines() if line.startswith("tiny pretrain, EVEREST")]
    assert sum(line.endswith(" x1.00") for line in ours) == 1  # the fastest
    assert any(line.startswith("tiny pretrain, VideoMAE, plain peer") and " x" in line for line in told.splitlines())
    assert "not measured" in told
    assert list(tmp_path.iterdir()) == [out]


def test_what_there_is_no_time_for_is_named(tmp_path: Path) -> None:
    values = bench_suite(tmp_path / "gpu.json", sizes=("tiny",), batch=1, device="cpu", steps=1, minutes=1e-9)
    assert not values["results"]
    assert values["left_out"] == [measurement.name for measurement in plan_suite(("tiny",), 1)]
    assert "no time was left for: tiny pretrain, EVEREST, compiled;" in format_suite(values)


def test_another_call_measures_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    names = ("a", "b", f"b{FIRST_START}", f"b{SECOND_START}", f"c{FIRST_START}", f"c{SECOND_START}")
    plan = [suite.Measurement(name, "step", {"name": name}) for name in names]
    monkeypatch.setattr(suite, "plan_suite", lambda *_: plan)
    fails = {"a", f"c{SECOND_START}"}

    def measure(options: dict[str, str], *_: object) -> dict[str, object]:
        asked.append(options["name"])
        if options["name"] in fails:
            raise ConfigError("not now")
        return {"number": len(asked)}

    monkeypatch.setitem(suite._DO, "step", measure)
    out = tmp_path / "gpu.json"
    before = bench_suite(out, batch=1, device="cpu", go_on=True)  # there is nothing yet
    assert asked == [*names]
    fails.clear()
    asked.clear()
    after = bench_suite(out, batch=1, device="cpu", minutes=2.0, go_on=True)
    assert asked == ["a", f"c{FIRST_START}", f"c{SECOND_START}"]  # a second start needs a first one in this call
    assert [row["name"] for row in after["results"]] == [*names]
    assert not any("problem" in row for row in after["results"])
    assert [row for row in after["results"] if row["name"][0] == "b"] == before["results"][1:4]
    assert json.loads(out.read_text()) == after
    with pytest.raises(ConfigError, match="it has another batch"):
        bench_suite(out, batch=2, device="cpu", go_on=True)
    assert json.loads(out.read_text()) == after
    monkeypatch.setattr(suite, "describe_hardware", lambda _: after["hardware"] | {"name": "a faster chip"})
    with pytest.raises(ConfigError, match="it has another hardware; give another file"):
        bench_suite(out, batch=1, device="cpu", go_on=True)
    out.write_text("{}")
    with pytest.raises(ConfigError, match="cannot go on from it"):
        bench_suite(out, batch=1, device="cpu", go_on=True)


def test_what_would_last_too_long_is_not_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now, compiled = [0.0], []

    def take(seconds: float) -> dict[str, object]:
        now[0] += seconds
        compiled.append(os.environ["TORCHINDUCTOR_CACHE_DIR"])
        return {}

    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "/what/was/there")
    monkeypatch.setattr(suite.time, "perf_counter", lambda: now[0])
    for kind in suite._DO:
        monkeypatch.setitem(suite._DO, kind, lambda options, *_: take(40.0 if options.get("compile") else 5.0))
    plan = [suite.Measurement(name, "step", {"compile": True} if name.isupper() else {}) for name in "aBcDe"]
    plan.append(suite.Measurement("p", "step", {"compile": True, "peer": "transformers"}))  # that may be quicker
    monkeypatch.setattr(suite, "plan_suite", lambda *_: plan)
    values = bench_suite(tmp_path / "gpu.json", sizes=("tiny",), batch=1, device="cpu", steps=1, minutes=1.0)
    assert [row["name"] for row in values["results"]] == ["a", "B", "c", "e", "p"]
    assert values["left_out"] == ["D"]  # 10 seconds are left, and B took 40
    assert len({*compiled}) == 1
    assert not Path(compiled[0]).exists()
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == "/what/was/there"


def test_one_that_fails_does_not_cost_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(options: dict[str, object], *_: object) -> dict[str, object]:
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
    options = {"size": "tiny", "task": "pretrain", "selection": "rero", "batch": 1, "device": "cpu"}
    with pytest.raises(ConfigError, match="invalid choice"):
        suite._apart(options | {"task": "nothing"}, 1, time.perf_counter() + 60)
    with pytest.raises(ConfigError, match=r"^run\.cuda_graphs=true needs an NVIDIA GPU, this run is on cpu"):
        suite._apart(options | {"compile": False, "cuda_graphs": True}, 1, time.perf_counter() + 60)


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("raise SystemExit('asked for arguments')", "asked for arguments"),
        ("def step(:", "SyntaxError"),
        ("import time; time.sleep(60)", "not done in the 3 s that were left"),
    ],
)
def test_what_others_do_does_not_end_the_suite(
    code: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "theirs.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(suite, "MIN_SECONDS", 3.0 if "sleep" in code else 60.0)
    options = {"size": "tiny", "task": "pretrain", "selection": "rero", "batch": 1, "peer": "theirs:step"}
    found = suite._measure(suite.Measurement("theirs", "apart", options), {"device": "cpu"}, 1, time.perf_counter())
    assert told in found["problem"]


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("out of memory"), RuntimeError("CUBLAS_STATUS_ALLOC_FAILED")])
def test_the_largest_batch_that_was_measured_is_kept(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def step(*, batch: int, steps: int, compile: bool = False, **_: object) -> dict[str, object]:
        if batch > 64:
            raise error
        assert steps == (7 if compile else suite.PROBED)
        return {"batch": batch} | ({"is_compiled": True} if compile else {})

    monkeypatch.setattr(suite, "bench_step", step)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.empty_cache", lambda: None)
    later = time.perf_counter() + 600
    found = suite._largest({"device": "cuda", "batch": 32}, 7, later)
    assert found["batch"] == 64
    assert found["ended_by"] in {"the memory does not suffice", "RuntimeError: CUBLAS_STATUS_ALLOC_FAILED"}
    assert found["compiled"] == {"batch": 64, "is_compiled": True}
    now = suite._largest({"device": "cuda", "batch": 32}, 1, time.perf_counter())
    no_time = "there was no time for"
    assert now == {"batch": 32, "ended_by": f"{no_time} a larger one", "not_compiled": f"{no_time} it"}
    with pytest.raises(type(error)):
        suite._largest({"device": "cuda", "batch": 128}, 1, later)


def test_the_largest_batch_is_told_as_it_is_and_compiled() -> None:
    found = {"size": "base", "task": "pretrain", "selection": "rero", "peer": None, "batch": 64}
    found |= {"seconds_per_step": 0.5, "seconds_in_a_row": None, "clips_per_second": 128.0, "peak_memory_gb": 9.0}
    found |= {"share_of_matrix_rate": 0.25, "first_step_seconds": 30.0, "cuda_graphs": False}
    replayed = {"name": "replayed", "values": found | {"cuda_graphs": True}}
    rows = [{"name": "largest", "values": found | {"compiled": found | {"seconds_in_a_row": 0.25}}}, replayed]
    told = format_suite({"results": rows, "left_out": [], "hardware": {"name": "a chip"}}).splitlines()
    assert [line.split()[:2] for line in told[1:3]] == [["largest", "64"], ["largest,", "compiled"]]
    assert ("128.0" in told[1], "256.0" in told[2]) == (True, True)
    assert (told[1].split()[4], told[3].split()[4]) == ("9.00", "9.00*")


def test_numbers_are_checked(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="at least 1"):
        bench_suite(tmp_path / "gpu.json", batch=0)
    with pytest.raises(ConfigError, match="cannot be written"):
        bench_suite(tmp_path / "no" / "gpu.json", sizes=("tiny",), batch=1, minutes=1e-9)
