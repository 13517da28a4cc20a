"""Steps whose loss or gradient is not finite: skipped, counted, agreed on, and not too many."""

import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import everest.training.runs as runs
from everest.config import FinetuneConfig, PretrainConfig
from everest.datasets import Batch, Manifest, load_data
from everest.draws import ClipDraws, seed_of_step
from everest.errors import RunError
from everest.recipes import get_recipe
from everest.settings import override
from everest.training import TrainedRun, run_finetuning, run_pretraining
from everest.training.health import Health, not_finite, spoilt
from everest.training.metrics import read_metrics
from everest.training.passes import BatchLoss
from everest.training.replay_files import read_replay
from everest.training.state import load_state

SMALL = [  # one step an epoch, of two passes
    *("model.size=tiny", "clip.num_frames=4", "clip.height=32", "clip.width=32", "optim.warmup_epochs=0"),
    *("optim.global_batch_size=8", "data.batch_size=4", "data.num_workers=0", "run.tensorboard=false"),
    *("run.device=cpu", "run.save_every_epochs=1", "run.keep_checkpoints=20"),
]


@pytest.fixture(scope="module")
def data() -> Manifest:
    bundled = load_data("bundled").split("train")
    return replace(bundled, records=bundled.records[:8])


def pretrain_config(*settings: str) -> PretrainConfig:
    config = get_recipe("demo").pretrain
    assert config is not None
    return override(config, [*SMALL, *settings])


def states(run: Path) -> dict[int, dict[str, Any]]:
    return {int(path.stem.removeprefix("step-")): load_state(path) for path in sorted(run.glob("checkpoints/*.pt"))}


def same(first: Any, second: Any) -> bool:
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(value, second[key]) for key, value in first.items())
    if isinstance(first, list | tuple):
        return all(same(*pair) for pair in zip(first, second, strict=True))
    return bool(first == second)


@pytest.fixture
def spoil(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes the loss of some steps not finite, wherever they are done again."""

    def spoil_steps(*steps: int, value: float = float("nan")) -> None:
        make, seeds = runs.pretraining_loss, {seed_of_step(0, step) for step in steps}

        def loss_of_run(*arguments: Any) -> Any:
            loss = make(*arguments)

            def spoilt_loss(wrapped: nn.Module, batch: Batch, draws: ClipDraws) -> BatchLoss:
                found = loss(wrapped, batch, draws)
                return found._replace(value=found.value * value) if draws.step_seed in seeds else found

            return spoilt_loss

        monkeypatch.setattr(runs, "pretraining_loss", loss_of_run)

    return spoil_steps


def train(data: Manifest, out: Path, *settings: str, said: list[str] | None = None) -> TrainedRun:
    say = (lambda _: None) if said is None else said.append
    return run_pretraining(pretrain_config(*settings), data, out, resume="auto", say=say)


@pytest.mark.parametrize("scale", [1.0, 1e-30, -3.0, 1e30])
def test_a_finite_loss_keeps_its_gradient_to_the_bit(scale: float) -> None:
    gradients = []
    for wrap in (spoilt, lambda loss: loss):
        weight = torch.randn(50, generator=torch.Generator().manual_seed(0)).requires_grad_()
        wrap((weight.sin() * scale).sum()).backward()
        gradients.append(weight.grad)
    assert torch.equal(*gradients)


@pytest.mark.parametrize("value", [1e25, float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_has_no_finite_gradient(value: float) -> None:
    weight = torch.tensor([value, 1.0], requires_grad=True)
    loss = weight.square().sum()  # overflows, where its gradient does not
    assert not loss.isfinite()
    spoilt(loss).backward()
    assert not weight.grad.isfinite().any()


@pytest.mark.parametrize("defers", [False, True], ids=["at once", "as on a GPU"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_step_that_is_not_finite_changes_nothing_and_is_counted(
    defers: bool, value: float, data: Manifest, tmp_path: Path, spoil: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Health, "_defers", property(lambda _: defers, lambda *_: None), raising=False)
    spoil(2, value=value)
    said: list[str] = []
    run = train(data, tmp_path / "run", "optim.epochs=5", "optim.ema_decay=0.5", said=said)
    saved = states(run.folder.path)
    for part in ("model", "optimizer", "ema"):
        steps = [saved[n][part] for n in (2, 3, 4)]
        if part == "optimizer":  # the learning rate is that of the step
            steps = [step["state"] for step in steps]
        assert same(steps[0], steps[1]), part
        assert not same(steps[1], steps[2]), part
    lines = read_metrics(run.folder.metrics)
    assert [line["skipped_steps"] for line in lines] == [0, 0, 1, 1, 1]
    assert [line["loss"] is None for line in lines] == [False, False, True, False, False]
    (line,) = [line for line in said if "skipped" in line]
    assert line.startswith("step 2 was skipped (1 in a row, where 10 may be)")
    assert "rank 0, loss nan" in line or "rank 0, loss inf" in line
    assert data.records[0].path.name in line
    assert str(run.folder.path / "replays" / "step-00000002-rank-0.json") in line


def test_both_ways_of_skipping_give_the_same_bits(
    data: Manifest, tmp_path: Path, spoil: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(1, 2)
    found = []
    for defers in (False, True):
        monkeypatch.setattr(Health, "_defers", property(lambda _, d=defers: d, lambda *_: None), raising=False)
        run = train(data, tmp_path / str(defers), "optim.epochs=5", "optim.ema_decay=0.5", "run.log_every_steps=4")
        found.append(states(run.folder.path)[5])
    assert same(*found)


def test_a_run_that_skipped_a_step_goes_on_with_the_same_bits(data: Manifest, tmp_path: Path, spoil: Any) -> None:
    spoil(1, 2)
    settings = ("optim.epochs=6", "optim.ema_decay=0.5")
    whole = train(data, tmp_path / "run", *settings)
    before, lines = states(whole.folder.path), read_metrics(whole.folder.metrics)
    for step in (6, 5, 4, 3):  # as if it had been stopped between the steps that are skipped
        (whole.folder.checkpoints / f"step-{step:08d}.pt").unlink()
    again = train(data, tmp_path / "run", *settings)
    assert same(states(again.folder.path), before)
    kept = ("step", "loss", "grad_norm", "skipped_steps")
    assert [[line[name] for name in kept] for line in read_metrics(again.folder.metrics)] == [
        [line[name] for name in kept] for line in lines
    ]
    assert lines[-1]["skipped_steps"] == 2


def test_more_than_the_limit_in_a_row_stop_the_run_and_leave_what_is_good(
    data: Manifest, tmp_path: Path, spoil: Any
) -> None:
    spoil(1, 3, 4, 5, 6)
    settings = ("optim.epochs=9", "run.max_skipped_steps=2", "run.keep_checkpoints=1")
    with pytest.raises(RunError, match=r"3 steps in a row were skipped .* from step 3 on") as caught:
        train(data, tmp_path / "run", *settings)
    text = str(caught.value)
    good = tmp_path / "run" / "checkpoints" / "step-00000003.pt"
    assert same(load_state(good)["health"], {"skipped_steps": 1, "in_a_row": 0})
    assert "run.max_skipped_steps=2" in text
    assert "optim.base_lr" in text
    with pytest.raises(RunError, match="3 steps in a row"):  # the count goes on, it does not begin anew
        train(data, tmp_path / "run", *settings)
    assert good.is_file()
    train(data, tmp_path / "run", *settings[:1], "run.max_skipped_steps=4", "run.keep_checkpoints=1")


def test_the_message_names_the_state_from_before(data: Manifest, tmp_path: Path, spoil: Any) -> None:
    spoil(3, 4)
    with pytest.raises(RunError) as caught:
        train(data, tmp_path / "run", "optim.epochs=6", "run.max_skipped_steps=1")
    checkpoints = tmp_path / "run" / "checkpoints"
    assert f"{checkpoints / 'step-00000002.pt'} is from before that" in str(caught.value)
    assert "to go on from there, delete step-00000003.pt, step-00000004.pt" in str(caught.value)


def test_no_step_may_be_skipped_where_the_limit_is_zero(data: Manifest, tmp_path: Path, spoil: Any) -> None:
    spoil(0)
    with pytest.raises(RunError, match="1 steps in a row"):
        train(data, tmp_path / "run", "run.max_skipped_steps=0")
    assert list((tmp_path / "run" / "replays").glob("*.json"))  # kept, though nothing was learnt


def test_weights_that_are_not_finite_are_never_saved(data: Manifest, tmp_path: Path) -> None:
    """The learning rate overflows float32, while loss and gradient are those of fresh weights."""
    with pytest.raises(RunError, match=r"weights are not finite after step 1 .*nothing was saved"):
        train(data, tmp_path / "run", "optim.base_lr=1e41", "optim.min_lr=1e41")
    assert not list(tmp_path.glob("run/checkpoints/*.pt"))
    assert not (tmp_path / "run" / "weights.safetensors").exists()


def test_an_overflow_of_real_weights_is_skipped(data: Manifest, tmp_path: Path) -> None:
    """Nothing is patched: the first step throws the weights so far that the next loss overflows."""
    with pytest.raises(RunError, match="in a row were skipped"):
        train(data, tmp_path / "run", "optim.base_lr=1e30", "optim.min_lr=1e30", "run.max_skipped_steps=1")
    replays = sorted((tmp_path / "run" / "replays").glob("*.json"))
    assert [read_replay(path).step for path in replays] == [1, 2]


def test_a_spike_is_named_once_with_its_files_also_where_lines_are_rare(
    data: Manifest, tmp_path: Path, spoil: Any
) -> None:
    spoil(25, 26, value=30.0)
    said: list[str] = []
    settings = ("optim.epochs=30", "run.save_every_epochs=30", "data.batch_size=8", "data.memory_cache=true")
    train(data, tmp_path / "run", *settings, said=said)
    (line,) = [line for line in said if "far above" in line]
    assert "of rank 0 at step 25 is far above the usual" in line
    assert all(record.path.name in line for record in data.records)
    assert not any("skipped" in each for each in said)


def test_fine_tuning_skips_too(data: Manifest, tmp_path: Path) -> None:
    config = get_recipe("demo").finetune
    assert isinstance(config, FinetuneConfig)
    config = override(config, [*SMALL, "optim.base_lr=1e38", "optim.min_lr=1e38", "run.max_skipped_steps=1"])
    with pytest.raises(RunError, match="in a row were skipped"):
        run_finetuning(config, data, tmp_path / "run", say=lambda _: None)


TWO_PROCESSES = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import torch
from test_health import load_data, pretrain_config, replace, runs, run_pretraining, seed_of_step
from everest.training import health, spikes
from everest.training.health import Health
from everest.training.loop import StepTimer
from everest.training.processes import this_process

make = runs.pretraining_loss

def spoilt_on_rank_1(*arguments):
    loss = make(*arguments)
    def function(wrapped, batch, draws):
        found = loss(wrapped, batch, draws)
        factors = {seed_of_step(0, 1): float("inf"), seed_of_step(0, 3): 50.0} if this_process()[0] == 1 else {}
        return found._replace(value=found.value * factors.get(draws.step_seed, 1.0))
    return function

runs.pretraining_loss = spoilt_on_rank_1
health.memory_used = lambda device, of_graphs: {"gpu_memory_gb": 1.0 + this_process()[0]}
StepTimer.rates = lambda timer, world_size: {"clips_per_second": 8.0, "wait_share": 0.25 + 0.5 * this_process()[0]}
spikes.MIN_LOSSES = 2
is_sharded = sys.argv[3] == "true"
Health._defers = property(lambda _: is_sharded, lambda *_: None)  # as on a GPU
bundled = load_data("bundled").split("train")
data = replace(bundled, records=bundled.records[:8])
config = pretrain_config("optim.epochs=4", f"run.shard_weights={sys.argv[3]}")
run = run_pretraining(config, data, Path(sys.argv[2]))
total = torch.stack([value.double().sum() for value in run.model.state_dict().values()]).sum()
print("weights", total.item().hex())
"""


@pytest.mark.parametrize("sharded", ["false", "true"], ids=["DDP, at once", "FSDP2, as on a GPU"])
def test_two_processes_skip_together_where_one_of_them_has_to(sharded: str, tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    common = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    common |= {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    arguments = [sys.executable, "-c", TWO_PROCESSES, str(Path(__file__).parent), str(tmp_path / "run"), sharded]
    processes = [
        subprocess.Popen(
            arguments,
            env=os.environ | common | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    told = [process.communicate(timeout=240) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], told
    assert told[0][0] == told[1][0] != ""
    run = tmp_path / "run"
    (line,) = [line for line in (run / "log.txt").read_text().splitlines() if "skipped" in line]
    assert re.match(r"step 1 was skipped .*: gradient norm nan; rank 1, loss inf, files ", line)
    (line,) = [line for line in (run / "log.txt").read_text().splitlines() if "far above" in line]
    assert re.match(r"loss \S+ of rank 1 at step 3 is far above the usual 1\.\d+ .*, files .*\.mp4", line)
    assert sorted(path.name for path in (run / "replays").iterdir()) == [
        "step-00000001-rank-1.json",
        "step-00000001-weights.safetensors",
    ]
    lines = read_metrics(run / "metrics.jsonl")
    assert [line["skipped_steps"] for line in lines] == [0, 1, 1, 1]
    assert {(line["gpu_memory_gb"], line["wait_share"]) for line in lines} == {(2.0, 0.75)}  # of rank 1, the largest
    saved = states(run)
    assert same(saved[1]["model"], saved[2]["model"])
    assert not same(saved[2]["model"], saved[3]["model"])
    assert not (run / "ranks").exists()  # both ended well


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_one_number_among_many_is_found(value: float, dtype: torch.dtype) -> None:
    fine = torch.full((3, 1000), torch.finfo(dtype).max, dtype=dtype)
    fine[1] *= -1
    bad = fine.clone()
    bad[1, 500] = value
    if dtype == torch.float64:  # what float32 cannot hold is no weight that a network is saved with
        fine = fine.sign()
    tensors = {"fine": fine, "bad": bad, "none": fine[:0], "count": torch.tensor(3), "one": torch.tensor(1.0)}
    assert not_finite(tensors) == ["bad"]
    assert not_finite({}) == []
