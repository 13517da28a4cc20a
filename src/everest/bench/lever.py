"""A lever: a way to be faster beside what is done otherwise, and what both are tried on.

Shapes: B clips, T frames, H height, W width, V visible, M targets.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from everest.config import CheckpointInfo
from everest.models import Classifier, MaskedModel
from everest.models.embedding import PatchEmbed
from everest.tokens import TokenGrid


def _as_it_is(found: Tensor) -> Tensor:
    return found


@dataclass(frozen=True)
class Lever:
    """One way to be faster.

    Attributes:
        name: What is done.
        instead_of: What is done otherwise.
        ours: Does it, forward and where training does so backward, and gives what shows that the results are the same.
        usual: The same the other way.
        tolerance: How far the two may differ, as a share of the largest value.
        aligned: Brings what the other way gives into our order, or shows what it has done; not timed.
        shown: Shows what ours has done, where that is not what it gives; not timed.
    """

    name: str
    instead_of: str
    ours: Callable[[], Tensor]
    usual: Callable[[], Tensor]
    tolerance: float = 1e-5
    aligned: Callable[[Tensor], Tensor] = _as_it_is
    shown: Callable[[Tensor], Tensor] = _as_it_is


@dataclass(frozen=True)
class Place:
    """What all levers are tried on.

    Attributes:
        info: What the model is of.
        model: Which decides widths and numbers of tokens.
        clips: uint8, shape [B, 3, T, H, W].
        visible: Tokens that are encoded, rising, shape [B, V].
        target: Tokens that are predicted, shape [B, M].
        dtype: What matrix products compute in.
    """

    info: CheckpointInfo
    model: MaskedModel | Classifier
    clips: Tensor
    visible: Tensor
    target: Tensor
    dtype: torch.dtype

    @property
    def grid(self) -> TokenGrid:
        """Where the tokens are."""
        return self.model.grid

    @property
    def heads(self) -> tuple[int, int, int, int]:
        """Shape of the queries of visible tokens in the encoder's attention: [B, h, V, d]."""
        num_heads = int(self.model.encoder.blocks[0].attn.num_heads)  # type: ignore[union-attr, arg-type]
        return len(self.clips), num_heads, self.visible.shape[1], len(self.patch_embed.proj.weight) // num_heads

    @property
    def patch_embed(self) -> PatchEmbed:
        """What embeds them."""
        return self.model.encoder.patch_embed
