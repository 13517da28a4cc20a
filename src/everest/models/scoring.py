"""Scores of all tokens, exact or cheaper: how far the pixels of each tubelet have moved, as the embedding sees it.

The exact way embeds every token, and the embeddings are used. The cheaper ways only rank tokens; what is kept is
embedded afterwards. All of them are exactly 0 where nothing changes. Beside the paper's distance there are others, and
what a moving camera changes can be left out.

Shapes: B clips, N tokens, P pixels of a tubelet, C channels, D width, t time slots, L tokens of a slot, k projections.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import cache

import torch
from torch import Tensor

from everest.config import SCORINGS_OF, Camera, Distance, Scoring, SelectionConfig
from everest.errors import SelectionError
from everest.models.constants import constant
from everest.models.embedding import PatchEmbed
from everest.models.products import linear
from everest.models.tubelets import Tubelets
from everest.tokens import TokenGrid, patchify, rero_scores, token_changes, unpatchify
from everest.tokens.others.camera import changes_beside_camera
from everest.tokens.others.distances import cosine_scores, l1_scores

NUM_PROJECTIONS = 64
"""k: lengths are then off by about 1 / sqrt(2 k) = 9 %, and ranks of tokens that differ more than that stay."""


_MAX_TOGETHER = 64  # clips whose differences are in a GPU's memory at once
_MAX_FOLLOWED = 8  # the same where frames are moved, which takes several copies of them
_NUM_CACHED = 2**20  # values of clips that are followed together on a CPU: small clips, or calls cost more than sums


@torch.no_grad()
def score_tokens(
    patch_embed: PatchEmbed,
    patches: Tensor | Tubelets,
    grid: TokenGrid,
    scoring: Scoring = "auto",
    *,
    distance: Distance = "l2",
    camera: Camera = "still",
) -> tuple[Tensor, Tensor | None]:
    """Score every token by the length of its change.

    Args:
        patch_embed: The embedding as it is now.
        patches: All tubelets of the clips, shape [B, N, P], normalised or as bytes.
        grid: Where the tokens are.
        scoring: ``exact``: the change of the embedding, from differences of pixels, in float32 (paper, section on ReRo
            masking). ``bfloat16``: the same with the product in bfloat16, in which differences of bytes are exact.
            ``projection``: the length is estimated from k fixed directions of the embedding. ``pixels``: the change
            of the pixels themselves, whatever the embedding is. ``random_projection``: its length is estimated from k
            fixed directions. ``auto``: ``bfloat16`` under autocast, else ``exact``.
        distance: ``l2``: the length of the change. ``l1``: the sum of its absolute values. ``cosine``: 1 - cosine of
            the angle between the two tokens, embedded with bias and without positions; ``auto`` is then ``exact``.
        camera: ``moving``: the change beside that of a moving camera.

    Returns:
        Scores, shape [B, N], and the embeddings of all tokens, shape [B, N, D], where scoring has computed them.

    Raises:
        SelectionError: The distance cannot be measured so.
    """
    if scoring not in SCORINGS_OF[distance]:
        raise SelectionError(f"distance {distance} takes scoring {', '.join(SCORINGS_OF[distance])}, given: {scoring}")
    kind = "cpu" if patches.device.type == "meta" else patches.device.type  # autocast does not know meta
    if scoring == "auto":
        is_coarse = torch.is_autocast_enabled(kind) and distance != "cosine"
        scoring = "bfloat16" if is_coarse else "exact"
    lengths = l1_scores if distance == "l1" else rero_scores
    if scoring == "exact" and camera == "still" and distance != "cosine":
        tokens, changes = patch_embed.embed_all(patches, grid)
        return lengths(changes), tokens
    with torch.autocast(kind, enabled=False):
        if distance == "cosine":
            return _score_by_cosine(patch_embed, patches, grid, scoring, camera)
        if scoring == "pixels":
            return lengths(_pixel_changes(patches, grid, 1 if distance == "l1" else 2, camera)), None
        if scoring == "random_projection":
            weight = _directions(grid.num_pixels, patches.device)  # [k, P]
        else:
            weight = patch_embed.proj.weight.flatten(1).float()  # [D, P]
        if scoring == "projection":
            weight = project(weight)
        dtype = torch.bfloat16 if scoring == "bfloat16" else torch.float32
        return lengths(_linear_changes(patches, grid, weight, dtype, camera)), None


def score_as_set(
    patch_embed: PatchEmbed, patches: Tensor | Tubelets, grid: TokenGrid, config: SelectionConfig
) -> tuple[Tensor, Tensor | None]:
    """Score every token as settings say; see :func:`score_tokens`."""
    return score_tokens(patch_embed, patches, grid, config.scoring, distance=config.distance, camera=config.camera)


def project(weight: Tensor) -> Tensor:
    """Take fixed directions of an embedding: the weight [D, P] of a linear map to that of a shorter one, [k, P]."""
    return _directions(len(weight), weight.device) @ weight


def project_pixels(grid: TokenGrid) -> Tensor:
    """Give the fixed directions of normalised pixels that ``random_projection`` measures on, shape [k, P]."""
    return _directions(grid.num_pixels, torch.device("cpu"))


def _score_by_cosine(
    patch_embed: PatchEmbed, patches: Tensor | Tubelets, grid: TokenGrid, scoring: Scoring, camera: Camera
) -> tuple[Tensor, Tensor | None]:
    """Compare the directions of embeddings, or of normalised pixels."""
    shape = (-1, grid.num_slots, grid.tokens_per_slot)  # and what is compared
    if scoring == "exact":
        tokens, changes = patch_embed.embed_all(patches, grid)
        if camera == "moving":
            weight = patch_embed.proj.weight.flatten(1).float()  # [D, P]
            changes = _linear_changes(patches, grid, weight, torch.float32, camera)
        return cosine_scores(tokens.reshape(*shape, tokens.shape[-1])[:, 1:], changes), tokens
    if not isinstance(patches, Tubelets):
        (changes,) = _changes(patches, grid, torch.float32, camera)
        return cosine_scores(patches.float().reshape(*shape, grid.num_pixels)[:, 1:], changes), None
    scores, first = [], 0
    for changes in _changes(patches, grid, torch.float32, camera):  # normalised bytes take four times the memory
        pixels = patches.pixels[first : first + len(changes)].reshape(*shape, grid.num_pixels)[:, 1:]
        scores.append(cosine_scores(patches.normalize(pixels), patches.weight_of_changes(changes)))
        first += len(changes)
    return torch.cat(scores), None


def _linear_changes(
    patches: Tensor | Tubelets, grid: TokenGrid, weight: Tensor, dtype: torch.dtype, camera: Camera
) -> Tensor:
    """Map the changes of tubelets linearly: [B, N, P] to [B, t - 1, L, D]."""
    weight = patches.weight_of_changes(weight) if isinstance(patches, Tubelets) else weight
    weight = weight.to(dtype)
    return _joined([linear(part, weight) for part in _changes(patches, grid, dtype, camera)])


def _pixel_changes(patches: Tensor | Tubelets, grid: TokenGrid, order: int, camera: Camera) -> Tensor:
    """Lengths of the changes of each channel, on the scale of normalised pixels: [B, N, P] to [B, t - 1, L, C]."""
    lengths = _joined([_lengths(part, order) for part in _changes(patches, grid, torch.float32, camera)])
    return lengths * _scale(patches) if isinstance(patches, Tubelets) else lengths


def _changes(patches: Tensor | Tubelets, grid: TokenGrid, dtype: torch.dtype, camera: Camera) -> Iterator[Tensor]:
    """Differences of bytes, or of normalised pixels, of some clips at a time: [b, t - 1, L, P]."""
    if camera == "moving":
        parts = _followed_changes(patches, grid, dtype)
        yield from parts if isinstance(patches, Tubelets) else [_joined(list(parts))]  # together, as without it
    elif isinstance(patches, Tubelets):
        yield from _byte_changes(patches, grid, dtype)
    else:
        yield token_changes(patches, grid).to(dtype)


def _byte_changes(patches: Tubelets, grid: TokenGrid, dtype: torch.dtype) -> Iterator[Tensor]:
    """Differences of bytes, exact in both number formats; on a CPU clip by clip: one fits into the cache."""
    num_together = 1 if patches.device.type == "cpu" else _MAX_TOGETHER
    slots = patches.pixels.reshape(len(patches), grid.num_slots, grid.tokens_per_slot, -1)  # [B, t, L, P], uint8
    for part in torch.split(slots, num_together):
        yield torch.sub(part[:, 1:], part[:, :-1].to(dtype))  # [b, t - 1, L, P]


def _followed_changes(patches: Tensor | Tubelets, grid: TokenGrid, dtype: torch.dtype) -> Iterator[Tensor]:
    """The same beside those that a moving camera makes; where it stands still, to the bit."""
    if isinstance(patches, Tubelets):
        pixels, scale = patches.pixels, _scale(patches)
    else:
        pixels, scale = patches, constant((1.0,) * 3, patches.device)
    later = replace(grid, num_slots=grid.num_slots - 1) if grid.num_slots > 1 else grid
    num_together = max(1, _NUM_CACHED // pixels[0].numel()) if patches.device.type == "cpu" else _MAX_FOLLOWED
    for part in torch.split(pixels, num_together):
        changes = changes_beside_camera(unpatchify(part, grid).float(), grid.tubelet_size, scale)
        yield (
            patchify(changes, later).reshape(len(part), -1, grid.tokens_per_slot, grid.num_pixels).to(dtype)
        )  # [b, t - 1, L, P]


def _joined(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _scale(patches: Tubelets) -> Tensor:
    """What makes differences of bytes those of normalised pixels, shape [C]."""
    return constant(tuple(1 / (255 * s) for s in patches.std), patches.device)


def _lengths(changes: Tensor, order: int) -> Tensor:
    """Lengths by channel: [..., P] to [..., C]; the pixels of a channel lie together."""
    by_channel = changes.reshape(*changes.shape[:-1], 3, changes.shape[-1] // 3)  # [..., C, P / C]
    lengths: Tensor = torch.linalg.vector_norm(by_channel, ord=order, dim=-1)
    return lengths


@cache  # for good: a step that was recorded on a GPU reads this very memory
def _directions(width: int, device: torch.device) -> Tensor:
    """Fixed orthogonal directions that keep lengths on average, shape [k, D]."""
    num = min(NUM_PROJECTIONS, width)
    gaussian = torch.randn(width, num, generator=torch.Generator().manual_seed(0))
    directions: Tensor = torch.linalg.qr(gaussian).Q.mT * (width / num) ** 0.5
    return directions.contiguous().to(device)
