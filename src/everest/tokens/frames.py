"""Information-intensive frame selection: which frames of a longer span make the clip (paper, section on frames).

Where tau pairs of frames are wanted, floor(alpha * tau) candidate pairs are taken evenly. ReRo selection runs on the
candidates; a pair counts the selected tokens that fall into it, and pairs are drawn by their counts.

What the paper leaves open is settled so:

- a "pair" is one tubelet: as many frames as a token is long;
- drawn pairs are put back into temporal order;
- tokens are counted at the same keep ratio that selects tokens afterwards;
- the first pair takes the scores, and so the count, of the second, like slot 0 of any clip;
- a token that does not change is never counted: or the tie rule would hand all counts of a still clip to its start;
- where fewer pairs have a count than are wanted, all of them are taken and the rest is drawn uniformly from the others;
  so a still clip is drawn uniformly. Without randomness a still clip takes evenly spaced pairs.

Shapes: B clips, T frames, H height, W width, N tokens, n candidate pairs, k chosen pairs.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from everest.errors import SelectionError
from everest.tokens.grid import TokenGrid
from everest.tokens.selection import num_tokens, rank_by_score


@dataclass(frozen=True)
class FrameSelection:
    """The pairs that make each clip: ascending, shape [B, k]; and the counts of all candidates, shape [B, n]."""

    pairs: Tensor
    counts: Tensor

    def __repr__(self) -> str:
        return f"FrameSelection({self.pairs.shape[1]} of {self.counts.shape[1]} pairs, {len(self.pairs)} clips)"


def count_per_pair(scores: Tensor, grid: TokenGrid, keep_ratio: float) -> Tensor:
    """Count the selected tokens of each pair (one slot of the candidates' grid): scores [B, N] to int64 [B, n]."""
    kept = rank_by_score(scores)[:, : num_tokens(keep_ratio, grid.num_tokens)]  # [B, K]
    changing = (scores.gather(1, kept) > 0).to(torch.int64)
    counts = torch.zeros(scores.shape[0], grid.num_slots, dtype=torch.int64, device=scores.device)
    return counts.scatter_add_(1, kept // grid.tokens_per_slot, changing)


def select_pairs(counts: Tensor, num_pairs: int, noise: Tensor | None = None) -> FrameSelection:
    """Choose pairs by their counts.

    With noise, pairs are drawn without replacement with probability proportional to their counts: each waits an
    exponential time with its count as the rate, and the first to arrive are taken. Without noise, the pairs with the
    largest counts are taken, the earlier one where counts are equal.

    Args:
        counts: Shape [B, n].
        num_pairs: How many to choose, k; more than there are is a SelectionError.
        noise: Uniform in [0, 1), shape [B, n]; None chooses without randomness.
    """
    num_candidates = counts.shape[1]
    if not 1 <= num_pairs <= num_candidates:
        raise SelectionError(f"cannot choose {num_pairs} of {num_candidates} pairs of frames")
    if noise is None:
        even = torch.arange(num_pairs, device=counts.device) * num_candidates // num_pairs  # [k]
        largest = rank_by_score(counts)[:, :num_pairs]
        chosen = torch.where((counts == 0).all(dim=1, keepdim=True), even, largest)
    else:
        arrival = -torch.log1p(-noise) / counts.clamp(min=1)
        arrival = arrival / (1 + arrival) + (counts == 0)  # in [0, 1); those without a count come after all others
        chosen = arrival.argsort(dim=1, stable=True)[:, :num_pairs]
    return FrameSelection(chosen.sort(dim=1).values, counts)


def take_pairs(clips: Tensor, pairs: Tensor, tubelet_size: int) -> Tensor:
    """Make clips of chosen pairs: candidates [B, 3, n * tubelet_size, H, W], pairs [B, k] to [B, 3, T, H, W]."""
    frames = (pairs.unsqueeze(-1) * tubelet_size + torch.arange(tubelet_size, device=pairs.device)).flatten(1)  # [B, T]
    return clips.gather(2, frames[:, None, :, None, None].expand(-1, clips.shape[1], -1, *clips.shape[3:]))
