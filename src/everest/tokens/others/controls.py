"""Random selections with a pattern: VideoMAE's tubes and running cells.

Shapes: B clips, N tokens, L tokens of a slot, V visible, M targets.
"""

import torch
from torch import Tensor

from everest.tokens.grid import TokenGrid


def take_tubes(places: Tensor, num_visible: int, grid: TokenGrid) -> tuple[Tensor, Tensor]:
    """Encode the same places in every slot, and predict the others (VideoMAE).

    Args:
        places: All places of a slot in random order, shape [B, L].
        num_visible: V, a multiple of the number of slots.
        grid: Where the tokens are.

    Returns:
        Visible and target token numbers, each ascending, [B, V] and [B, N - V].
    """
    slots = torch.arange(grid.num_slots, device=places.device)[:, None] * grid.tokens_per_slot
    num_places = num_visible // grid.num_slots
    visible = (places[:, :num_places].sort(dim=1).values.unsqueeze(1) + slots).flatten(1)  # [B, V]
    target = (places[:, num_places:].sort(dim=1).values.unsqueeze(1) + slots).flatten(1)  # [B, N - V]
    return visible, target


def rank_by_running_cell(noise: Tensor, grid: TokenGrid) -> Tensor:
    """Rank tokens by the phase of a pattern that runs clockwise through 2 x 2 cells; noise [B, N] orders equals."""
    slots, rows, columns = (torch.arange(size, device=noise.device) for size in grid.shape)
    place = torch.where(rows[:, None] % 2 == 0, columns % 2, 3 - columns % 2)  # [h, w], clockwise
    phase = (place - slots[:, None, None]) % 4  # [t, h, w], a quarter of the tokens each
    return (phase.flatten() + noise).argsort(dim=1, stable=True)  # [B, N]
