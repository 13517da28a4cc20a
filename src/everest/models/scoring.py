"""Scores of all tokens, exact or cheaper: how far the pixels of each tubelet have moved, as the embedding sees it.

The exact way embeds every token, and the embeddings are used. The cheaper ways only rank tokens; what is kept is
embedded afterwards. All of them are exactly 0 where nothing changes.

Shapes: B clips, N tokens, P pixels of a tubelet, C channels, D width, t time slots, L tokens of a slot, k projections.
"""

from collections.abc import Iterator
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from everest.config import Scoring
from everest.models.embedding import PatchEmbed
from everest.models.tubelets import Tubelets
from everest.tokens import TokenGrid, rero_scores, token_changes

NUM_PROJECTIONS = 64
"""k: lengths are then off by about 1 / sqrt(2 k) = 9 %, and ranks of tokens that differ more than that stay."""


_MAX_TOGETHER = 64  # clips whose differences are in a GPU's memory at once


@torch.no_grad()
def score_tokens(
    patch_embed: PatchEmbed, patches: Tensor | Tubelets, grid: TokenGrid, scoring: Scoring = "auto"
) -> tuple[Tensor, Tensor | None]:
    """Score every token by the length of its change.

    Args:
        patch_embed: The embedding as it is now.
        patches: All tubelets of the clips, shape [B, N, P], normalised or as bytes.
        grid: Where the tokens are.
        scoring: ``exact``: the change of the embedding, from differences of pixels, in float32 (paper, section on ReRo
            masking). ``bfloat16``: the same with the product in bfloat16, in which differences of bytes are exact.
            ``projection``: the length is estimated from k fixed directions of the embedding. ``pixels``: the change
            of the pixels themselves, whatever the embedding is. ``auto``: ``bfloat16`` under autocast, else ``exact``.

    Returns:
        Scores, shape [B, N], and the embeddings of all tokens, shape [B, N, D], where scoring has computed them.
    """
    kind = "cpu" if patches.device.type == "meta" else patches.device.type  # autocast does not know meta
    if scoring == "auto":
        scoring = "bfloat16" if torch.is_autocast_enabled(kind) else "exact"
    if scoring == "exact":
        tokens, changes = patch_embed.embed_all(patches, grid)
        return rero_scores(changes), tokens
    with torch.autocast(kind, enabled=False):
        if scoring == "pixels":
            return rero_scores(_pixel_changes(patches, grid)), None
        weight = patch_embed.proj.weight.flatten(1).float()  # [D, P]
        if scoring == "projection":
            weight = project(weight)
        dtype = torch.bfloat16 if scoring == "bfloat16" else torch.float32
        return rero_scores(_linear_changes(patches, grid, weight, dtype)), None


def project(weight: Tensor) -> Tensor:
    """Take fixed directions of an embedding: the weight [D, P] of a linear map to that of a shorter one, [k, P]."""
    return _directions(len(weight), weight.device) @ weight


def _linear_changes(patches: Tensor | Tubelets, grid: TokenGrid, weight: Tensor, dtype: torch.dtype) -> Tensor:
    """Map the changes of tubelets linearly: [B, N, P] to [B, t - 1, L, D]."""
    if not isinstance(patches, Tubelets):
        return F.linear(token_changes(patches, grid).to(dtype), weight.to(dtype))
    weight = patches.weight_of_changes(weight).to(dtype)
    return torch.cat([F.linear(part, weight) for part in _byte_changes(patches, grid, dtype)])


def _pixel_changes(patches: Tensor | Tubelets, grid: TokenGrid) -> Tensor:
    """Lengths of the changes of each channel, on the scale of normalised pixels: [B, N, P] to [B, t - 1, L, C]."""
    if not isinstance(patches, Tubelets):
        return _lengths(token_changes(patches, grid))
    lengths = [_lengths(part) for part in _byte_changes(patches, grid, torch.float32)]
    scale = torch.tensor([1 / (255 * s) for s in patches.std])
    return torch.cat(lengths) * scale.to(patches.device, non_blocking=True)


def _byte_changes(patches: Tubelets, grid: TokenGrid, dtype: torch.dtype) -> Iterator[Tensor]:
    """Differences of bytes, exact in both number formats; on a CPU clip by clip: one fits into the cache."""
    num_together = 1 if patches.device.type == "cpu" else _MAX_TOGETHER
    slots = patches.pixels.reshape(len(patches), grid.num_slots, grid.tokens_per_slot, -1)  # [B, t, L, P], uint8
    for part in torch.split(slots, num_together):
        yield torch.sub(part[:, 1:], part[:, :-1].to(dtype))  # [b, t - 1, L, P]


def _lengths(changes: Tensor) -> Tensor:
    """Lengths by channel: [..., P] to [..., C]; the pixels of a channel lie together."""
    by_channel = changes.reshape(*changes.shape[:-1], 3, -1)  # [..., C, P / C]
    lengths: Tensor = torch.linalg.vector_norm(by_channel, dim=-1)
    return lengths


@lru_cache(maxsize=8)
def _directions(width: int, device: torch.device) -> Tensor:
    """Fixed orthogonal directions that keep lengths on average, shape [k, D]."""
    num = min(NUM_PROJECTIONS, width)
    gaussian = torch.randn(width, num, generator=torch.Generator().manual_seed(0))
    directions: Tensor = torch.linalg.qr(gaussian).Q.mT * (width / num) ** 0.5
    return directions.contiguous().to(device)
