"""Which process this is, so that others can tell later whether it still lives. Imported by all, imports nothing."""

import os
import platform
from pathlib import Path
from typing import Any


def describe_process() -> dict[str, Any]:
    """Name this process: ``host``, ``pid``, and ``mark``, which a later process of the same number does not share.

    The mark is None where the system does not tell when a process began.
    """
    return {"host": platform.node(), "pid": os.getpid(), "mark": _mark(os.getpid())}


def is_alive(process: Any) -> bool | None:
    """Whether a process that :func:`describe_process` named still lives.

    Args:
        process: What it gave, or what a damaged file made of it.

    Returns:
        None where it cannot be told: it is of another machine or container, or not described completely.
    """
    if not isinstance(process, dict) or process.get("host") != platform.node():
        return None
    pid, mark, own = process.get("pid"), process.get("mark"), _mark(os.getpid())
    if not isinstance(pid, int) or not isinstance(mark, str) or mark.count(" ") != 2 or own is None:
        return None
    (boot, namespace, _), (own_boot, own_namespace, _) = mark.split(" "), own.split(" ")
    if boot == own_boot and namespace != own_namespace:
        return None
    return _mark(pid) == mark


def _mark(pid: int) -> str | None:
    """Start of the machine, namespace of process numbers, start of the process; None where there is no such process."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        namespace = Path("/proc/self/ns/pid").readlink().name
        status = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = status.rpartition(")")[2].split()  # the name in front may hold anything
    return f"{boot} {namespace} {fields[19]}" if len(fields) > 19 and fields[0] not in {"Z", "X"} else None
