"""Attention is the same, however it is computed."""

import pytest
import torch
import torch.nn.functional as F

from everest.models import mixing
from everest.models.mixing import mix

SHAPE = (2, 3, 20, 8)


def qkv(dtype: torch.dtype) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(SHAPE, generator=generator).to(dtype).requires_grad_() for _ in range(3)]


@pytest.mark.parametrize("autocast", [False, True])
def test_steps_in_bfloat16_stay_near_the_truth(autocast: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    exact = [x.detach().double().requires_grad_() for x in qkv(torch.bfloat16)]
    truth = F.scaled_dot_product_attention(*exact)
    truth.square().sum().backward()
    errors = []
    for most in (mixing.MOST_IN_STEPS, 0):  # in steps, and fused
        monkeypatch.setattr(mixing, "MOST_IN_STEPS", most)
        given = qkv(torch.bfloat16)
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            mixed = mix(*given)
        assert mixed.dtype == torch.bfloat16
        mixed.square().sum().backward()
        pairs = zip([mixed, *(x.grad for x in given)], [truth, *(x.grad for x in exact)], strict=True)
        errors.append([((ours.double() - theirs).norm() / theirs.norm()).item() for ours, theirs in pairs])
    assert max(errors[0]) < 2.5 * 2**-8  # so many roundings of eight bits
    assert max(errors[0]) < 3 * max(errors[1])


def test_the_fused_kernel_is_used_where_it_is_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    fused = F.scaled_dot_product_attention
    monkeypatch.setattr(F, "scaled_dot_product_attention", lambda *x: asked.append(x[0].dtype) or fused(*x))
    mix(*qkv(torch.float32))
    mix(*qkv(torch.bfloat16))
    assert asked == [torch.float32]
    monkeypatch.setattr(mixing, "MOST_IN_STEPS", 2 * 3 * 20 * 20 - 1)
    mix(*qkv(torch.bfloat16))
    assert asked == [torch.float32, torch.bfloat16]
