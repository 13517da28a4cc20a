"""K-centred patch sampling: the tubelets that represent all others best (Park et al., ECCV 2022).

K centres are chosen among the raw tubelets so that the farthest tubelet has a centre as near as can be; greedily, each
new centre is the tubelet that is farthest from all centres so far.

What the paper leaves open is settled so: the first centre is the tubelet farthest from the mean of all; distances are
those of normalised pixels; where two are equally far, the one with the lower number is taken.

Shapes: N tokens, P pixels of a tubelet, K centres.
"""

import torch
from torch import Tensor

from everest.errors import SelectionError

ROUNDING = 1e-5
"""Squared distances below this share of the largest length are those of equal tubelets."""


@torch.no_grad()
def k_centers(patches: Tensor, num_centers: int) -> Tensor:
    """Choose centres among the tubelets of one clip.

    Args:
        patches: Normalised pixels, shape [N, P].
        num_centers: K.

    Returns:
        Token numbers in the order in which they were chosen, int64, shape [K].

    Raises:
        SelectionError: More centres than tubelets, or none.
    """
    if not 1 <= num_centers <= len(patches):
        raise SelectionError(f"cannot choose {num_centers} centres among {len(patches)} tubelets")
    kind = patches.device.type
    with torch.autocast("cpu" if kind == "meta" else kind, enabled=False):  # a coarser format would choose others
        return _farthest_first(patches.to(torch.promote_types(patches.dtype, torch.float32)), num_centers)


def _farthest_first(patches: Tensor, num_centers: int) -> Tensor:
    """Choose again and again the tubelet that is farthest from all centres so far: [N, P] to [K]."""
    centered = patches - patches.mean(dim=0)  # distances stay, and the product below loses fewer digits
    squares = centered.square().sum(dim=1)  # [N]
    numbers = torch.arange(len(patches), device=patches.device)
    centers = torch.empty(num_centers, dtype=torch.int64, device=patches.device)
    farness = squares  # of the mean, for the first centre
    distances = squares[:, None] + squares - 2 * centered @ centered.mT  # [N, N], squared
    distances[distances <= ROUNDING * squares.max()] = 0.0  # or rounding would rank tubelets that are the same
    distances.fill_diagonal_(-1.0)  # a centre is not chosen again, even where all tubelets are the same
    for index in range(num_centers):
        center = torch.where(farness == farness.max(), numbers, len(patches)).min()  # the first of equals, anywhere
        centers[index] = center
        row = distances.index_select(0, center[None])[0]  # [N]
        farness = row if index == 0 else torch.minimum(farness, row)
    return centers
