"""Blocks are compiled whole: nothing in them falls back to Python, forward or backward."""

import pytest
import torch
from torch import _dynamo
from torch._dynamo.utils import counters

from everest.bench.described import describe_task
from everest.bench.tasks import build_step
from everest.models.layers import Block
from everest.training.blocks import compile_blocks


@pytest.mark.parametrize("is_drawn", [False, True])
@pytest.mark.parametrize("task", ["pretrain", "finetune"])
def test_a_pass_has_one_graph_for_each_kind_of_block_and_no_breaks(task: str, is_drawn: bool) -> None:
    info = describe_task("tiny", task, "rero", num_frames=4, height=32, width=32)
    rate = 0.5 if is_drawn else 0.0
    info = info.model_copy(update={"model": info.model.model_copy(update={"drop_path": rate})})
    plain, compiled = (build_step(info, 2, device="cpu", precision="float32") for _ in range(2))
    torch.compiler.reset()
    counters.clear()
    compile_blocks(compiled.model, backend="aot_eager")
    for _ in range(3):
        assert compiled.run() == pytest.approx(plain.run(), rel=1e-5)
    assert not counters["graph_break"]
    kinds = 3 if task == "pretrain" else 1  # encoder, decoder, and the decoder's last, which gives less than it takes
    assert counters["stats"]["unique_graphs"] == kinds + is_drawn  # the first block of an encoder leaves nothing out


def test_a_block_is_compiled_for_more_shapes_than_pytorch_has_by_itself() -> None:
    # not monkeypatch: it hides PyTorch's settings when it puts them back, from every test after this one
    with _dynamo.config.patch(recompile_limit=8, fail_on_recompile_limit_hit=True):
        torch.compiler.reset()
        counters.clear()
        block = Block(8, 2)
        compile_blocks(block, backend="eager")
        for num_tokens in range(2, 12):
            block(torch.randn(1, num_tokens, 8))
        assert counters["stats"]["unique_graphs"] == 10
    assert _dynamo.config.recompile_limit >= 8  # back, and to be read
