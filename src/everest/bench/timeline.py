"""Where the time of a step goes: a row of marks, and what was computed and moved between them.

A step is one row of events on one device. Each mark closes the stretch since the last one and gives it a name, so the
parts add up to the whole, and no part is measured twice.
"""

from collections import defaultdict
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from everest.bench.hardware import now

_aten = torch.ops.aten
_ATTENTION = {_aten._scaled_dot_product_flash_attention_for_cpu: 1}
_ATTENTION_BACKWARD = {
    _aten._scaled_dot_product_flash_attention_for_cpu_backward: 1,
    _aten._scaled_dot_product_flash_attention_backward: 1,
    _aten._scaled_dot_product_efficient_attention_backward: 1,
    _aten._scaled_dot_product_cudnn_attention_backward: 1,
}
_VARLEN_BACKWARD = "torch_attn._varlen_attn_backward"  # known by its name: it is there once attention was used so
_FREE = {_aten.detach, _aten.empty, _aten.empty_like, _aten.empty_strided, _aten.new_empty, _aten._unsafe_view}


class Marks(Protocol):
    """What a step reports its progress to."""

    def mark(self, name: str) -> None:
        """Close the stretch since the last mark."""


class Timeline:
    """Seconds of each stretch.

    Attributes:
        seconds: By name; a name that comes again adds up.
    """

    def __init__(self, device: torch.device) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._device = device
        self._last = now(device)

    def mark(self, name: str) -> None:
        """Close the stretch since the last mark."""
        last, self._last = self._last, now(self._device)
        self.seconds[name] += self._last - last


class Work(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts what is computed and moved in each stretch. For use as a context.

    Attributes:
        flop: Floating-point operations of matrix products, convolutions and attention by name, two for each
            multiply-add; the backward pass of attention counts twice the forward pass.
        num_bytes: Bytes that operations read and write by name, each tensor once for each operation.
        floor_seconds: What these operations take at least, by name: each one the time of its multiply-adds or that of
            its bytes, whichever is longer.
    """

    def __init__(self, flop_per_second: float, bytes_per_second: float) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.flop: defaultdict[str, float] = defaultdict(float)
        self.num_bytes: defaultdict[str, float] = defaultdict(float)
        self.floor_seconds: defaultdict[str, float] = defaultdict(float)
        self._rates = flop_per_second, bytes_per_second
        self._open = [0.0, 0.0, 0.0]

    def mark(self, name: str) -> None:
        """Close the stretch since the last mark."""
        for kept, value in zip((self.flop, self.num_bytes, self.floor_seconds), self._open, strict=True):
            kept[name] += value
        self._open = [0.0, 0.0, 0.0]

    def __torch_dispatch__(  # the name that PyTorch calls
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run an operation and count it."""
        del types
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        counted = work_of(func, args, kwargs, out, *self._rates)
        self._open = [a + b for a, b in zip(self._open, counted, strict=True)]
        return out


def work_of(  # noqa: PLR0917 - an operation as PyTorch hands it over, and two rates
    func: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    out: Any,
    flop_per_second: float,
    bytes_per_second: float,
) -> tuple[float, float, float]:
    """Count an operation: floating-point operations, bytes, and the seconds that it takes at least."""
    flop = _flop(func, args, kwargs, out)
    moved = 0 if func.is_view or func._overloadpacket in _FREE else _num_bytes((args, kwargs, out))
    return flop, moved, max(flop / flop_per_second, moved / bytes_per_second)


def counted_flop(run: Callable[[], object]) -> float:
    """Run a function and count the floating-point operations of its matrix products, convolutions and attention."""
    work = Work(1.0, 1.0)  # rates are of no account
    with work:
        run()
    work.mark("all")
    return work.flop["all"]


def _flop(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> float:
    packet = func._overloadpacket
    if packet in _ATTENTION_BACKWARD:
        return 2 * _attention_flop(*args[1:4])
    if packet in _ATTENTION:
        return _attention_flop(*args[:3])
    count: Callable[..., int] | None = flop_registry.get(packet)
    share = 2 / 2.5 if str(packet) == _VARLEN_BACKWARD else 1.0  # logits, computed again, are counted there
    return 0.0 if count is None else share * count(*args, **kwargs, out_val=out)


def _attention_flop(query: Tensor, key: Tensor, value: Tensor) -> float:
    """Logits and mixing: [B, h, K, d] each."""
    B, h, K, d = query.shape
    return 2.0 * B * h * K * key.shape[2] * (d + value.shape[3])


def _num_bytes(values: Any) -> int:
    tensors = {(t.data_ptr(), t.shape): t for t in tree_leaves(values) if isinstance(t, Tensor)}
    return sum(t.numel() * t.element_size() for t in tensors.values())
