"""MViT against numbers recorded with another implementation, and against what is published."""

import math

import pytest
import torch
from supervised_models import everything
from torch import Tensor

from everest.models import Classifier
from everest.models.supervised.mvit import MVIT_B, MVIT_S, MViT, MViTLayout, Pool, mvit_width
from everest.tokens import TokenGrid, patchify

SMALL = TokenGrid.of_clip(8, 64, 64, 2, 16)
PAPER = TokenGrid.of_clip(16, 224, 224, 2, 16)

# torchvision 0.28.0, MViT of the layout of mvit_v1_b with a quarter of the channels, 8x64x64, five classes, the weights
# and clips made below.
RECORDED = [
    [2.3847460746765137, -0.47797489166259766, -1.4471240043640137, 2.7784855365753174, -1.3672261238098145],
    [2.386989116668701, -0.47678035497665405, -1.448094129562378, 2.780893564224243, -1.367124319076538],
]


def hashed(count: int, seed: int) -> Tensor:
    """Numbers from -1 to 1 that look drawn at random and are the same everywhere."""
    return ((torch.arange(count) * 2654435761 + seed * 40503) % 2**32).double().div(2**31).sub(1)


def weight(key: str, shape: torch.Size) -> Tensor:
    values = hashed(math.prod(shape), sum(map(ord, key))).float().reshape(shape)
    if len(shape) > 1:
        return values * math.sqrt(3 / math.prod(shape[1:]))
    return values * 0.1 + (1.0 if "norm" in key and key.endswith("weight") else 0.0)


def built(layout: MViTLayout, grid: TokenGrid, num_classes: int) -> Classifier:
    return Classifier(MViT(grid, layout), width=mvit_width(layout), num_classes=num_classes).eval()


def test_logits_are_those_of_torchvision() -> None:
    model = built(MVIT_B.narrowed(4), SMALL, 5)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            parameter.copy_(weight(key, parameter.shape))
        clips = hashed(2 * 3 * 8 * 64 * 64, 7).float().reshape(2, 3, 8, 64, 64) * 2
        logits = model(patchify(clips, SMALL), everything(SMALL, 2))
    torch.testing.assert_close(logits, torch.tensor(RECORDED), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("layout", "parameters", "stem"),
    [(MVIT_B, 36_610_672, (8, 56, 56)), (MVIT_S, 26_038_032, (8, 28, 28))],
    ids=["B: as torchvision", "S: published as 26.1 M"],
)
def test_sizes_are_the_published_ones(layout: MViTLayout, parameters: int, stem: tuple[int, int, int]) -> None:
    with torch.device("meta"):
        model = built(layout, PAPER, 400)
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters
    assert isinstance(model.encoder, MViT)
    assert model.encoder.stem_grid.shape == stem


def test_the_last_stage_is_coarser_and_wider_and_always_sees_as_few_keys() -> None:
    with torch.device("meta"):
        encoder = MViT(PAPER, MVIT_B)
    shape, shapes, keys = encoder.stem_grid.shape, [], []
    x = torch.empty(1, 1 + encoder.stem_grid.num_tokens, 96, device="meta")
    for block in encoder.blocks:
        heads = torch.empty(1, block.attn.num_heads, x.shape[1], x.shape[2] // block.attn.num_heads, device="meta")
        keys.append(block.attn.pool_k(heads, shape)[1])
        x, shape = block(x, shape)
        shapes.append((*shape, x.shape[-1]))
    assert [shapes[i] for i in (0, 2, 13, 15)] == [
        (8, 56, 56, 192),
        (8, 28, 28, 384),
        (8, 14, 14, 768),
        (8, 7, 7, 768),
    ]
    assert set(keys) == {(8, 7, 7), (8, 14, 14)}  # the second where a stage begins, before its queries are pooled


def test_the_class_token_is_not_pooled() -> None:
    pool = Pool(4, 2)
    x = torch.randn(1, 2, 1 + 2 * 4 * 6, 4)
    pooled, shape = pool(x, (2, 4, 6))
    assert shape == (2, 2, 3)
    torch.testing.assert_close(pooled[:, :, 0], pool.norm(x[:, :, 0]))


@pytest.mark.parametrize("shape", [(2, 1, 1), (1, 1, 1), (2, 2, 2)])
def test_gradients_of_small_grids_in_bfloat16_are_those_of_float32(shape: tuple[int, int, int]) -> None:
    pool = Pool(32, 2)
    x = torch.randn(16, 1, 1 + math.prod(shape), 32, generator=torch.Generator().manual_seed(0)).bfloat16()
    gradients = []
    for precision in (torch.float32, torch.bfloat16):
        pool.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == torch.bfloat16):
            pooled = pool(x.to(precision).requires_grad_(), shape)[0].float()
            loss = (pooled * torch.linspace(-1, 1, pooled.numel()).view_as(pooled)).sum()
        freed = [torch.full((16 * size,), float("nan")) for size in (1, 4, 16, 64, 256, 1024, 4096) * 10]
        del freed  # what is allocated from here on may hold it
        loss.backward()
        gradients.append(pool.conv.weight.grad.clone())
    assert (gradients[0] - gradients[1]).norm() < 0.15 * gradients[0].norm()
