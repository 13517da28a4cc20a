"""What this machine can do: every finding says what was seen and, where something is wrong, what to do.

The command ``everest doctor`` prints :func:`diagnose`; nothing is changed and nothing is downloaded. The rest of the
package is imported only where it is tried out, so that this works when an installation does not.
"""

import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib import metadata
from importlib.resources import as_file, files
from pathlib import Path

import torch

from everest.bench.hardware import matrix_rate_gflops
from everest.errors import VideoError
from everest.models.products import library_of_products

GIB = 1024**3
OLDEST_PYTHON = (3, 11)
OLDEST_TORCH = (2, 11)
NEWEST_TESTED_TORCH = (2, 13)
MIN_DISK_GIB = 10.0
MIN_SHARED_MEMORY_GIB = 1.0
SMALL_MATRIX = 1024
"""Rows and columns: its product takes no time, and no minute where bfloat16 is emulated."""
WORTH_IT = 1.5
"""Times as fast, from which another number format is advised."""

_REINSTALL = "install PyAV from its wheel: pip install --force-reinstall --only-binary av av"
_CLIP = "assets/falls/Fall/Subject3_Fall_20.mp4"
# What videos are usually stored in, with the decoders that read it.
_CODECS = {
    "h264": ("h264",),
    "hevc": ("hevc",),
    "av1": ("libdav1d", "av1"),
    "vp9": ("vp9", "libvpx-vp9"),
    "vp8": ("vp8", "libvpx"),
    "mpeg4": ("mpeg4",),
    "mpeg2": ("mpeg2video",),
    "mjpeg": ("mjpeg",),
    "wmv": ("wmv2",),
}
_COMPILE = """
import torch
function = torch.compile(lambda x: (2 * x).relu() + 1)
assert function(torch.ones(8)).tolist() == [3.0] * 8
"""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        name: What was looked at.
        ok: True: fine. False: something will fail or be slow. None: neither, such as an optional part that is
            not there.
        detail: What was seen.
        advice: What to do; empty where nothing needs to be done.
    """

    name: str
    ok: bool | None
    detail: str
    advice: str = ""


def diagnose(*, compile_seconds: float = 120.0) -> list[Finding]:
    """Look at versions, devices, decoders, the compiler, memory and disk.

    Args:
        compile_seconds: Time limit of trying torch.compile in a process of its own, which takes some ten seconds
            when it works; 0 leaves it out.

    Returns:
        The findings, in a fixed order; one per accelerator.
    """
    findings = [
        check_python(sys.version_info[:2]),
        check_torch(torch.__version__),
        *check_devices(),
        check_decoding(),
        check_codecs(),
        check_torchcodec(),
        check_optional("cv2", "OpenCV", "optical flow for objective.name=mme", extra="flow"),
        check_optional("ray", "Ray", "--engine ray, work over many machines", extra="ray"),
        check_optional("onnxruntime", "ONNX Runtime", "everest export --onnx", extra="export"),
        check_optional("transformers", "transformers", "teachers of objective.name=mvd from Hugging Face", extra="hf"),
    ]
    if compile_seconds > 0:
        findings.append(check_compile(compile_seconds))
    return [
        *findings,
        check_processor(),
        check_number_formats(),
        check_shared_memory(Path("/dev/shm")),  # noqa: S108 - it is looked at, nothing is written there
        check_disk(Path.cwd()),
        check_tensorboard(),
    ]


def format_findings(findings: list[Finding]) -> str:
    """Lay findings out as text, one line each, and a line of advice below those that need it."""
    marks = {True: "ok", False: "PROBLEM", None: "-"}
    width = max((len(finding.name) for finding in findings), default=0)
    lines = []
    for finding in findings:
        lines.append(f"{marks[finding.ok]:<7}  {finding.name:<{width}}  {finding.detail}")
        if finding.advice:
            lines.append(f"{'':<7}  {'':<{width}}  -> {finding.advice}")
    num_problems = sum(finding.ok is False for finding in findings)
    lines.append(f"{num_problems} problem{'' if num_problems == 1 else 's'}")
    return "\n".join(lines)


def check_python(version: tuple[int, ...]) -> Finding:
    """Compare the version of Python with the oldest that works."""
    ok = version >= OLDEST_PYTHON
    advice = "" if ok else f"install Python {'.'.join(map(str, OLDEST_PYTHON))} or later"
    return Finding("python", ok, f"{platform.python_version()}, {platform.platform()}", advice)


def check_torch(version: str) -> Finding:
    """Compare the version of torch with those that this project is tested with."""
    release = tuple(int(part) for part in version.split(".")[:2])
    oldest, newest = (".".join(map(str, v)) for v in (OLDEST_TORCH, NEWEST_TESTED_TORCH))
    if release < OLDEST_TORCH:
        return Finding("torch", False, version, f"install torch {oldest} or later")
    tested = release <= NEWEST_TESTED_TORCH
    return Finding("torch", True if tested else None, f"{version} (tested: {oldest} to {newest})")


def check_devices() -> list[Finding]:
    """List the accelerators with their memory and whether they compute in bfloat16."""
    found = []
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        with torch.cuda.device(index):
            bfloat16 = torch.cuda.is_bf16_supported(including_emulation=False)
        detail = f"{properties.name}, {properties.total_memory / GIB:.1f} GiB, {_bfloat16(bfloat16)}"
        found.append(Finding(f"cuda:{index}", True, detail))
    if torch.backends.mps.is_available():
        found.append(Finding("mps", True, f"Apple GPU, {_bfloat16(works=_multiplies_bfloat16('mps'))}"))
    if found:
        return found
    built_for = f"torch is built for CUDA {torch.version.cuda}" if torch.version.cuda else "a CPU build of torch"
    advice = "check the driver with nvidia-smi" if torch.version.cuda else ""
    return [Finding("accelerator", None, f"none, {built_for}: the CPU will do the work", advice)]


def check_decoding() -> Finding:
    """Decode two frames of a bundled clip, as training does."""
    start = time.perf_counter()
    try:
        from everest.video.reader import read_clip

        with as_file(files("everest") / _CLIP) as path:
            clip = read_clip(path, [0, 40])
    except (ImportError, VideoError) as error:
        return Finding("decoding", False, f"fails: {error}", _REINSTALL)
    milliseconds = 1000 * (time.perf_counter() - start)
    version = metadata.version("av")
    return Finding(
        "decoding",
        True,
        f"PyAV {version}, which brings its own FFmpeg: {clip.num_frames} frames in {milliseconds:.0f} ms",
    )


def check_codecs() -> Finding:
    """List the usual video formats that can be decoded, and those that cannot."""
    try:
        there = {name: any(map(_has_decoder, decoders)) for name, decoders in _CODECS.items()}
    except ImportError as error:
        return Finding("codecs", False, f"not checked: {error}", _REINSTALL)
    missing = [name for name, present in there.items() if not present]
    detail = "reads " + ", ".join(name for name, present in there.items() if present)
    if missing:
        return Finding("codecs", False, f"{detail}; not {', '.join(missing)}", _REINSTALL)
    return Finding("codecs", True, detail)


def check_torchcodec() -> Finding:
    """Say whether torchcodec, which is optional, could be imported."""
    if importlib.util.find_spec("torchcodec") is None:
        return Finding("torchcodec", None, "not installed; not needed")
    try:
        importlib.import_module("torchcodec")
    except (ImportError, OSError, RuntimeError) as error:
        reason = str(error).strip().partition("\n")[0]
        return Finding("torchcodec", None, f"installed but not usable ({reason}); not needed")
    return Finding("torchcodec", None, "installed; not used")


def check_optional(module: str, name: str, purpose: str, *, extra: str) -> Finding:
    """Say whether a package that only some need is there; it is not imported, which may take seconds.

    Args:
        module: What is imported.
        name: For people.
        purpose: What needs it.
        extra: Of ours, that installs it.
    """
    if importlib.util.find_spec(module) is None:
        advice = f"for {purpose}: pip install 'everest-video[{extra}]'"
        return Finding(name, None, "not installed; not needed for anything else", advice)
    return Finding(name, True, f"installed, for {purpose}")


def check_compile(seconds: float) -> Finding:
    """Compile a function of two operations in a process of its own.

    Args:
        seconds: When to give up.
    """
    compiler = next((c for c in (os.environ.get("CXX"), "g++", "clang++", "cl") if c and shutil.which(c)), None)
    advice = "install a C++ compiler (g++ or clang++) and Python's headers, or leave run.compile=false"
    if compiler is None:
        return Finding("torch.compile", None, "no C++ compiler; only run.compile=true needs one", advice)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as cache:  # a cache from an earlier run would hide a missing compiler
        try:
            done = subprocess.run(
                [sys.executable, "-c", _COMPILE],
                env=os.environ | {"TORCHINDUCTOR_CACHE_DIR": cache},
                capture_output=True,
                text=True,
                timeout=seconds,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return Finding("torch.compile", False, f"not done after {seconds:.0f} s", "leave run.compile=false")
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        return Finding("torch.compile", False, f"fails with {compiler}: {reason}", advice)
    return Finding("torch.compile", True, f"works with {compiler}, {time.perf_counter() - start:.0f} s")


def check_processor() -> Finding:
    """Count cores, threads and memory."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = torch.get_num_threads()
    try:
        memory = f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / GIB:.1f} GiB of memory"
    except (AttributeError, ValueError, OSError):  # Windows has no sysconf
        memory = "memory unknown"
    detail = f"{cores} usable cores, {threads} torch threads, {memory}"
    if threads > cores:
        return Finding("processor", False, detail, f"set OMP_NUM_THREADS={cores}: more threads than cores are slow")
    return Finding("processor", True, detail)


def check_number_formats() -> Finding:
    """Measure what the processor gains in bfloat16, which ``run.precision=auto`` leaves to accelerators."""
    cpu = torch.device("cpu")
    exact, coarse = (
        matrix_rate_gflops(cpu, dtype, repeats=3, size=SMALL_MATRIX) for dtype in (torch.float32, torch.bfloat16)
    )
    by = " by oneDNN" if library_of_products() == "onednn" else ""
    detail = f"{exact:.0f} GFLOP/s in float32{by}, {coarse / exact:.2g} times that in bfloat16"
    if coarse < WORTH_IT * exact:
        return Finding("CPU arithmetic", True, detail)
    return Finding(
        "CPU arithmetic", True, detail, "to train on it, set run.precision=bfloat16: auto keeps float32 there"
    )


def check_shared_memory(path: Path) -> Finding:
    """Measure the shared memory through which worker processes hand over their clips.

    Args:
        path: Where it is mounted.
    """
    if not path.is_dir():
        return Finding("shared memory", None, f"{path} is not there: this system has no limit of its own")
    total = shutil.disk_usage(path).total / GIB
    if total < MIN_SHARED_MEMORY_GIB:
        advice = "start the container with --shm-size=8g, or set data.num_workers=0"
        return Finding("shared memory", False, f"{total:.2f} GiB: workers will fail with a bus error", advice)
    return Finding("shared memory", True, f"{total:.1f} GiB")


def check_disk(path: Path) -> Finding:
    """Measure the free space for run folders.

    Args:
        path: A folder on the disk in question.
    """
    free = shutil.disk_usage(path).free / GIB
    ok = free >= MIN_DISK_GIB
    advice = "" if ok else "make room, or give another folder: the state of a ViT-B run takes 1 GB per checkpoint"
    return Finding("disk", ok, f"{free:.1f} GiB free in {path}", advice)


def check_tensorboard() -> Finding:
    """Say whether TensorBoard, which run.tensorboard writes for, is there."""
    if importlib.util.find_spec("tensorboard") is None:
        return Finding("tensorboard", False, "not installed", "pip install tensorboard, or run.tensorboard=false")
    return Finding("tensorboard", True, metadata.version("tensorboard"))


def _bfloat16(works: bool) -> str:
    return "bfloat16" if works else "no bfloat16: float32 is used"


def _multiplies_bfloat16(device: str) -> bool:
    try:
        ones = torch.ones(2, 2, dtype=torch.bfloat16, device=device)
        return bool((ones @ ones).sum().item() == 8)
    except (RuntimeError, TypeError):
        return False


def _has_decoder(name: str) -> bool:
    from av.codec import Codec
    from av.codec.codec import UnknownCodecError

    try:
        Codec(name, "r")
    except UnknownCodecError:
        return False
    return True
