"""How processes find each other again after torchrun has restarted them.

torchrun keeps one store of keys for all of its restarts, and processes that start again may read there what those
before them have written, such as the addresses of processes that are gone: then they wait for each other for ever
(seen with torch 2.13; pytorch issue 135712). So they first agree on a name for this start, and write under that.
"""

import os
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from torch import distributed as dist

from everest.errors import RunError

if TYPE_CHECKING:
    from torch._C._distributed_c10d import Store

_SCHEME = "everest"
_LOOK_SECONDS = 0.02


def meeting_options() -> list[Any]:
    """Options for Accelerate by which the processes that torchrun has started meet; empty where others start them."""
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return []
    from accelerate.utils.dataclasses import InitProcessGroupKwargs

    with suppress(RuntimeError):  # it was registered for an earlier run of this process
        dist.register_rendezvous_handler(_SCHEME, _handle)  # type: ignore[attr-defined, no-untyped-call]
    return [InitProcessGroupKwargs(init_method=f"{_SCHEME}://")]


def agree_on_name(store: "Store", rank: int, world_size: int, timeout: timedelta) -> str:
    """Agree on a name that no start before has used; every process must call it.

    Each process leaves a token that is new, and process 0 answers under that token. Tokens of earlier starts are
    answered as well, and nobody reads it.

    Args:
        store: May hold keys of earlier starts.
        rank: Of this process.
        world_size: Number of processes.
        timeout: How long the others may take to come.

    Raises:
        RunError: They have not come.
    """
    token = uuid.uuid4().hex
    if rank:
        store.set(f"here/{rank}", token)
        store.wait([f"name/{token}"], timeout)
        name = store.get(f"name/{token}").decode()
        store.set(f"{name}/{rank}", "joined")
        return name
    missing, deadline = set(range(1, world_size)), time.monotonic() + timeout.total_seconds()
    while missing:
        for other in sorted(missing):
            if store.check([f"{token}/{other}"]):
                missing.remove(other)
            elif store.check([f"here/{other}"]):
                store.set(f"name/{store.get(f'here/{other}').decode()}", token)
        if time.monotonic() > deadline:
            raise RunError(f"processes {sorted(missing)} of {world_size} have not started: see what they print")
        if missing:
            time.sleep(_LOOK_SECONDS)
    return token


def _handle(url: str, timeout: timedelta, **_: Any) -> Iterator[tuple["Store", int, int]]:
    """Give torch the store of this start, by the environment that torchrun has made."""
    rank, world_size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    store = dist.TCPStore(  # type: ignore[attr-defined]
        os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False, timeout=timeout
    )
    name = agree_on_name(store, rank, world_size, timeout)
    yield dist.PrefixStore(name, store), rank, world_size  # type: ignore[attr-defined]
    raise RunError("processes that have lost each other cannot meet again: start the run again")
