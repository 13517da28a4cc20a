"""The options of ``everest bench store`` and ``everest bench scaling``."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from everest import commands_scaling as do

_GPUS = (1, 2, 4, 8, 16, 32, 64)


def add_scaling(actions: Any, add: Callable[..., argparse.ArgumentParser]) -> None:
    """Describe the two subcommands.

    Args:
        actions: The subcommands of ``everest bench``.
        add: Makes a parser out of subcommands, a name, what it does and a line of help.
    """
    store = add(actions, "store", do.bench_store, "measure how clips come from a server that pretends to be far away")
    store.add_argument("packed", type=Path, metavar="PACKED", help="a folder that data pack has written")
    store.add_argument("--latency", type=float, default=0.05, metavar="S", help="before an answer (default: 0.05)")
    store.add_argument(
        "--rate", type=float, default=100.0, metavar="MB", help="megabytes a second of a connection (default: 100)"
    )
    store.add_argument("--batch", type=int, default=8, metavar="N", help="clips (default: 8)")
    store.add_argument("--workers", type=int, default=1, metavar="N", help="worker processes (default: 1)")
    store.add_argument("--epochs", type=int, default=2, metavar="N", help="of each way (default: 2)")
    store.add_argument("--frames", type=int, default=16, metavar="N", help="frames of a clip (default: 16)")
    store.add_argument("--stride", type=int, default=4, metavar="N", help="frames from one to the next (default: 4)")
    store.add_argument("--size", type=int, default=224, metavar="N", help="pixels of a side (default: 224)")
    scaling = add(actions, "scaling", do.bench_scaling, "compute what many GPUs give, and what limits them, from rates")
    scaling.add_argument(
        "--gpus", type=_numbers, default=_GPUS, metavar="N,N", help="how many (default: 1,2,4,8,16,32,64)"
    )
    scaling.add_argument("--inputs", type=Path, metavar="FILE", help="JSON with measured rates, or what --json printed")
    scaling.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", dest="settings", help="change one of them"
    )
    for parser in (store, scaling):
        parser.add_argument("--json", action="store_true", help="print the result as JSON")


def _numbers(text: str) -> tuple[int, ...]:
    """Read whole numbers with commas between them."""
    return tuple(int(number) for number in text.split(","))
