"""Every lever gives what it stands for gives."""

import json

import pytest
import torch

from everest.bench import lever_list, levers
from everest.bench.described import describe_task
from everest.bench.lever import Lever
from everest.bench.lever_gpu import ATTENTION_KERNELS, changed_on_the_device
from everest.bench.lever_list import FOR_A_GPU, LEVERS, fused_optimizer, scored_and_embedded
from everest.bench.levers import bench_levers, format_levers
from everest.cli import main
from everest.errors import ConfigError
from everest.models.products import products_by
from everest.training.optim import build_optimizer

SHAPE = {"num_frames": 4, "height": 64, "width": 64}


@pytest.mark.parametrize("task", ["pretrain", "finetune"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_each_gives_the_same_as_the_usual_way(task: str, precision: str) -> None:
    done: list[tuple[int, int]] = []
    with products_by("onednn"):  # as on processors that gain by it
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
    left_out = len(FOR_A_GPU) + 2 * (task == "finetune")  # predictions
    left_out += 1  # in float32 a stream in another format, in bfloat16 products by another library
    assert len(rows) == len(LEVERS) - left_out
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

    monkeypatch.setattr(levers, "LEVERS", (fused_optimizer,))
    assert all(row["same"] for row in bench_levers(size="tiny", batch=1, device="cpu", rounds=1, **SHAPE)["levers"])
    ways = [build_optimizer, without_the_last]  # of the usual groups, then of ours

    def in_turn(model: torch.nn.Module, *given: object) -> torch.optim.Optimizer:
        return ways.pop(0)(model, *given)  # type: ignore[arg-type]

    monkeypatch.setattr(lever_list, "build_optimizer", in_turn)
    (row,) = bench_levers(size="tiny", batch=1, device="cpu", rounds=1, **SHAPE)["levers"]
    assert not row["same"]


def test_what_is_compared_with_may_use_what_its_users_have(monkeypatch: pytest.MonkeyPatch) -> None:
    """The convolution of the usual way is cuDNN's, without TF32 as our products are."""
    seen = []
    embed = torch.nn.Conv3d.forward

    def look(self: torch.nn.Conv3d, x: torch.Tensor) -> torch.Tensor:
        seen.append((torch.backends.cudnn.enabled, torch.backends.cudnn.allow_tf32))
        return embed(self, x)

    monkeypatch.setattr(torch.nn.Conv3d, "forward", look)
    place = levers._place(describe_task("tiny", "pretrain", "rero", **SHAPE), 1, "cpu", "float32", seed=0)
    scored_and_embedded(place).usual()
    assert seen == [(True, False)]


def test_augmenting_on_the_device_does_what_a_worker_does() -> None:
    info = describe_task("tiny", "pretrain", "rero", **SHAPE)
    place = levers._place(info, 3, "cpu", "float32", seed=0)
    lever = changed_on_the_device(place)
    clips = place.clips.float().mean(dim=(1, 3, 4))
    assert not torch.allclose(lever.shown(lever.ours()), clips, rtol=0.01)  # something is changed
    row = levers._measure(lever, place, 1)
    assert row["name"].startswith("3 clips")
    assert row["same"], row


def test_kernels_of_attention_give_what_pytorch_chooses_where_there_are_any() -> None:
    place = levers._place(describe_task("tiny", "pretrain", "rero", **SHAPE), 2, "cpu", "float32", seed=0)
    flash, cudnn, _ = ATTENTION_KERNELS
    assert [kernel.works(place) for kernel in (flash, cudnn)] == [True, False]  # CPUs have one of their own
    row = levers._measure(flash(place), place, 1)
    assert row["same"], row


@pytest.mark.gpu
def test_on_a_gpu_copying_is_a_lever() -> None:
    values = bench_levers(size="tiny", batch=2, device="cuda", precision="bfloat16", rounds=1, **SHAPE)
    assert len(values["levers"]) >= len(LEVERS) - 1 - len(ATTENTION_KERNELS)  # no other library, and not every kernel
    assert {"clips copied while blocks compute", "attention by FlashAttention"} <= {r["name"] for r in values["levers"]}
    assert all(row["same"] for row in values["levers"]), format_levers(values)


def test_nothing_cannot_be_tried() -> None:
    with pytest.raises(ConfigError, match="given: 0 and 5"):
        bench_levers(batch=0)
    with pytest.raises(ConfigError, match="cannot measure on device 'abacus'"):
        bench_levers(size="tiny", device="abacus")
