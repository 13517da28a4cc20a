"""What a run ran on, for its record. Nothing here fails: what cannot be found out is None."""

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from everest.models.products import library_of_products

# Git fetches by itself what an incomplete clone lacks, with the program that the repository's settings name for it: no
# protocol is allowed, whatever those settings say, and newer gits do not try.
_NO_FETCHING = {"GIT_ALLOW_PROTOCOL": "none", "GIT_NO_LAZY_FETCH": "1"}
_PACKAGES = {
    "everest": "everest-video",
    "torch": "torch",
    "accelerate": "accelerate",
    "av": "av",
    "kornia": "kornia",
    "numpy": "numpy",
}


def describe_environment() -> dict[str, Any]:
    """Record versions, machine, source state and time.

    Returns:
        Plain values that JSON can hold: ``date`` (UTC), ``python``, ``platform``, ``packages`` (name to version),
        ``cpu`` (model, cores, usable cores, torch threads, what multiplies in float32), ``memory_gib``, ``gpus``
        (names), ``cuda`` (version of the torch build), ``cudnn`` (version), ``git`` (of the working folder) and
        ``everest_git`` (of EVEREST's own source, where that is in a repository). A git entry has ``commit`` and
        ``dirty``: whether tracked files were changed.
    """
    here, package = Path.cwd(), Path(__file__).parent
    # A package installed inside some other project's folder is not that project's source.
    is_source = _git(package, "ls-files", "--error-unmatch", Path(__file__).name) is not None
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": package_versions(),
        "cpu": {
            "model": cpu_model(),
            "cores": os.cpu_count(),
            "usable_cores": _usable_cores(),
            "threads": torch.get_num_threads(),
            "float32_products": library_of_products(),
        },
        "memory_gib": _memory_gib(),
        "gpus": _gpu_names(),
        "cuda": torch.version.cuda,
        "cudnn": _cudnn_version(),
        "git": _git_state(here),
        "everest_git": _git_state(package) if is_source else None,
    }


def package_versions() -> dict[str, str | None]:
    """Give the versions of EVEREST and of what its results depend on."""
    return {name: distribution_version(distribution) for name, distribution in _PACKAGES.items()}


def memory_used(device: torch.device, *, of_graphs: bool = False) -> dict[str, float]:
    """Give the highest memory of a GPU since this was last asked, as ``gpu_memory_gb`` (10^9 bytes); else nothing.

    What PyTorch has handed out, without what it keeps for the next request. Asking waits for nothing.

    Args:
        device: Of the run.
        of_graphs: Steps are replayed, and what they use is not handed out: with what PyTorch keeps.
    """
    if device.type != "cuda":
        return {}
    peak_bytes = torch.cuda.max_memory_reserved(device) if of_graphs else torch.cuda.max_memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    return {"gpu_memory_gb": peak_bytes / 1e9}


def cpu_model() -> str | None:
    """Name the processor, or None where the system does not tell."""
    return _cpu_field("model name") or platform.processor() or platform.machine() or None


def multiplies_bfloat16() -> bool:
    """Whether the processor has instructions for products of bfloat16; False where the system does not tell."""
    flags = (_cpu_field("flags") or _cpu_field("Features") or "").split()  # of x86 and of ARM
    return not {"avx512_bf16", "amx_bf16", "bf16"}.isdisjoint(flags)


def distribution_version(distribution: str) -> str | None:
    """Give the version of an installed package; None where there is none."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _cpu_field(name: str) -> str | None:
    """What the system says of the first core; None where it does not."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return None


def _usable_cores() -> int | None:
    """Cores that this process may use, fewer than the machine has in many containers and batch jobs."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count()


def _memory_gib() -> float | None:
    try:
        size_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows has no sysconf
        return None
    return round(size_bytes / 2**30, 1)


def _gpu_names() -> list[str]:
    try:
        return [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    except (RuntimeError, AssertionError):  # a driver that does not answer
        return []


def _cudnn_version() -> int | None:
    try:
        found: int | None = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
    except RuntimeError:  # another one is loaded than torch was built with
        return None
    return found


def _git_state(folder: Path) -> dict[str, Any] | None:
    commit = _git(folder, "rev-parse", "HEAD")
    if commit is None:
        return None
    changes = _git(folder, "status", "--porcelain", "--untracked-files=no")
    return {"commit": commit, "dirty": None if changes is None else bool(changes)}


def _git(folder: Path, *arguments: str) -> str | None:
    """Ask git about a folder, without taking its locks; None where there is no answer."""
    # The settings of a repository may name a program that git asks for changed files.
    command = ["git", "--no-optional-locks", "-c", "core.fsmonitor=false", "-C", str(folder), *arguments]
    environment = os.environ | _NO_FETCHING
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False, env=environment)
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None
    return answer.stdout.strip() if answer.returncode == 0 else None
