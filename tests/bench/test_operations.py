"""Operations of a step by kind: their times and what is between them add up to the step."""

import pytest
import torch
from torch.nn import functional

from everest.bench import operations
from everest.bench.described import describe_task
from everest.bench.operations import BETWEEN, ELEMENTWISE, KINDS, format_operations, kind_of, time_operations
from everest.bench.tasks import build_step
from everest.bench.timeline import counted_flop


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *(("mm", "matrix products"), ("addmm", "matrix products")),
        ("_scaled_dot_product_flash_attention_for_cpu_backward", "attention"),
        *(("native_layer_norm_backward", "norms"), ("gelu_backward", "GELU"), ("_fused_adamw_", "optimiser")),
        *(("sum", "sums"), ("mse_loss_backward", "sums"), ("index_select", "gathers and sorting")),
        *(("sort", "gathers and sorting"), ("copy_", "copies"), ("_to_copy", "copies"), ("cat", "copies")),
        *(("add", ELEMENTWISE), ("mul_", ELEMENTWISE), ("bitwise_xor", ELEMENTWISE), ("max", ELEMENTWISE)),
    ],
)
def test_operations_have_kinds(name: str, kind: str) -> None:
    assert kind_of(name) == kind


def test_kinds_and_what_is_between_them_are_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(1000))
    monkeypatch.setattr(operations.time, "perf_counter", lambda: float(next(clock)))  # every look takes a second
    a, b = torch.ones(4, 8), torch.ones(8, 2)
    rows = time_operations(lambda: functional.gelu((a @ b).t() + 1.0), 3, flop_per_second=64.0, bytes_per_second=24.0)
    named = {row["name"]: row for row in rows}
    assert set(named) == {"matrix products", "GELU", ELEMENTWISE, BETWEEN}  # a view is no operation
    product = named["matrix products"]
    assert (product["ms"], product["calls"], product["gflop"]) == (1e3, 1, 128e-9)
    assert (product["gbytes"], product["floor_ms"]) == (4 * (32 + 16 + 8) / 1e9, 1e3 * 224 / 24)  # by its bytes
    assert product["gap"] == pytest.approx(1 / (224 / 24))
    assert named[BETWEEN]["ms"] == 4e3  # seven seconds, of which three are those of operations
    assert sum(row["share"] for row in rows) == pytest.approx(1.0)
    assert rows[-1]["name"] == BETWEEN
    assert "x0.11" in format_operations(rows)


@pytest.mark.parametrize("task", ["pretrain", "finetune"])
def test_no_work_of_a_step_is_missed(task: str) -> None:
    info = describe_task("tiny", task, "rero", num_frames=4, height=32, width=32)
    step = build_step(info, 2, device="cpu", precision="float32")
    rows = time_operations(step.run, 1, 1e11, 1e10)
    assert {row["name"] for row in rows} == {*KINDS, ELEMENTWISE, BETWEEN}
    assert sum(row["gflop"] for row in rows) == pytest.approx(counted_flop(step.run) / 1e9)
