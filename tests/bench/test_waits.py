"""Lines that wait for a GPU are found by PyTorch's own warnings; on a CPU there are none."""

import warnings
from dataclasses import replace

import pytest
import torch

from everest.bench.described import describe_task
from everest.bench.tasks import build_step
from everest.bench.waits import find_waits, places_of
from everest.training.ema import Ema

SHAPE = {"num_frames": 4, "height": 32, "width": 32}


def test_a_cpu_waits_for_nothing() -> None:
    step = build_step(describe_task("tiny", "pretrain", "rero", **SHAPE), 1, device="cpu")
    assert find_waits(step) == []


def test_lines_that_wait_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the step, and those of averaging the weights after it."""
    modes: list[str] = []
    follow = Ema.update

    def update(self: Ema, model: torch.nn.Module) -> None:
        if modes == ["warn"]:
            warnings.warn("called a synchronizing CUDA operation", stacklevel=1)
        follow(self, model)

    monkeypatch.setattr(Ema, "update", update)
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", modes.append)
    step = build_step(describe_task("tiny", "pretrain", "rero", **SHAPE), 1, device="cpu")

    def run(_: object = None, *, wait: bool = True) -> float:
        assert wait != (modes == ["warn"])  # what reads the loss for the clock is no part of training
        if modes == ["warn"]:
            warnings.warn("called a synchronizing CUDA operation", stacklevel=1)
            warnings.warn("something else", stacklevel=1)
        return 0.0

    waits = find_waits(replace(step, run=run, device=torch.device("cuda")), warmup=1)
    assert [line.partition(":")[0] for line in waits] == ["bench/test_waits.py"] * 2
    assert modes == ["warn", "default"]


def test_what_the_switch_says_of_itself_is_no_wait() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        about_itself = (
            "Synchronization debug mode is a prototype feature and does not yet detect all synchronizing operations"
        )
        warnings.warn(about_itself, stacklevel=1)
        warnings.warn("called a synchronizing CUDA operation", stacklevel=1)
    assert len(places_of(caught)) == 1


@pytest.mark.gpu
@pytest.mark.parametrize("task", ["pretrain", "finetune"])
def test_training_waits_for_no_gpu(task: str) -> None:
    step = build_step(describe_task("tiny", task, "rero", **SHAPE), 2, device="cuda")  # type: ignore[arg-type]
    assert find_waits(step) == []
