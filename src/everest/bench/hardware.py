"""What a measurement ran on, how fast that multiplies matrices, and how much memory was used."""

import resource
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch

from everest.models.products import goes_to_onednn, multiply
from everest.training.environment import describe_environment, distribution_version

CPU_MATRIX, GPU_MATRIX = 2048, 8192
"""Rows and columns of the matrices multiplied: large enough to fill the device, small enough to take no time."""
CPU_COPY, GPU_COPY = 2**28, 2**31
"""Bytes that are copied: enough that starting a copy takes no part of its time, a millisecond on a GPU."""
_PEERS = ("transformers", "triton")  # what else computes a step that is measured


def describe_hardware(device: torch.device) -> dict[str, Any]:
    """Name the processor or GPU, the threads, and the versions of what computes.

    Returns:
        ``name`` of the device, ``threads`` of torch, and the fields of
        :func:`everest.training.environment.describe_environment` under ``environment``, with the versions of
        transformers and Triton among its ``packages``.
    """
    environment = describe_environment()
    environment["packages"] |= {name: distribution_version(name) for name in _PEERS}
    on_gpu = device.type == "cuda"
    name = torch.cuda.get_device_name(device) if on_gpu else environment["cpu"]["model"]
    return {"name": name, "threads": torch.get_num_threads(), "environment": environment}


def wait_for(device: torch.device) -> None:
    """Wait until a device has done all that it was asked for; a CPU has."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def now(device: torch.device) -> float:
    """Seconds from any fixed moment, when a device has done all that it was asked for."""
    wait_for(device)
    return time.perf_counter()


def matrix_rate_gflops(device: torch.device, dtype: torch.dtype, *, repeats: int = 5, size: int | None = None) -> float:
    """Measure how fast a large square matrix product runs, by the fastest library: the pace that no step can beat.

    Args:
        device: Where.
        dtype: Of the matrices.
        repeats: Products that are timed; the median counts.
        size: Rows and columns; None: as many as fill the device.

    Returns:
        10^9 floating-point operations per second, two for each multiply-add.
    """
    n = size or (GPU_MATRIX if device.type == "cuda" else CPU_MATRIX)
    a, b = (torch.randn(n, n, device=device).to(dtype) for _ in range(2))
    ways = [partial(torch.mm, a, b, out=torch.empty_like(a))]
    if goes_to_onednn(a, b):
        ways.append(partial(multiply, a, b))
    return 2 * n**3 / min(_median_seconds(way, device, repeats) for way in ways) / 1e9


def copy_rate_gbytes(device: torch.device, *, repeats: int = 5) -> float:
    """Measure how fast a large tensor is copied: what operations that compute little cannot beat.

    Args:
        device: Where.
        repeats: Copies that are timed; the median counts.

    Returns:
        10^9 bytes per second, read and written.
    """
    num_bytes = GPU_COPY if device.type == "cuda" else CPU_COPY
    source = torch.ones(num_bytes // 4, device=device)
    target = torch.empty_like(source)
    return 2 * num_bytes / _median_seconds(lambda: target.copy_(source), device, repeats) / 1e9


def _median_seconds(run: Callable[[], object], device: torch.device, repeats: int) -> float:
    """Of so many runs, after one that does not count."""
    seconds = []
    for _ in range(repeats + 1):
        started = now(device)
        run()
        seconds.append(now(device) - started)
    return median(seconds[1:])


def reset_peak_memory(device: torch.device) -> None:
    """Forget the peak so far where that is possible: on a GPU. A process keeps its peak for life."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory_bytes(device: torch.device, *, of_graphs: bool = False) -> int:
    """Give the most memory used: of tensors on a GPU, of the whole process on the CPU.

    Args:
        device: Of the work.
        of_graphs: The work is replayed, and what it uses does not count as tensors: all that is held for the program.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device) if of_graphs else torch.cuda.max_memory_allocated(device)
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        status = ""
    for line in status.splitlines():
        if line.startswith("VmHWM:"):  # getrusage would count a large parent that started this process as well
            return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024  # the same call counts in bytes here and in KiB there
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
