"""Where kept tokens stand in a clip: what attention over time or over space needs when some tokens are missing.

Tokens are a list, with their numbers in ``selection.visible``. Attention that is divided by slot or by place needs them
on the grid again. There every place is either a kept token or missing; what is missing holds zeros and is masked. With
all tokens kept nothing is masked, and spreading out is a reshape.

Shapes: B clips, N tokens, V kept tokens, t time slots, L tokens of a slot, D width.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from everest.tokens import TokenGrid, TokenSelection, gather_tokens


@dataclass(frozen=True, eq=False, repr=False)
class TokenPlaces:
    """The places of kept tokens.

    Attributes:
        grid: Of the clip.
        visible: Numbers of the kept tokens, ascending, shape [B, V].
        kept: Whether each place holds a token, shape [B, t, L]; None where all do.
    """

    grid: TokenGrid
    visible: Tensor
    kept: Tensor | None

    @classmethod
    def of(cls, selection: TokenSelection) -> "TokenPlaces":
        """Find the places of the visible tokens."""
        grid, visible = selection.grid, selection.visible
        if visible.shape[1] == grid.num_tokens:  # ascending and distinct: every token
            return cls(grid, visible, None)
        kept = torch.zeros(len(visible), grid.num_tokens, dtype=torch.bool, device=visible.device)
        kept = kept.scatter(1, visible, True).reshape(len(visible), grid.num_slots, grid.tokens_per_slot)  # [B, t, L]
        return cls(grid, visible, kept)

    def __repr__(self) -> str:
        return f"TokenPlaces({self.visible.shape[1]} of {self.grid.num_tokens} tokens)"

    def spread(self, x: Tensor) -> Tensor:
        """Put tokens on the grid, zeros where there is none: [B, V, D] to [B, t, L, D]."""
        B, _, D = x.shape
        if self.kept is not None:
            x = x.new_zeros(B, self.grid.num_tokens, D).scatter(1, self.visible.unsqueeze(-1).expand(-1, -1, D), x)
        return x.reshape(B, self.grid.num_slots, self.grid.tokens_per_slot, D)

    def collect(self, x: Tensor) -> Tensor:
        """Take the kept tokens from the grid again: [B, t, L, D] to [B, V, D]."""
        x = x.flatten(1, 2)  # [B, N, D]
        return x if self.kept is None else gather_tokens(x, self.visible)

    @property
    def slots(self) -> Tensor:
        """Time slot of each kept token, shape [B, V]."""
        return self.visible // self.grid.tokens_per_slot

    @property
    def spots(self) -> Tensor:
        """Number of each kept token inside its slot, shape [B, V]."""
        return self.visible % self.grid.tokens_per_slot


class LearnedPlaces(nn.Module):
    """A class token, and learned positions that are a sum of one for the spot and one for the slot.

    Args:
        grid: The tokens of a clip.
        width: D.
    """

    def __init__(self, grid: TokenGrid, width: int) -> None:
        super().__init__()
        self.class_token = nn.Parameter(torch.zeros(1, 1, width))
        self.class_position = nn.Parameter(torch.zeros(1, 1, width))
        self.space = nn.Parameter(torch.zeros(1, grid.tokens_per_slot, width))
        self.time = nn.Parameter(torch.zeros(1, grid.num_slots, width))
        for parameter in (self.class_token, self.class_position, self.space):
            nn.init.trunc_normal_(parameter, std=0.02)  # time starts at 0: at first all slots are alike

    def forward(self, x: Tensor, places: TokenPlaces) -> Tensor:
        """Place embedded tokens: [B, V, D] to [B, V, D]."""
        return x + gather_tokens(self.space, places.spots) + gather_tokens(self.time, places.slots)

    def table(self) -> Tensor:
        """Positions of all tokens, shape [1, N, D]."""
        return (self.time.unsqueeze(2) + self.space.unsqueeze(1)).flatten(1, 2)

    def class_tokens(self, batch: int) -> Tensor:
        """Class tokens with their position, shape [B, 1, D]."""
        return (self.class_token + self.class_position).expand(batch, -1, -1)
