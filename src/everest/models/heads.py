"""Attention in float32 on a CPU, head by head: its products are those of :mod:`products <everest.models.products>`.

The weights of one head stay in the cache of the processor until they are used up, and are computed again in the
backward pass, so as little is kept as by PyTorch's fused kernel. That kernel multiplies by MKL, which is slower where
:func:`~everest.models.products.goes_to_onednn` says so.

Shapes: B clips, h heads, K tokens, R tokens that ask (all, or some of them), d width of a head.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from everest.models.products import multiply

WORTH_IT = 2**16
"""R * K for each thread from which on it is quicker than PyTorch's kernel, whose threads share out heads."""


def is_worth_it(num_asking: int, num_tokens: int) -> bool:
    """Whether so many tokens that ask, and that are asked, are enough to be quicker than PyTorch's kernel."""
    enough: int = WORTH_IT * _num_threads()
    return num_asking * num_tokens >= enough


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _num_threads() -> int:
    """As PyTorch says; its compiler cannot ask for it, and takes what is said while it compiles."""
    return torch.get_num_threads()


@torch.library.custom_op("everest::attention_by_heads", mutates_args=())
def attend_by_heads(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attend: ``softmax(q @ k.T / sqrt(d)) @ v``, in float32 on a CPU.

    Args:
        q: Queries, shape [B, h, R, d].
        k: Keys, shape [B, h, K, d].
        v: Values, shape [B, h, K, d].

    Returns:
        Shape [B, h, R, d].
    """
    out = _tokens_first(q)
    for mixed, query, key, value in _each_head(out, *_rows(q * q.shape[-1] ** -0.5, k, v)):
        mixed.copy_(multiply(_weights(query, key), value))
    return out


@torch.library.custom_op("everest::attention_by_heads_backward", mutates_args=())
def _backward(grad: Tensor, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    scale = q.shape[-1] ** -0.5
    by_q, by_k, by_v = (_tokens_first(x) for x in (q, k, v))
    for to_q, to_k, to_v, pull, query, key, value in _each_head(by_q, by_k, by_v, *_rows(grad, q * scale, k, v)):
        weights = _weights(query, key)  # [R, K]
        to_v.mT.copy_(multiply(pull.mT, weights))  # turned over, as it is the larger matrix that should lie row by row
        by_weights = multiply(pull, value.mT)  # [R, K]
        by_logits = torch._softmax_backward_data(by_weights, weights, -1, torch.float32)
        to_q.copy_(multiply(by_logits, key)).mul_(scale)
        to_k.mT.copy_(multiply(query.mT, by_logits))
    return by_q, by_k, by_v


def _weights(query: Tensor, key: Tensor) -> Tensor:
    logits = multiply(query, key.mT)  # [R, K]
    return torch.softmax(logits, dim=-1, out=logits)


def _rows(*tensors: Tensor) -> Iterator[Tensor]:
    """The same with each head's matrix, [K, d], row after row, copied once."""
    return (x.contiguous() for x in tensors)


def _tokens_first(x: Tensor) -> Tensor:
    """Room for values of that shape, [B, h, K, d], which lie token by token, as linear layers take them."""
    return torch.empty_like(x.transpose(1, 2), memory_format=torch.contiguous_format).transpose(1, 2)


def _each_head(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Matrices of each clip and head, [K, d]."""
    B, h = tensors[0].shape[:2]
    for clip in range(B):
        for head in range(h):
            yield tuple(x[clip, head] for x in tensors)


@attend_by_heads.register_fake
def _(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    del k, v
    return _tokens_first(q)


@_backward.register_fake
def _(grad: Tensor, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    del grad
    return _tokens_first(q), _tokens_first(k), _tokens_first(v)


def _keep(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
    del output
    ctx.save_for_backward(*inputs)


def _gradients(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    found: tuple[Tensor, Tensor, Tensor] = _backward(grad, *ctx.saved_tensors)
    return found


attend_by_heads.register_autograd(_gradients, setup_context=_keep)


def _count_flop(q: torch.Size, k: torch.Size, v: torch.Size, **_: Any) -> int:
    """Logits and mixing, two for each multiply-add."""
    return 2 * q[:3].numel() * k[2] * (q[3] + v[3])


def _count_flop_backward(_: torch.Size, *shapes: torch.Size, **__: Any) -> int:
    """Twice the forward pass; what is computed again is not counted."""
    return 2 * _count_flop(*shapes)


register_flop_formula(torch.ops.everest.attention_by_heads)(_count_flop)
register_flop_formula(torch.ops.everest.attention_by_heads_backward)(_count_flop_backward)
