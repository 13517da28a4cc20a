import json
import math
import multiprocessing

import pytest
import torch

from everest.bench import profile
from everest.bench.described import describe_task
from everest.bench.footage import reading
from everest.bench.macs import count_macs
from everest.bench.profile import STAGES, format_profile, profile_step
from everest.bench.tasks import build_step
from everest.bench.timeline import Timeline, Work, _flop
from everest.cli import main
from everest.datasets import load_data
from everest.errors import ConfigError

SHAPE = {"num_frames": 8, "height": 64, "width": 64}


class Names:
    """Marks that keep the names only."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def mark(self, name: str) -> None:
        self.names.append(name)


@pytest.mark.parametrize("task", ["pretrain", "finetune"])
@pytest.mark.parametrize(
    ("selection", "scored"),
    [
        ("rero", {}),
        ("rero", {"distance": "cosine"}),
        ("rero", {"scoring": "random_projection", "camera": "moving"}),
        ("tube", {}),
        ("all", {}),
    ],
)
def test_taken_apart_the_step_is_the_same(task: str, selection: str, scored: dict[str, str]) -> None:
    info = describe_task("tiny", task, selection, num_classes=3, **scored, **SHAPE)
    whole, parts = (build_step(info, 2, device="cpu") for _ in range(2))
    for _ in range(3):
        torch.manual_seed(5)
        expected = whole.run()
        torch.manual_seed(5)
        assert parts.run(Names()) == expected
    assert whole.model is not None
    assert parts.model is not None
    for a, b in zip(whole.model.parameters(), parts.model.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("task", ["pretrain", "finetune"])
def test_every_part_is_accounted_for(task: str, capsys: pytest.CaptureFixture[str]) -> None:
    info = describe_task("tiny", task, "rero", **SHAPE)
    values = profile_step(build_step(info, 2, device="cpu", precision="float32"), steps=2)
    json.dumps(values)
    names = [row["name"] for row in values["stages"]]
    head = "decoder" if task == "pretrain" else "head"
    absent = {"mix", "head", "head, backward"} if task == "pretrain" else {"decoder", "decoder, backward", "targets"}
    assert names == [name for name in STAGES if name not in absent | {"waiting"}]  # the clips are there
    assert head in names
    by_name = {row["name"]: row for row in values["stages"]}
    assert values["total"]["ms"] == pytest.approx(sum(row["ms"] for row in values["stages"]), rel=0.5)
    assert values["total"]["gflop"] == pytest.approx(sum(row["gflop"] for row in values["stages"]))
    macs = count_macs("tiny", task, "rero", **SHAPE)
    forward = sum(by_name[name]["gflop"] for name in ("score", "embedding", "encoder", head))
    assert forward == pytest.approx(2 * 2 * macs["gmacs"], rel=1e-6)  # two clips, two operations each
    assert values["total"]["gflop"] == pytest.approx(2 * 2 * macs["gmacs_training"], rel=1e-6)
    for name in ("patchify", "score", "encoder, backward", "optimiser"):
        assert by_name[name]["gbytes"] > 0
        assert by_name[name]["floor_ms"] > 0
    table = format_profile(values)
    assert all(name in table for name in (*names, "total"))


def test_marks_add_up() -> None:
    timeline = Timeline(torch.device("cpu"))
    for name in ("a", "b", "a"):
        timeline.mark(name)
    assert list(timeline.seconds) == ["a", "b"]
    assert all(seconds > 0 for seconds in timeline.seconds.values())


def test_work_is_counted_where_it_happens() -> None:
    work = Work(1e9, 1e6)
    a, b = torch.ones(10, 20), torch.ones(20, 30)
    with work:
        a @ b
        work.mark("product")
        a.view(20, 10).transpose(0, 1)
        work.mark("view")
        a + 1
        work.mark("sum")
    assert dict(work.flop) == {"product": 2 * 10 * 20 * 30, "view": 0, "sum": 0}
    assert dict(work.num_bytes) == {"product": 4 * (200 + 600 + 300), "view": 0, "sum": 4 * 400}
    assert work.floor_seconds["product"] == pytest.approx(4.4e-3)  # its bytes, not its 12 microseconds of products
    assert work.floor_seconds["sum"] == pytest.approx(1.6e-3)


def test_the_command_prints_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["bench", "step", "--size", "tiny", "--batch", "1", "--steps", "1", "--device", "cpu", "--profile"]
    assert main(arguments) == 0
    assert "encoder, backward" in capsys.readouterr().out
    assert main([*arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["total"]["ms"] > 0
    assert main([*arguments, "--peer", "plain"]) == 2
    assert main([*arguments, "--data", "no-such-list.csv"]) == 2  # clips are taken from there
    assert main([*arguments, "--data", "bundled"]) == 0


def test_a_step_waits_for_clips_that_are_read_meanwhile(capsys: pytest.CaptureFixture[str]) -> None:
    data = load_data("bundled").split("train")
    info = describe_task("tiny", "pretrain", "rero", **SHAPE)
    with reading(data, info, 2, device="cpu", num_workers=0) as batches:
        values = profile_step(build_step(info, 2, device="cpu", batches=batches), steps=2)
        assert not torch.equal(next(batches).frames, next(batches).frames)
    rows = {row["name"]: row for row in values["stages"]}
    assert next(iter(rows)) == "waiting"
    assert rows["waiting"]["ms"] > 1  # nothing is read while a step computes
    assert rows["waiting"]["share"] == pytest.approx(rows["waiting"]["ms"] / values["total"]["ms"])
    labelled = describe_task("tiny", "finetune", "rero", num_classes=3, **SHAPE)
    with reading(data, labelled, 4, device="cpu", num_workers=0) as batches:
        assert math.isfinite(build_step(labelled, 4, device="cpu", batches=batches).run())
    for wrong in ({"batch": 0, "num_workers": 0}, {"batch": 2, "num_workers": -2}):
        with pytest.raises(ConfigError, match="at least one clip"), reading(data, info, device="cpu", **wrong):
            pass
    words = ["bench", "step", "--size", "tiny", "--batch", "2", "--steps", "1", "--device", "cpu", "--side", "64"]
    assert main([*words, "--profile", "--data", "bundled", "--workers", "1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["num_workers"] == 1
    assert found["stages"][0]["name"] == "waiting"
    assert not found["operations"]  # what reading does in this process would be among them
    assert main([*words, "--profile", "--workers", "1"]) == 2
    assert main([*words, "--profile", "--data", "bundled", "--workers", "-2"]) == 2
    assert main([*words, "--workers", "1", "--data", "bundled"]) == 2


def test_waiting_is_the_mean_over_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    info = describe_task("tiny", "pretrain", "rero", **SHAPE)
    waits = iter([0.0, 0.0, 0.0, 0.3])
    monkeypatch.setattr(profile, "_timed", lambda *_: {"waiting": next(waits), "encoder": 0.1})
    values = profile_step(build_step(info, 1, device="cpu"), steps=4)
    rows = {row["name"]: row["ms"] for row in values["stages"]}
    assert rows == pytest.approx({"waiting": 75.0, "encoder": 100.0})
    assert values["total"]["ms"] == pytest.approx(175.0)


def test_attention_of_clips_in_one_row_counts_backward_twice() -> None:
    import torch.nn.attention.varlen  # registers the operations

    q = torch.empty(12, 2, 8)
    starts = torch.tensor([0, 5, 12])
    forward, backward = torch.ops.torch_attn._varlen_attn, torch.ops.torch_attn._varlen_attn_backward
    counted = _flop(forward.default, (q, q, q, starts, starts, 7, 7), {}, (q, q, q))
    assert counted == 2 * 2 * 2 * 8 * (5**2 + 7**2)
    lse = torch.empty(2, 12)
    given = (q, q, q, q, q, lse, starts, starts, 7, 7, False, lse)
    assert _flop(backward.default, given, {}, (q, q, q)) == pytest.approx(2 * counted)


def test_what_cannot_be_profiled_is_refused() -> None:
    info = describe_task("tiny", "pretrain", "rero", **SHAPE)
    with pytest.raises(ConfigError, match="at least one step"):
        profile_step(build_step(info, 1, device="cpu"), steps=0)
    with pytest.raises(ConfigError, match="only our own model can be taken apart, not PlainAutoencoder"):
        profile_step(build_step(info, 1, device="cpu", peer="plain"))


def test_processes_that_read_are_gone_afterwards() -> None:
    data = load_data("bundled").split("train")
    info = describe_task("tiny", "pretrain", "rero", **SHAPE)
    with reading(data, info, 2, device="cpu", num_workers=2) as batches:
        next(batches)
        assert len(multiprocessing.active_children()) == 2
    assert multiprocessing.active_children() == []

    def break_off() -> None:
        with reading(data, info, 2, device="cpu", num_workers=2) as batches:
            next(batches)
            raise RuntimeError("broke off")

    with pytest.raises(RuntimeError, match="broke off"):
        break_off()
    assert multiprocessing.active_children() == []
