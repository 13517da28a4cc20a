"""Every lever gives what it stands for gives."""

import json

import pytest
import torch

from everest.bench import levers
from everest.bench.levers import LEVERS, Lever, bench_levers, bytes_to_the_device, format_levers
from everest.cli import main
from everest.errors import ConfigError
from everest.training.optim import build_optimizer

SHAPE = {"num_frames": 4, "height": 64, "width": 64}


@pytest.mark.parametrize("task", ["pretrain", "finetune"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_each_gives_the_same_as_the_usual_way(task: str, precision: str) -> None:
    done: list[tuple[int, int]] = []
    values = bench_levers(
        size="tiny",
        task=task,
        batch=2,
        device="cpu",
        precision=precision,
        rounds=2,
        on_progress=lambda *numbers: done.append(numbers),
        **SHAPE,
    )
    json.dumps(values)
    rows = values["levers"]
    assert len({row["name"] for row in rows}) == len(rows)
    assert len(rows) == len(LEVERS) - (1 if task == "pretrain" else 2)  # nothing is copied to another device
    assert done[-1] == (len(rows), len(rows))
    assert all(row["same"] for row in rows), format_levers(values)
    assert all(row["gain"] == pytest.approx(row["usual_ms"] / row["ms"]) for row in rows)
    assert len(format_levers(values).splitlines()) == len(rows) + 2


def test_what_is_not_the_same_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    numbers = torch.arange(4.0)
    wrong = Lever("halves", "wholes", lambda: numbers / 2, lambda: numbers)
    turned = Lever("backwards", "forwards", lambda: numbers.flip(0), lambda: numbers, aligned=lambda it: it.flip(0))
    monkeypatch.setattr(levers, "LEVERS", (lambda _: wrong, lambda _: turned))
    assert main(["bench", "levers", "--size", "tiny", "--batch", "1", "--rounds", "1", "--device", "cpu"]) == 1
    first, second = [line for line in capsys.readouterr().out.splitlines() if "wards" in line or "halves" in line]
    assert "NOT THE SAME" in first
    assert "NOT THE SAME" not in second
    assert " 5e-01" in first


def test_a_group_that_is_left_out_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def without_the_last(model: torch.nn.Module, *given: object) -> torch.optim.Optimizer:
        built = build_optimizer(model, *given)  # type: ignore[arg-type]
        built.param_groups[-1]["params"].pop()
        return built

    monkeypatch.setattr(levers, "LEVERS", (levers.fused_optimizer,))
    assert all(row["same"] for row in bench_levers(size="tiny", batch=1, device="cpu", rounds=1, **SHAPE)["levers"])
    ways = [build_optimizer, without_the_last]  # of the usual groups, then of ours

    def in_turn(model: torch.nn.Module, *given: object) -> torch.optim.Optimizer:
        return ways.pop(0)(model, *given)  # type: ignore[arg-type]

    monkeypatch.setattr(levers, "build_optimizer", in_turn)
    (row,) = bench_levers(size="tiny", batch=1, device="cpu", rounds=1, **SHAPE)["levers"]
    assert not row["same"]


@pytest.mark.gpu
def test_on_a_gpu_copying_is_a_lever() -> None:
    values = bench_levers(size="tiny", batch=2, device="cuda", rounds=1, **SHAPE)
    assert len(values["levers"]) == len(LEVERS)
    assert LEVERS[-1] is bytes_to_the_device
    assert all(row["same"] for row in values["levers"]), format_levers(values)


def test_nothing_cannot_be_tried() -> None:
    with pytest.raises(ConfigError, match="given: 0 and 5"):
        bench_levers(batch=0)
    with pytest.raises(ConfigError, match="cannot measure on device 'abacus'"):
        bench_levers(size="tiny", device="abacus")
