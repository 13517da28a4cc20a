"""Attention head by head is PyTorch's."""

import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from everest.models import heads, mixing, products
from everest.models.heads import attend_by_heads
from everest.models.mixing import mix
from everest.models.products import products_by

pytestmark = pytest.mark.skipif(not products._by_onednn_works(), reason="this PyTorch has no such operation")


def given(num_asking: int, num_tokens: int = 9, dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    """Queries, keys and values as a linear layer gives them, and what pulls at the result."""
    generator = torch.Generator().manual_seed(0)
    qkv = torch.randn(2, num_tokens, 3, 4, 8, generator=generator).to(dtype)  # [B, K, 3, h, d]
    q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # each [B, h, K, d]
    pull = torch.randn(2, num_asking, 4, 8, generator=generator).to(dtype).transpose(1, 2)  # [B, h, R, d]
    return [*(x.detach().requires_grad_() for x in (q[:, :, -num_asking:], k, v)), pull]


@pytest.mark.parametrize("library", ["onednn", "pytorch"])
@pytest.mark.parametrize("num_asking", [9, 4])
def test_values_and_gradients(num_asking: int, library: products.Library) -> None:
    found, truth = [], []
    for dtype, attend, to in (
        (torch.float32, attend_by_heads, found),
        (torch.float64, F.scaled_dot_product_attention, truth),
    ):
        *qkv, pull = given(num_asking, dtype=dtype)
        with products_by(library):
            out = attend(*qkv)
            out.backward(pull)
        to += [out, *(x.grad for x in qkv)]
    for ours, exact in zip(found, truth, strict=True):
        torch.testing.assert_close(ours.double(), exact, rtol=1e-5, atol=1e-5)
    assert found[0].transpose(1, 2).is_contiguous()  # so that the heads are joined without a copy


def test_it_is_an_operation_as_pytorch_wants_them() -> None:
    *qkv, _ = given(4)
    torch.library.opcheck(attend_by_heads, tuple(qkv))


def test_multiply_adds_are_counted_as_those_of_products() -> None:
    *qkv, pull = given(4)
    with FlopCounterMode(display=False) as counter:
        attend_by_heads(*qkv).backward(pull)
    assert counter.get_total_flops() == 3 * 2 * 2 * 4 * (4 * 9) * (8 + 8)


def test_it_is_taken_for_many_tokens_where_products_are_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(mixing, "attend_by_heads", lambda *x: asked.append(x[0].shape) or attend_by_heads(*x))
    *qkv, _ = given(4)
    for library, worth_it, threads in (("onednn", 36, 1), ("onednn", 37, 1), ("onednn", 36, 2), ("pytorch", 36, 1)):
        monkeypatch.setattr(heads, "WORTH_IT", worth_it)
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        with products_by(library):
            torch.testing.assert_close(mix(*qkv), F.scaled_dot_product_attention(*qkv))
    assert asked == [(2, 4, 4, 8)]
