"""How much a forward pass keeps for the backward pass: the memory that grows with tokens, the same on every device."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from everest.models.recomputing import BlockBase


def activation_bytes(step: Callable[[], object], model: nn.Module) -> int:
    """Run a step and add up what autograd keeps, and what enters blocks that compute the rest again.

    Every piece of memory counts once, however often it is kept, and counts whole where a part of it is kept; parameters
    and buffers of the model do not count.

    Args:
        step: Does a forward and a backward pass.
        model: Whose parameters are kept anyway.
    """
    own = {tensor.untyped_storage().data_ptr() for tensor in [*model.parameters(), *model.buffers()]}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    def keep_inputs(block: nn.Module, given: tuple[object, ...]) -> None:
        del block
        for each in given:
            if isinstance(each, Tensor):
                keep(each)

    # Others are left alone: a hook is a reason to compile a module again.
    blocks = [module for module in model.modules() if isinstance(module, BlockBase) and module.recompute]
    hooks = [block.register_forward_pre_hook(keep_inputs) for block in blocks]
    try:
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            step()
    finally:
        for hook in hooks:
            hook.remove()
    return sum(kept.values())
