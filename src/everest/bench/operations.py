"""Where the time of a step goes by what is computed: matrix products, attention, norms, and all that only moves bytes.

Parts of a step say which of them is slow; this says which operations make it so. For a CPU, which ends an operation
before it begins the next.
"""

import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode

from everest.bench.timeline import work_of

KINDS = {
    "matrix products": ("mm", "addmm", "linear", "linear_pointwise", "product_by_onednn"),
    "attention": ("scaled_dot_product", "varlen_attn", "attention_by_heads", "bmm", "softmax"),
    "norms": ("native_layer_norm",),
    "GELU": ("gelu",),
    "optimiser": ("_fused_adamw",),
    "sums": ("sum", "mean", "var", "linalg_vector_norm", "_foreach_norm", "mse_loss", "cumsum"),
    "gathers and sorting": ("gather", "scatter", "index", "sort", "topk", "embedding", "take"),
    "copies": ("copy", "clone", "cat", "stack", "to_copy", "zero", "fill", "constant_pad", "expand_copy"),
}
"""Kind -> what the names of its operations begin with or hold; the first that fits. What fits none is elementwise."""
ELEMENTWISE = "elementwise"
BETWEEN = "between operations"
"""What is left of a step: Python, autograd and the dispatcher, and what timing each operation adds."""
_SHORT = {"mm", "bmm", "sum", "mean", "var", "index", "sort", "cat", "take"}  # not looked for inside other names


@dataclass
class _Found:
    """Of one kind of operation, in one step."""

    seconds: float = 0.0
    flop: float = 0.0
    num_bytes: float = 0.0
    floor_seconds: float = 0.0
    num_calls: int = 0


@dataclass
class _Step:
    """One step: what was found of each kind, and how long it took."""

    kinds: defaultdict[str, _Found] = field(default_factory=lambda: defaultdict(_Found))
    seconds: float = 0.0


class _Clock(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Times and counts every operation. For use as a context."""

    def __init__(self, found: _Step, rates: tuple[float, float]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._found, self._rates = found, rates

    def __torch_dispatch__(  # the name that PyTorch calls
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run an operation."""
        del types
        kwargs = kwargs or {}
        if func.is_view:  # nothing is computed
            return func(*args, **kwargs)
        started = time.perf_counter()
        out = func(*args, **kwargs)
        seconds = time.perf_counter() - started
        flop, moved, floor = work_of(func, args, kwargs, out, *self._rates)
        kind = self._found.kinds[kind_of(func._overloadpacket.__name__)]
        kind.seconds += seconds
        kind.flop, kind.num_bytes = kind.flop + flop, kind.num_bytes + moved
        kind.floor_seconds += floor
        kind.num_calls += 1
        return out


def kind_of(name: str) -> str:
    """Name the kind of an operation, by PyTorch's name of it, such as ``addmm``."""
    plain = name.strip("_")
    for kind, signs in KINDS.items():
        for sign in signs:
            bare = sign.strip("_")
            if plain == bare or (bare not in _SHORT and bare in plain) or plain.startswith(f"{bare}_"):
                return kind
    return ELEMENTWISE


def time_operations(
    run: Callable[[], object], steps: int, flop_per_second: float, bytes_per_second: float
) -> list[dict[str, Any]]:
    """Run a step again and again and say what its operations take, by kind.

    Args:
        run: Does one step, on a CPU.
        steps: How often, after one that does not count.
        flop_per_second: Of a large matrix product.
        bytes_per_second: Of a large copy.

    Returns:
        Rows, the longest first and what is between operations last: ``name``, ``ms`` (median of the steps), ``share``
        of the step, ``calls``, ``gflop``, ``gbytes``, ``floor_ms`` (each operation the time of its multiply-adds or of
        its bytes, whichever is longer) and ``gap`` (times the floor).
    """
    found = [_run(run, (flop_per_second, bytes_per_second)) for _ in range(1 + steps)][1:]
    whole = median(step.seconds for step in found)
    rows = []
    for name in found[0].kinds:
        seconds = median(step.kinds[name].seconds for step in found)
        rows.append(_row(name, seconds, whole, found[0].kinds[name]))
    rows.sort(key=lambda row: -row["ms"])
    between = median(step.seconds - sum(kind.seconds for kind in step.kinds.values()) for step in found)
    return [*rows, _row(BETWEEN, between, whole, _Found())]


def format_operations(rows: list[dict[str, Any]]) -> str:
    """Say the result of :func:`time_operations` to people, as a table."""
    lines = [f"{'':22}{'ms':>10}{'share':>8}{'calls':>8}{'GFLOP':>10}{'GB':>8}{'floor ms':>10}{'gap':>7}"]
    for row in rows:
        gap = "" if row["gap"] is None else f"x{row['gap']:.2f}"
        lines.append(
            f"{row['name']:22}{row['ms']:10.1f}{row['share']:8.1%}{row['calls']:8}{row['gflop']:10.1f}"
            f"{row['gbytes']:8.2f}{row['floor_ms']:10.1f}{gap:>7}"
        )
    return "\n".join(lines)


def _run(run: Callable[[], object], rates: tuple[float, float]) -> _Step:
    step = _Step()
    started = time.perf_counter()
    with _Clock(step, rates):
        run()
    step.seconds = time.perf_counter() - started
    return step


def _row(name: str, seconds: float, whole: float, found: _Found) -> dict[str, Any]:
    return {
        "name": name,
        "ms": 1e3 * seconds,
        "share": seconds / whole,
        "calls": found.num_calls,
        "gflop": found.flop / 1e9,
        "gbytes": found.num_bytes / 1e9,
        "floor_ms": 1e3 * found.floor_seconds,
        "gap": seconds / found.floor_seconds if found.floor_seconds > 0 else None,
    }
