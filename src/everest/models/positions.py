"""Fixed sine positions for any token grid.

Shapes: N tokens, D width.
"""

import torch
from torch import Tensor


def sine_positions(num_tokens: int, width: int) -> Tensor:
    """Give every token number a fixed vector of sines and cosines.

    The table is one-dimensional over all tokens of a clip in their order, as in VideoMAE and the EVEREST release:
    even entries hold sin(n / 10000^(2i/D)), odd entries the cosine. It depends on the number of tokens only, so any
    grid has one.

    Args:
        num_tokens: N.
        width: D.

    Returns:
        Shape [1, N, D], float32, computed in float64.
    """
    index = torch.arange(width, dtype=torch.float64)
    rate = torch.pow(10000.0, -2.0 * torch.div(index, 2, rounding_mode="floor") / width)  # [D]
    angle = torch.arange(num_tokens, dtype=torch.float64)[:, None] * rate  # [N, D]
    table = torch.where(index % 2 == 0, angle.sin(), angle.cos())
    return table[None].float()
