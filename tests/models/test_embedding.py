"""The embedding is the convolution that it is stored as, and each of its ways gives the same.

Shapes: B clips, N tokens, K some of them, P pixels of a tubelet, D width.
"""

import pytest
import torch
import torch.nn.functional as F
from small_models import random_patches
from torch import Tensor

from everest.models.embedding import PatchEmbed, _KnownLinear
from everest.tokens import TokenGrid, token_changes, unpatchify

GRIDS = [TokenGrid(4, 3, 2, 2, 4), TokenGrid(5, 2, 3, 1, 3), TokenGrid(2, 1, 1, 4, 2)]


def embedding(grid: TokenGrid) -> PatchEmbed:
    torch.manual_seed(0)
    return PatchEmbed(grid, 10).double()


def convolve(embed: PatchEmbed, patches: Tensor, grid: TokenGrid) -> Tensor:
    clips = unpatchify(patches, grid)
    return F.conv3d(clips, embed.proj.weight, embed.proj.bias, stride=embed.proj.stride).flatten(2).mT  # [B, N, D]


@pytest.mark.parametrize("grid", GRIDS)
def test_embedding_is_the_convolution(grid: TokenGrid) -> None:
    embed, patches = embedding(grid), random_patches(grid=grid).double()
    torch.testing.assert_close(embed(patches), convolve(embed, patches, grid), rtol=0, atol=1e-12)


@pytest.mark.parametrize("grid", GRIDS)
def test_embedding_all_at_once_is_the_convolution(grid: TokenGrid) -> None:
    embed, patches = embedding(grid), random_patches(grid=grid).double()
    tokens, changes = embed.embed_all(patches, grid)
    expected = convolve(embed, patches, grid)
    torch.testing.assert_close(tokens, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(changes, token_changes(expected, grid), rtol=0, atol=1e-12)
    assert not tokens.requires_grad


def test_what_stands_still_embeds_to_the_same_number_in_every_slot() -> None:
    grid = GRIDS[0]
    still = random_patches(grid=grid).unflatten(1, (4, 6))[:, :1].expand(-1, 4, -1, -1).flatten(1, 2)
    tokens, changes = embedding(grid).float().embed_all(still, grid)
    assert torch.count_nonzero(changes) == 0
    slots = tokens.unflatten(1, (4, 6))
    assert torch.equal(slots, slots[:, :1].expand_as(slots))


@pytest.mark.parametrize("given", [torch.float16, torch.bfloat16, torch.float32])
def test_embedding_all_at_once_is_float32_at_least(given: torch.dtype) -> None:
    grid = GRIDS[0]
    tokens, changes = embedding(grid).float().embed_all(random_patches(grid=grid).to(given), grid)
    assert tokens.dtype == changes.dtype == torch.float32


def test_autocast_makes_no_coarser_embeddings() -> None:
    grid = GRIDS[0]
    embed, patches = embedding(grid).float(), random_patches(grid=grid)
    with torch.autocast("cpu", torch.bfloat16):
        coarse = embed.embed_all(patches, grid)
    for ours, expected in zip(coarse, embed.embed_all(patches, grid), strict=True):
        assert torch.equal(ours, expected)


def test_known_embeddings_are_handed_on_as_they_are() -> None:
    grid = GRIDS[0]
    known = torch.randn(2, grid.num_tokens, 10, dtype=torch.float64)
    assert torch.equal(embedding(grid)(random_patches(grid=grid).double(), known), known)


def test_gradients_of_a_known_linear_map_are_those_of_the_map() -> None:
    torch.manual_seed(0)
    patches, weight, bias = (
        torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in ((2, 3, 5), (4, 5), (4,))
    )

    def known(patches: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        # its value follows its inputs, as it does in use, so that finite differences see the map
        return _KnownLinear.apply(patches, weight, bias, F.linear(patches, weight, bias).detach())

    assert torch.autograd.gradcheck(known, (patches, weight, bias))
    pull = torch.randn(2, 3, 4, dtype=torch.float64)
    ours = torch.autograd.grad(known(patches, weight, bias), (patches, weight, bias), pull)
    theirs = torch.autograd.grad(F.linear(patches, weight, bias), (patches, weight, bias), pull)
    for own, expected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(own, expected, rtol=0, atol=1e-12)


def test_known_embeddings_give_the_gradients_of_embedding_anew() -> None:
    grid = GRIDS[0]
    embed, patches = embedding(grid), random_patches(grid=grid).double()
    pull = torch.randn(2, grid.num_tokens, 10, dtype=torch.float64)
    gradients = []
    for known in (None, embed.embed_all(patches, grid)[0]):
        embed.zero_grad()
        embed(patches, known).backward(pull)
        gradients.append([parameter.grad for parameter in embed.parameters()])
    for anew, known_before in zip(*gradients, strict=True):
        torch.testing.assert_close(known_before, anew, rtol=1e-12, atol=1e-12)
