"""Small tensors of fixed numbers, such as means and deviations of channels, where they are needed.

A copy of a few numbers to a GPU makes the program wait until all that was asked of the GPU before is done, at every
step. So there they are copied once and kept.
"""

from functools import cache

import torch
from torch import Tensor

Numbers = tuple[float, ...] | tuple[tuple[float, ...], ...]
"""A row of numbers, or rows of equal length."""


def constant(numbers: Numbers, device: torch.device) -> Tensor:
    """Give numbers as a float32 tensor, which must not be changed: on a GPU it is the same one every time."""
    return _kept(numbers, device) if device.type == "cuda" else torch.tensor(numbers)


@cache  # for good: a step that was recorded on a GPU reads this very memory
def _kept(numbers: Numbers, device: torch.device) -> Tensor:
    with torch.inference_mode(mode=False):  # or who asks first under it would spoil it for training
        return torch.tensor(numbers, device=device)
