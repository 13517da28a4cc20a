import json
import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

from everest.bench import peers, suite
from everest.bench.described import describe_task
from everest.bench.foreign import load_foreign
from everest.bench.peers import Contender, bench_peers, contenders, format_peers
from everest.bench.step import bench_step, format_step
from everest.bench.tasks import build_step
from everest.cli import main
from everest.errors import ConfigError

THEIRS = """
import torch

def make(size, batch, seed=3, **others):
    assert (size, seed) == ("tiny", 0) and others["num_frames"] == 8, others
    layer = torch.nn.Linear(50, 20)
    def step():
        loss = layer(torch.ones(batch, 50)).square().mean()
        loss.backward()
        return loss
    return step

def loud(batch):
    print("hello")
    def step():
        print("one more")
        return torch.zeros(())
    return step

def uncounted():
    from torch.utils._python_dispatch import _get_current_dispatch_mode
    def step():
        if _get_current_dispatch_mode() is not None:
            raise RuntimeError("I do not like to be watched")
        return torch.zeros(())
    return step

def silent():
    return lambda: None

def needy(batch, flavour):
    return print

def wrong():
    return 3
"""
KNOWN = {"size": "tiny", "batch": 2, "seed": 0, "num_frames": 8}
SHAPE = {"num_frames": 8, "height": 64, "width": 64}


@pytest.fixture
def theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module of somebody else in the current folder."""
    (tmp_path / "theirs_to_time.py").write_text(THEIRS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return "theirs_to_time"


def measured(seconds: list[float], **values: Any) -> dict[str, Any]:
    common = {"device": "cpu", "precision": "float32", "hardware": {"name": "a chip"}, "tokens": {"total": 8}}
    numbers = {
        "peak_memory_gb": 1.0,
        "activations_gb": 0.5,
        "gmacs": 1.0,
        "step_gflop": 5.0,
        "share_of_matrix_rate": 0.5,
        "matrix_rate_gflops": 100.0,
    }
    return {"seconds": seconds} | common | numbers | values


def test_a_step_of_somebody_else_is_timed_and_counted(theirs: str) -> None:
    values = bench_step(size="tiny", batch=2, device="cpu", steps=2, peer=f"{theirs}:make", **SHAPE)
    assert values["seconds_per_step"] > 0
    assert values["step_gflop"] == pytest.approx(2e-9 * 2 * 50 * 20 * 2)  # forward, and backward for the weights only
    assert values["loss"][0] > 0
    assert (values["num_parameters"], values["activations_gb"]) == (None, None)  # what is theirs is not known
    assert "activations" not in format_step(values)
    silent = bench_step(size="tiny", batch=2, device="cpu", steps=1, peer=f"{theirs}:silent", **SHAPE)
    assert silent["loss"][0] != silent["loss"][0]  # none was given


def test_what_somebody_else_prints_is_not_our_result(theirs: str, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["bench", "step", "--size", "tiny", "--batch", "1", "--device", "cpu", "--steps", "1", "--json"]
    assert main([*options, "--peer", f"{theirs}:loud"]) == 0
    told = capsys.readouterr()
    assert json.loads(told.out)["peer"] == f"{theirs}:loud"
    assert told.err.count("hello") == 1
    assert told.err.count("one more") >= 2


def test_times_of_what_cannot_be_counted_are_kept(theirs: str, monkeypatch: pytest.MonkeyPatch) -> None:
    values = bench_step(size="tiny", batch=2, device="cpu", steps=2, peer=f"{theirs}:uncounted", **SHAPE)
    assert values["seconds_per_step"] > 0
    assert (values["step_gflop"], values["share_of_matrix_rate"]) == (None, None)
    assert "its work cannot be counted" in format_step(values)
    found = {"theirs:uncounted": values, "EVEREST": measured([1.0])}
    who = [Contender("EVEREST", "rero"), Contender("theirs:uncounted", "rero")]
    monkeypatch.setattr(peers, "contenders", lambda *_, **__: who)
    monkeypatch.setattr(peers, "_measure", lambda contender, _: found[contender.name])
    table = bench_peers(size="tiny", batch=2, rounds=1)
    assert "theirs:uncounted" in format_peers(table)
    assert table["rows"][1]["gflop"] is None


def test_on_a_gpu_steps_in_a_row_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """As training makes them; one by one, each waits for the processor."""
    monkeypatch.setattr(peers, "_measure", lambda *_: measured([2.0, 4.0], seconds_in_a_row=1.5))
    row = bench_peers(size="tiny", batch=3, rounds=2)["rows"][0]
    assert (row["seconds_per_step"], row["seconds_q1"], row["clips_per_second"]) == (1.5, 1.5, 2.0)


def test_a_process_that_says_something_else_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    said = subprocess.CompletedProcess([], 0, stdout="hello\n{}", stderr="")
    monkeypatch.setattr("subprocess.run", lambda *_, **__: said)
    assert peers._measure(Contender("mine", "rero"), []) == "it prints something else than its result"
    with pytest.raises(ConfigError, match="something else than its result"):
        suite._apart({}, 1, 0.0)


@pytest.mark.parametrize(
    ("peer", "message"),
    [
        ("theirs_to_time:nothing", "has no attribute 'nothing'"),
        ("nowhere_at_all:make", "No module named 'nowhere_at_all'"),
        (":make", "expected MODULE:FUNCTION"),
        ("theirs_to_time:needy", "needs flavour; it can be given size, batch, seed, num_frames"),
        ("theirs_to_time:wrong", "returned int; expected a function that does one step"),
    ],
)
def test_what_cannot_be_timed_is_refused(theirs: str, peer: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_foreign(peer, **KNOWN)


def test_everybody_is_there() -> None:
    names = [c.name for c in contenders("pretrain", ["mine:make"])]
    assert names[0] == "EVEREST"
    assert names[-2:] == ["VideoMAE, transformers", "mine:make"]
    assert {c.selection for c in contenders("pretrain")} == {"rero", "random_equal", "tube"}
    assert {c.selection for c in contenders("finetune")} == {"rero", "random_equal", "all"}
    assert {c.selection for c in contenders("finetune", footage=True)} == {
        "rero",
        "random_equal",
        "adaptive",
        "rlt",
        "all",
    }


def test_rounds_alternate_and_medians_are_of_all_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []

    def answer(contender: Contender, options: list[str]) -> dict[str, Any] | str:
        order.append(contender.name)
        assert options[:4] == ["--size", "tiny", "--task", "finetune"]
        assert "--equal-terms" in options
        if contender.name == "EVEREST":
            return measured([2.0, 4.0] if len(order) == 1 else [3.0, 5.0])
        if contender.peer == "transformers":
            return "is not installed"
        return measured([7.0, 7.0], peak_memory_gb=1.0 + (len(order) > 7), matrix_rate_gflops=70.0)

    monkeypatch.setattr(peers, "_measure", answer)
    values = bench_peers(size="tiny", task="finetune", batch=7, steps=2, rounds=2, equal_terms=True)
    names = [c.name for c in contenders("finetune")]
    assert order == [*names, *names[:-1]]  # what cannot be measured is not tried again
    first, second, *_, last = values["rows"]
    assert (first["seconds_per_step"], first["times_everest"], first["clips_per_second"]) == (3.5, 1.0, 2.0)
    assert (first["seconds_q1"], first["seconds_q3"]) == (2.75, 4.25)
    assert (second["times_everest"], second["peak_memory_gb"]) == (2.0, 2.0)
    assert last == {"name": "VideoMAE, transformers", "problem": "is not installed"}
    json.dumps(values)
    table = format_peers(values)
    assert "not measured: is not installed" in table
    assert "x2.00" in table
    assert "at 70 to 100 GFLOP/s" in table
    assert table.endswith("all kept freed memory and had linear layers by the same library")
    assert "kept freed memory" not in format_peers({**values, "equal_terms": False})


def test_without_everest_there_is_no_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "_measure", lambda *_: "no memory")
    with pytest.raises(ConfigError, match="no memory"):
        bench_peers(size="tiny")
    with pytest.raises(ConfigError, match="at least 1"):
        bench_peers(size="tiny", rounds=0)


def test_the_command_runs_processes(theirs: str, capsys: pytest.CaptureFixture[str]) -> None:
    def only_two(*_: object, **__: object) -> list[Contender]:
        return [Contender("EVEREST", "rero"), Contender("broken:peer", "rero", "broken:peer")]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(peers, "contenders", only_two)
        arguments = ["bench", "peers", "--size", "tiny", "--batch", "1", "--steps", "1", "--rounds", "1", "--json"]
        assert main([*arguments, "--peer", "broken:peer"]) == 1
    everest, broken = json.loads(capsys.readouterr().out)["rows"]
    assert everest["seconds_per_step"] > 0
    assert "No module named 'broken'" in broken["problem"]


@pytest.mark.parametrize("task", ["pretrain", "finetune"])
def test_videomae_of_transformers_trains(task: str) -> None:
    info = describe_task("tiny", task, "rero", num_classes=3, **SHAPE)
    if find_spec("transformers") is None:
        with pytest.raises(ConfigError, match=r"pip install 'everest-video\[bench\]'"):
            build_step(info, 2, device="cpu", peer="transformers")
        return
    step = build_step(info, 2, device="cpu", peer="transformers")
    assert step.tokens.visible == (8 if task == "pretrain" else 64)
    losses = [step.run() for _ in range(6)]
    assert losses[-1] < losses[0]
    assert all(torch.isfinite(parameter).all() for parameter in step.model.parameters())


@pytest.mark.skipif(find_spec("transformers") is None, reason="needs transformers")
def test_videomae_of_transformers_can_be_compiled_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled, compile_module = [], torch.nn.Module.compile

    def record(module: torch.nn.Module, **_: object) -> None:
        compiled.append(type(module).__name__)
        compile_module(module, backend="eager", dynamic=False)

    monkeypatch.setattr(torch.nn.Module, "compile", record)
    info = describe_task("tiny", "pretrain", "tube", **SHAPE)
    plain, fast = (build_step(info, 2, device="cpu", peer="transformers", compile=way) for way in (False, True))
    assert [fast.run(), fast.run()] == pytest.approx([plain.run(), plain.run()], rel=1e-5)
    assert compiled == ["VideoMAEForPreTraining"]
