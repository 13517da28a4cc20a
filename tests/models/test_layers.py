"""Laws of the transformer block.

Shapes: B clips, K tokens, D width.
"""

import math

import pytest
import torch
from small_models import jitter
from torch import nn

from everest.models.layers import Attention, Block, Mlp, initialize, make_blocks


def test_fused_attention_is_softmax_attention() -> None:
    torch.manual_seed(0)
    attention = jitter(Attention(width=24, num_heads=3)).double()
    x = torch.randn(2, 10, 24, dtype=torch.float64)
    query, key, value = (x @ weight.T for weight in attention.qkv.weight.chunk(3))
    query, value = query + attention.q_bias, value + attention.v_bias
    heads = []
    for head in range(3):
        part = slice(8 * head, 8 * head + 8)
        logits = query[..., part] @ key[..., part].mT / math.sqrt(8)
        heads.append(logits.softmax(dim=-1) @ value[..., part])
    expected = torch.cat(heads, dim=-1) @ attention.proj.weight.T + attention.proj.bias
    torch.testing.assert_close(attention(x), expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(attention.float()(x.float()), expected.float(), rtol=0, atol=1e-6)


def test_attention_does_not_know_the_order_of_tokens() -> None:
    torch.manual_seed(0)
    block = jitter(Block(24, 3)).double()
    x, order = torch.randn(2, 10, 24, dtype=torch.float64), torch.randperm(10)
    torch.testing.assert_close(block(x[:, order]), block(x)[:, order], rtol=0, atol=1e-12)


def test_the_last_tokens_of_a_layer_are_those_of_the_whole_layer() -> None:
    """Values and gradients; a token that is not asked for still gets one, as the others look at it."""
    torch.manual_seed(0)
    block = jitter(Block(24, 3)).double()
    x = torch.randn(2, 10, 24, dtype=torch.float64, requires_grad=True)
    whole, last = block(x)[:, -4:], block(x, None, 4)
    torch.testing.assert_close(last, whole, rtol=0, atol=1e-12)
    wanted = [x, *block.parameters()]
    expected = torch.autograd.grad(whole.square().sum(), wanted)
    found = torch.autograd.grad(last.square().sum(), wanted)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-10)
    assert found[0][:, :6].abs().min() > 0


def test_an_mlp_changes_each_token_by_itself() -> None:
    torch.manual_seed(0)
    mlp = jitter(Mlp(8)).double()
    x = torch.randn(2, 5, 8, dtype=torch.float64)
    hidden = x @ mlp.fc1.weight.T + mlp.fc1.bias
    gelu = hidden * (1 + torch.erf(hidden / math.sqrt(2))) / 2
    torch.testing.assert_close(mlp(x), gelu @ mlp.fc2.weight.T + mlp.fc2.bias, rtol=0, atol=1e-12)


def test_a_block_adds_attention_and_then_mlp() -> None:
    torch.manual_seed(0)
    block, x = jitter(Block(24, 3)), torch.randn(2, 5, 24)
    attended = x + block.attn(block.norm1(x))
    assert torch.equal(block(x), attended + block.mlp(block.norm2(attended)))


class TestDropPath:
    def test_does_nothing_in_evaluation(self) -> None:
        torch.manual_seed(0)
        block, x = jitter(Block(24, 3, drop_path=0.9)).eval(), torch.randn(4, 5, 24)
        with_none = Block(24, 3)
        with_none.load_state_dict(block.state_dict())
        assert torch.equal(block(x), with_none(x))

    def test_skips_whole_clips_and_keeps_the_mean(self) -> None:
        torch.manual_seed(0)
        block, num_clips = Block(24, 3, drop_path=0.25).train(), 4000
        branch = torch.rand(num_clips, 3, 24) + 1
        factor = block.skip1(branch) / branch  # of every value
        torch.testing.assert_close(factor, factor[:, :1, :1].expand_as(factor))
        factor = factor[:, 0, 0]
        skipped = factor == 0
        torch.testing.assert_close(factor, torch.where(skipped, 0.0, 1 / 0.75))
        assert 0 < int(skipped.sum()) < num_clips
        deviation = (0.25 / 0.75 / num_clips) ** 0.5
        assert float(factor.mean()) == pytest.approx(1.0, abs=4 * deviation)

    def test_draws_for_both_branches_and_every_step(self) -> None:
        torch.manual_seed(0)
        block, x = jitter(Block(24, 3, drop_path=0.5)).train(), torch.randn(64, 2, 24)
        changed = (block(x) != x).flatten(1).any(dim=1)
        assert 0 < int((~changed).sum()) < 32  # both are skipped for about a quarter
        assert not torch.equal(block(x), block(x))

    def test_grows_linearly_with_depth(self) -> None:
        assert [block.skip1.rate for block in make_blocks(5, 8, 2, 0.2)] == pytest.approx([0, 0.05, 0.1, 0.15, 0.2])


def test_fresh_weights_are_xavier_and_fresh_biases_zero() -> None:
    torch.manual_seed(0)
    for layer, fans in ((nn.Linear(100, 200), 300), (nn.Conv3d(3, 64, (2, 4, 4)), 3 * 32 + 64)):
        initialize(layer)
        limit = math.sqrt(6 / fans)
        assert float(layer.weight.detach().abs().max()) == pytest.approx(limit, rel=0.01)
        assert float(layer.weight.detach().std()) == pytest.approx(limit / math.sqrt(3), rel=0.05)
        assert layer.bias is not None
        assert torch.count_nonzero(layer.bias) == 0
