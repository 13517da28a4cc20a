"""Activation checkpointing gives the gradients of keeping everything, of less memory."""

from collections.abc import Callable
from typing import get_args

import pytest
import torch
from torch import Tensor, nn

from everest.bench.activations import activation_bytes
from everest.bench.described import describe_task
from everest.bench.tasks import build_step
from everest.config import Arch, ClipConfig, ModelConfig, SelectionConfig
from everest.draws import ClipDraws, seeds_of_clips
from everest.models import Classifier, build_classifier
from everest.models.dropping import drawing, find_dropping
from everest.models.recomputing import BlockBase, recompute_blocks
from everest.tokens import select_tokens

CLIP = ClipConfig(num_frames=4, height=32, width=32)
ALL = SelectionConfig(method="all", keep_ratio=1.0, encode_ratio=1.0)


def classifier(arch: Arch = "vit", drop_path: float = 0.3) -> Classifier:
    torch.manual_seed(0)
    model = build_classifier(ModelConfig(arch=arch, size="tiny", drop_path=drop_path), CLIP, 3)
    nn.init.normal_(model.head.weight)
    return model.train()


def step_of(model: Classifier) -> Callable[[], Tensor]:
    """A forward and a backward pass of four clips, of which some blocks leave some out."""
    torch.manual_seed(1)
    patches = torch.randn(4, model.grid.num_tokens, model.grid.num_pixels)
    selection = select_tokens(ALL, "finetune", model.grid, 4)

    def step() -> Tensor:
        with drawing(find_dropping(model), ClipDraws(seeds_of_clips(0, 0, range(4)))):
            loss = nn.functional.cross_entropy(model(patches, selection), torch.tensor([0, 1, 2, 0]))
            loss.backward()
        return loss.detach()

    return step


@pytest.mark.parametrize("arch", get_args(Arch))
def test_gradients_are_those_of_keeping_everything(arch: Arch) -> None:
    kept, recomputed = classifier(arch), classifier(arch)
    recompute_blocks(recomputed)
    assert torch.equal(step_of(kept)(), step_of(recomputed)())
    for (name, one), other in zip(kept.named_parameters(), recomputed.parameters(), strict=True):
        assert one.grad is not None
        assert other.grad is not None
        assert torch.equal(one.grad, other.grad), name
    assert kept.state_dict().keys() == recomputed.state_dict().keys()


def test_blocks_run_twice_and_only_while_learning() -> None:
    model = classifier()
    recompute_blocks(model)
    blocks = [module for module in model.modules() if isinstance(module, BlockBase)]
    calls: list[nn.Module] = []
    for block in blocks:
        block.register_forward_pre_hook(lambda module, _: calls.append(module))
    step_of(model)()
    assert len(blocks) == 6
    assert len(calls) == 12
    with torch.no_grad():
        model(
            torch.randn(1, model.grid.num_tokens, model.grid.num_pixels), select_tokens(ALL, "finetune", model.grid, 1)
        )
    assert len(calls) == 18


def test_compiled_blocks_can_compute_again() -> None:
    torch._dynamo.reset()
    plain, fast = classifier(drop_path=0.0), classifier(drop_path=0.0)
    recompute_blocks(fast)
    for module in fast.modules():
        if isinstance(module, BlockBase):
            module.compile(backend="aot_eager", dynamic=False)
    assert step_of(plain)().item() == pytest.approx(step_of(fast)().item(), rel=1e-5)
    for one, other in zip(plain.parameters(), fast.parameters(), strict=True):
        torch.testing.assert_close(other.grad, one.grad, rtol=1e-4, atol=1e-5)


def test_less_is_kept() -> None:
    kept = {}
    for is_on in (False, True):
        info = describe_task("tiny", "finetune", "rero", num_frames=8, height=64, width=64)
        step = build_step(info, 2, device="cpu", activation_checkpointing=is_on)
        kept[is_on] = activation_bytes(step.run, step.model)
    of_blocks = 6 * 2 * step.tokens.visible * 192 * 4  # what enters six blocks of two clips, in bytes
    assert of_blocks < kept[True] < 0.4 * kept[False]
