"""How much a forward pass keeps for the backward pass: the memory that grows with tokens, the same on every device."""

from collections.abc import Callable

import torch
from torch import Tensor, nn


def activation_bytes(step: Callable[[], object], model: nn.Module) -> int:
    """Run a step and add up what autograd keeps.

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

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        step()
    return sum(kept.values())
