"""Device, precision, gradients and seeds; several processes are real ones."""

import copy
import os
import random
import socket
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from everest.config import RunConfig
from everest.errors import ConfigError
from everest.training.engine import Engine, choose_dtype, seed_everything

CPU = torch.device("cpu")


def start(precision: str = "float32") -> Engine:
    return Engine.start(RunConfig(device="cpu", precision=precision))


def loss_of(model: nn.Module, inputs: torch.Tensor) -> torch.Tensor:
    return model(inputs).float().square().mean()


def test_one_process_on_the_cpu() -> None:
    engine = start()
    assert (engine.device, engine.rank, engine.world_size, engine.is_main) == (CPU, 0, 1, True)
    assert engine.describe().startswith("cpu (")
    assert engine.describe().endswith("float32, 1 process")
    engine.wait()
    assert torch.equal(engine.mean(torch.tensor([2.0])), torch.tensor([2.0]))


def test_two_runs_of_one_process_choose_for_themselves() -> None:
    engines = [start("bfloat16"), start("float32"), start("auto")]
    assert [engine.dtype for engine in engines] == [torch.bfloat16, torch.float32, torch.float32]


def test_a_run_does_not_inherit_the_device_of_the_one_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_TORCH_DEVICE", "meta")
    assert Engine.start(RunConfig(device="auto")).device.type == "meta"
    monkeypatch.delenv("ACCELERATE_TORCH_DEVICE")
    assert start().device == CPU


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_a_device_that_is_not_there_is_refused(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=f"run.device={device} is not available .* use run.device=auto or cpu"):
        Engine.start(RunConfig(device=device))


def test_another_device_than_the_one_asked_for_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    with pytest.raises(ConfigError, match=r"run.device=cuda was asked for, but Accelerate chose cpu"):
        Engine.start(RunConfig(device="cuda"))


@pytest.mark.parametrize("has_bfloat16", [True, False])
def test_precision_follows_the_accelerator(has_bfloat16: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: has_bfloat16)
    device = torch.device("cuda")
    assert choose_dtype("auto", device) == (torch.bfloat16 if has_bfloat16 else torch.float32)
    assert choose_dtype("float32", device) == torch.float32
    if has_bfloat16:
        assert choose_dtype("bfloat16", device) == torch.bfloat16
    else:
        with pytest.raises(ConfigError, match="use float32 or auto"):
            choose_dtype("bfloat16", device)


def test_bfloat16_computes_in_it_and_keeps_float32_weights() -> None:
    engine = start("bfloat16")
    plain = nn.Linear(8, 4)
    model, optimizer = engine.prepare(plain), torch.optim.AdamW(plain.parameters(), fused=True)
    with engine.autocast():
        outputs = model(torch.randn(2, 8))
    assert outputs.dtype == torch.bfloat16
    engine.backward(outputs.float().sum())
    optimizer.step()
    state = optimizer.state_dict()["state"][0]
    for tensor in (plain.weight, plain.weight.grad, state["exp_avg"], state["exp_avg_sq"]):
        assert tensor.dtype == torch.float32


def test_a_prepared_model_can_be_copied() -> None:
    engine = start("bfloat16")
    plain = nn.Linear(2, 1)
    model = engine.prepare(plain)
    twin = copy.deepcopy(engine.unwrap(model))
    before = twin(torch.ones(1, 2))
    nn.init.zeros_(plain.weight)
    assert torch.equal(twin(torch.ones(1, 2)), before)


def test_unwrapping_takes_off_compilation_too() -> None:
    engine, plain = start(), nn.Linear(2, 1)
    compiled = torch.compile(plain)
    assert engine.unwrap(compiled) is plain
    assert list(engine.unwrap(compiled).state_dict()) == ["weight", "bias"]


def test_accumulated_passes_are_one_large_pass() -> None:
    engine = start()
    inputs = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    gradients = []
    for num_passes in (1, 3):
        torch.manual_seed(0)
        plain = nn.Linear(4, 2)
        model = engine.prepare(plain)
        for index, part in enumerate(inputs.chunk(num_passes)):
            with engine.accumulate(model, sync=index == num_passes - 1):
                engine.backward(loss_of(model, part) / num_passes)
        gradients.append(plain.weight.grad.clone())
    assert torch.allclose(gradients[0], gradients[1], atol=1e-6)


def test_accumulation_asked_for_by_the_launcher_is_not_applied(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    engine, weight = start(), torch.ones(1, requires_grad=True)
    engine.backward((3.0 * weight).sum())
    assert weight.grad.item() == 3.0
    assert engine.dtype == torch.float32


@pytest.mark.parametrize(("max_norm", "expected"), [(None, 5.0), (10.0, 5.0), (1.0, 1.0)])
def test_clipping_returns_the_norm_before_it(max_norm: float | None, expected: float) -> None:
    model = nn.Linear(1, 2, bias=False)
    model.weight.grad = torch.tensor([[3.0], [4.0]])
    norm = start().clip(model, max_norm)
    assert norm.item() == 5.0
    assert model.weight.grad.norm().item() == pytest.approx(expected, rel=1e-4)


def test_a_gradient_that_is_not_finite_shows_in_the_norm() -> None:
    model = nn.Linear(1, 2, bias=False)
    model.weight.grad = torch.tensor([[float("nan")], [4.0]])
    assert not start().clip(model, None).isfinite()
    assert model.weight.grad[1].item() == 4.0


def test_starting_changes_no_environment_variable_and_writes_no_file(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    before = dict(os.environ)
    start("bfloat16")
    assert dict(os.environ) == before
    assert list(tmp_path.iterdir()) == []


def test_everything_is_seeded() -> None:
    draws = []
    for seed in (3, 3, 4):
        seed_everything(seed)
        draws.append((random.random(), float(np.random.rand()), float(torch.rand(()))))  # noqa: NPY002
    assert draws[0] == draws[1]
    assert all(a != b for a, b in zip(draws[0], draws[2], strict=True))


TWO_PROCESSES = """
import torch
from torch import nn
from everest.config import RunConfig
from everest.training.engine import Engine, seed_everything

engine = Engine.start(RunConfig(precision="float32"))  # device auto
assert engine.device.type == "cpu"
assert engine.world_size == 2
seed_everything(engine.rank)  # the model of rank 0 must win
plain = nn.Linear(2, 1, bias=False)
model = engine.prepare(plain)
weights = engine.mean(plain.weight.detach().clone())
assert torch.allclose(weights, plain.weight), "processes start from the same weights"

inputs = torch.full((1, 2), float(engine.rank + 1))
with engine.accumulate(model, sync=False):
    engine.backward(model(inputs).sum() / 2)
assert torch.equal(plain.weight.grad, inputs / 2), "the first pass stays in its process"
with engine.accumulate(model, sync=True):
    engine.backward(model(inputs).sum() / 2)
assert torch.allclose(plain.weight.grad, torch.full((1, 2), 1.5)), "the last pass is averaged"
assert abs(float(engine.clip(model, None)) - 4.5**0.5) < 1e-6
assert list(engine.unwrap(model).state_dict()) == ["weight"]
assert engine.is_main == (engine.rank == 0)
engine.wait()
print("done", engine.rank)
"""


def test_two_processes_exchange_gradients_once_per_step() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    common = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    common |= {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", TWO_PROCESSES],
            env=os.environ | common | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    for rank, process in enumerate(processes):
        stdout, stderr = process.communicate(timeout=120)
        assert stdout == f"done {rank}\n", stderr


def test_processes_that_cannot_find_each_other_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("ACCELERATE_TORCH_DEVICE", "meta")  # a device for which Accelerate connects nothing
    with pytest.raises(ConfigError, match="2 processes were started, but Accelerate sees 1"):
        Engine.start(RunConfig(device="auto"))
