"""Matrix products in float32 on a CPU, by the faster of the two libraries that PyTorch has for them.

PyTorch takes MKL, which computes with vectors of 256 bits on processors that are not Intel's, also where there are 512.
oneDNN, which PyTorch takes for convolutions and bfloat16, uses all of them: twice the multiply-adds a second on an AMD
EPYC (decision 0034). It sums in another order, so results differ as roundings do. Everywhere else, and in what is
exported, this is ``torch.nn.functional.linear``.

Shapes: R rows, I inputs, O outputs of a linear map.
"""

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal, cast, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import register_flop_formula

from everest.errors import ConfigError

Library = Literal["onednn", "pytorch"]
CPUINFO = Path("/proc/cpuinfo")
VARIABLE = "EVEREST_PRODUCTS"
"""Of the environment: the library that is to be taken, whatever the processor."""
MANY_ROWS = 1024
"""R beyond which the gradient of a weight is computed turned over."""


class Linear(nn.Linear):
    """A linear layer that computes by :func:`linear`."""

    def forward(self, x: Tensor) -> Tensor:
        """[..., I] to [..., O]."""
        return linear(x, self.weight, self.bias)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Compute ``x @ weight.T + bias``.

    Args:
        x: Shape [..., I].
        weight: Shape [O, I].
        bias: Shape [O].

    Returns:
        Shape [..., O].
    """
    if not goes_to_onednn(x, weight):
        return _of_pytorch(x, weight, bias)
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in (x, weight, bias)):
        out: Tensor = _Linear.apply(x, weight, bias)  # type: ignore[no-untyped-call]
        return out
    return _by_onednn(x, weight, bias)


def multiply(rows: Tensor, matrix: Tensor) -> Tensor:
    """Compute ``rows @ matrix``, without gradient: [..., I] and [I, O] to [..., O]."""
    if not goes_to_onednn(rows, matrix):
        return rows @ matrix
    return _by_onednn(rows, matrix.mT, None)


def gradient_of_weight(grad: Tensor, x: Tensor) -> Tensor:
    """Give the gradient of a linear map's weight: [..., O] and [..., I] to [O, I]."""
    rows = grad.reshape(-1, grad.shape[-1])  # [R, O]
    inputs = x.reshape(-1, x.shape[-1]).to(grad.dtype)  # [R, I]
    if goes_to_onednn(rows, inputs):
        return _turned_product(rows, inputs)
    return rows.mT @ inputs


def _turned_product(rows: Tensor, inputs: Tensor) -> Tensor:
    """``rows.mT @ inputs``, by the way that oneDNN is quickest at: one of the two lies as the library wants it."""
    if rows.shape[1] <= inputs.shape[1]:
        return _by_onednn(rows.mT.contiguous(), inputs.mT, None)
    if len(rows) <= MANY_ROWS:
        return _by_onednn(rows.mT, inputs.mT, None)
    return _by_onednn(inputs.mT, rows.mT, None).mT.contiguous()


def has_faster_products() -> bool:
    """Find out whether this processor has vectors of 512 bits that MKL leaves unused."""
    has_long_vectors = "AVX512" in torch.backends.cpu.get_cpu_capability()
    return has_long_vectors and not _is_of_intel() and _by_onednn_works()


def take_all_linear_layers() -> None:
    """Let PyTorch's own linear layers compute by :func:`linear` from now on, in the whole process; for comparing."""
    torch.nn.functional.__dict__["linear"] = linear  # which its layers look up whenever they compute


@contextmanager
def products_by(library: Library) -> Iterator[None]:
    """Compute products by one of the two, whatever the processor; for comparing. A context."""
    before, _state["library"] = _state["library"], library
    try:
        yield
    finally:
        _state["library"] = before


def library_of_products() -> Library:
    """Name what products in float32 on this CPU are computed by: ``onednn``, or ``pytorch`` where it decides."""
    return _state["library"]


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        by_x, by_weight, _ = ctx.needs_input_grad
        ctx.save_for_backward(x if by_weight else None, weight if by_x else None)
        return _by_onednn(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        by_x, by_weight, by_bias = ctx.needs_input_grad
        rows = grad.reshape(-1, grad.shape[-1])  # [R, O]
        sums = rows.sum(dim=0) if by_bias else None
        if torch.is_grad_enabled() and not torch.compiler.is_compiling():  # gradients of these are asked for
            inputs = x.reshape(-1, x.shape[-1]) if by_weight else None  # [R, I]
            return grad @ weight if by_x else None, None if inputs is None else rows.mT @ inputs, sums
        return multiply(grad, weight) if by_x else None, gradient_of_weight(grad, x) if by_weight else None, sums


def goes_to_onednn(x: Tensor, weight: Tensor) -> bool:
    """Whether a product of these is computed by oneDNN here."""
    return (
        _state["library"] == "onednn"
        and x.dtype == weight.dtype == torch.float32
        and x.device.type == "cpu"
        and not torch.compiler.is_exporting()
        and not torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
        and not torch.is_autocast_enabled("cpu")
        and not torch._C._are_functorch_transforms_active()  # such as torch.func.grad
        and x.numel() > 0
    )


def _by_onednn(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    rows = _as_it_lies(x.reshape(-1, x.shape[-1]))  # [R, I]
    product = _in_a_graph if torch.compiler.is_compiling() else _product
    return product(rows, _as_it_lies(weight), bias).reshape(*x.shape[:-1], len(weight))


def _product(rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    out: Tensor = torch.ops.mkldnn._linear_pointwise(rows, weight, bias, "none", [], "")
    return out


@torch.library.custom_op("everest::product_by_onednn", mutates_args=())
def _in_a_graph(rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The same as an operation of our own: the compiler takes PyTorch's for weights that stay as they are only."""
    return _product(rows, weight, bias)


@_in_a_graph.register_fake
def _(rows: Tensor, weight: Tensor, _: Tensor | None) -> Tensor:
    return rows.new_empty(len(rows), len(weight))


def _as_it_lies(matrix: Tensor) -> Tensor:
    """Copy a matrix that lies neither by rows nor by columns: for those oneDNN has a way a thousand times as slow."""
    return matrix if matrix.is_contiguous() or matrix.mT.is_contiguous() else matrix.contiguous()


def _by_onednn_works() -> bool:
    """Whether this PyTorch has the operation, which is none of those it promises to keep."""
    x, weight, bias = torch.arange(12.0).reshape(3, 4), torch.arange(20.0).reshape(5, 4), torch.ones(5)
    try:
        return torch.allclose(_by_onednn(x, weight, bias), F.linear(x, weight, bias))
    except (AttributeError, RuntimeError, TypeError):
        return False


def _count_flop(x: torch.Size, weight: torch.Size, *_: Any, out_shape: torch.Size, **__: Any) -> int:
    """Two for each multiply-add; PyTorch's counters do not know the operation."""
    return 2 * out_shape.numel() * weight[1]


with suppress(AttributeError):
    register_flop_formula(torch.ops.mkldnn._linear_pointwise)(_count_flop)
    register_flop_formula(torch.ops.everest.product_by_onednn)(_count_flop)


def _is_of_intel() -> bool:
    about = platform.processor()
    with suppress(OSError):
        about += CPUINFO.read_text(encoding="utf-8", errors="replace")
    return "GenuineIntel" in about


def _chosen() -> Library:
    asked = os.environ.get(VARIABLE, "")
    if asked in get_args(Library):
        return cast(Library, asked)
    if asked:
        raise ConfigError(f"{VARIABLE}={asked} in the environment; it takes {' or '.join(get_args(Library))}")
    return "onednn" if has_faster_products() else "pytorch"


# Found out once, and not while something counts or traces operations.
_of_pytorch = F.linear
_state: dict[str, Library] = {"library": _chosen()}
