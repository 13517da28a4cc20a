"""Linear layers that compute their input again in the backward pass instead of keeping it.

A block's largest activations are the inputs of its linear layers: the GELU inside the MLP and the two norms. Each is
one cheap pass over a tensor that is kept anyway, so it is repeated where the weight's gradient needs it. Matrix
products are never repeated, and values are those of the plain layers. This keeps 7,680 instead of 12,288 values of a
ViT-B token and block.

Shapes: B clips, K tokens, D width, H width inside the MLP, Q outputs.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from everest.models.products import gradient_of_weight, linear, multiply


def norm_linear(x: Tensor, norm: nn.LayerNorm | None, weight: Tensor, bias: Tensor) -> Tensor:
    """``linear(norm(x))`` that keeps ``x`` for the backward pass: [B, K, D] to [B, K, Q]."""
    if norm is None or not torch.is_grad_enabled():
        return linear(x if norm is None else norm(x), weight, bias)
    out: Tensor = _NormLinear.apply(x, norm.weight, norm.bias, norm.eps, weight, bias)  # type: ignore[no-untyped-call]
    return out


def gelu_linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """``linear(gelu(x))`` that keeps ``x`` for the backward pass: [B, K, H] to [B, K, D]."""
    if not torch.is_grad_enabled():
        return linear(F.gelu(x), weight, bias)
    out: Tensor = _GeluLinear.apply(x, weight, bias)  # type: ignore[no-untyped-call]
    return out


class _NormLinear(torch.autograd.Function):
    @staticmethod
    def forward(  # noqa: PLR0917 - torch passes them by position
        ctx: Any, x: Tensor, scale: Tensor, shift: Tensor, eps: float, weight: Tensor, bias: Tensor
    ) -> Tensor:
        normal, mean, rstd = torch.native_layer_norm(x, x.shape[-1:], scale, shift, eps)
        ctx.save_for_backward(x, scale, shift, mean, rstd, weight)
        ctx.eps = eps
        return linear(normal, weight, bias)  # in the format of autocast, if there is one; so is its gradient

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, scale, shift, mean, rstd, weight = ctx.saved_tensors
        width = x.shape[-1:]
        normal = torch.native_layer_norm(x, width, scale, shift, ctx.eps)[0]
        by_weight, by_bias = _by_parameters(grad, normal, weight)
        del normal
        by_normal = multiply(grad, weight.to(grad.dtype)).to(x.dtype)
        wanted = [True, True, True]
        by_x, by_scale, by_shift = torch.ops.aten.native_layer_norm_backward(
            by_normal, x, width, mean, rstd, scale, shift, wanted
        )
        return by_x, by_scale, by_shift, None, by_weight, by_bias


class _GeluLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return linear(F.gelu(x), weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        by_weight, by_bias = _by_parameters(grad, F.gelu(x), weight)
        by_gelu = multiply(grad, weight.to(grad.dtype)).to(x.dtype)  # [B, K, H]
        torch.ops.aten.gelu_backward.grad_input(by_gelu, x, grad_input=by_gelu)  # in place: it is as large as x
        return by_gelu, by_weight, by_bias


def _by_parameters(grad: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of the weight [Q, D] and the bias [Q] of a linear layer, whose input is ``x``."""
    by_bias = grad.flatten(0, 1).sum(dim=0)  # [Q]
    return gradient_of_weight(grad, x).to(weight.dtype), by_bias.to(weight.dtype)
