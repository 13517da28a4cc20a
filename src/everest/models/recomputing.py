"""Activation checkpointing: a block keeps what enters it, and computes the rest again in the backward pass.

For who has little memory and time to spend: a block's activations are ten times as large as its input, and a second
forward pass is a third of a step's work. What is drawn at random is drawn once for both passes (:mod:`dropping
<everest.models.dropping>`), so nothing that is learnt changes.
"""

from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


class BlockBase(nn.Module):
    """Base of the transformer blocks of all networks: what is compiled, divided and computed again one at a time.

    Attributes:
        recompute: Keep only the inputs for the backward pass; :func:`recompute_blocks` turns it on.
    """

    recompute = False

    def __call__(self, *args: Any) -> Any:
        """Compute, and once more in the backward pass; compiled code and hooks before it run both times."""
        if not (self.recompute and torch.is_grad_enabled()):
            return super().__call__(*args)
        return checkpoint(super().__call__, *args, use_reentrant=False)


def recompute_blocks(model: nn.Module) -> None:
    """Let every block of a model compute again what it would keep."""
    for module in model.modules():
        if isinstance(module, BlockBase):
            module.recompute = True
