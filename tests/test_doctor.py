"""What the doctor sees, on this machine and on machines that lack something."""

import contextlib
import json
import shutil
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from everest import doctor
from everest.doctor import GIB, Finding, diagnose, format_findings
from everest.errors import VideoError
from everest.models.products import products_by


def test_everything_that_is_needed_works_here() -> None:
    findings = {finding.name: finding for finding in diagnose(compile_seconds=300)}
    for name in ("python", "torch", "decoding", "codecs", "tensorboard"):
        assert findings[name].ok is True, findings[name]
    # Works, or says why not: a machine without a compiler is no error.
    compiled = findings["torch.compile"]
    assert compiled.ok is True or compiled.advice
    assert json.loads(json.dumps([asdict(f) for f in findings.values()]))


def test_compiling_can_be_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "check_compile", None)  # would fail if it were called
    names = [finding.name for finding in diagnose(compile_seconds=0)]
    assert "torch.compile" not in names
    assert len(set(names)) == len(names)


def test_findings_are_laid_out_one_to_a_line() -> None:
    text = format_findings(
        [Finding("disk", False, "1.0 GiB free", "make room"), Finding("torch", True, "2.13.0"), Finding("x", None, "")]
    )
    lines = [line.rstrip() for line in text.splitlines()]
    assert lines == [
        "PROBLEM  disk   1.0 GiB free",
        "                -> make room",
        "ok       torch  2.13.0",
        "-        x",
        "1 problem",
    ]


def test_no_findings_are_no_problem() -> None:
    assert format_findings([]) == "0 problems"


@pytest.mark.parametrize(
    ("version", "ok"), [((3, 10), False), ((3, 11), True), ((3, 12), True), ((2, 7), False), ((4, 0), True)]
)
def test_old_python_is_a_problem(version: tuple[int, ...], ok: bool) -> None:
    finding = doctor.check_python(version)
    assert finding.ok is ok
    assert bool(finding.advice) is not ok


@pytest.mark.parametrize(
    ("version", "ok"),
    [
        ("2.9.1", False),
        ("2.10.0+cu128", False),
        ("2.11.0+cu130", True),
        ("2.13.0+cpu", True),
        ("2.14.0a0+git1234", None),
        ("3.0.0", None),
    ],
)
def test_old_torch_is_a_problem_and_new_torch_is_untested(version: str, ok: bool | None) -> None:
    assert doctor.check_torch(version).ok is ok


@pytest.mark.parametrize(("works", "said"), [(True, "bfloat16"), (False, "no bfloat16: float32 is used")])
def test_every_gpu_is_listed(monkeypatch: pytest.MonkeyPatch, works: bool, said: str) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "device", lambda index: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: works)
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda index: SimpleNamespace(name="GPU", total_memory=24 * GIB)
    )
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert doctor.check_devices() == [
        Finding("cuda:0", True, f"GPU, 24.0 GiB, {said}"),
        Finding("cuda:1", True, f"GPU, 24.0 GiB, {said}"),
    ]


@pytest.mark.parametrize(("cuda", "advice"), [(None, ""), ("13.0", "check the driver with nvidia-smi")])
def test_no_accelerator_is_no_problem(monkeypatch: pytest.MonkeyPatch, cuda: str | None, advice: str) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", cuda)
    (finding,) = doctor.check_devices()
    assert (finding.ok, finding.advice) == (None, advice)


def test_apple_gpus_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(doctor, "_multiplies_bfloat16", lambda device: device == "mps")
    assert doctor.check_devices() == [Finding("mps", True, "Apple GPU, bfloat16")]


def test_bfloat16_is_tried_and_not_assumed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor._multiplies_bfloat16("cpu") is True

    def refuse(*args: object, **kwargs: object) -> None:
        raise TypeError("BFloat16 is not supported")

    monkeypatch.setattr(torch, "ones", refuse)
    assert doctor._multiplies_bfloat16("cpu") is False


@pytest.mark.parametrize(("times", "is_advised"), [(2.4, True), (1.1, False), (0.02, False)])
def test_bfloat16_is_advised_where_it_is_faster(
    monkeypatch: pytest.MonkeyPatch, times: float, is_advised: bool
) -> None:
    rates = {torch.float32: 100.0, torch.bfloat16: 100.0 * times}
    monkeypatch.setattr(doctor, "matrix_rate_gflops", lambda device, dtype, **_: rates[dtype])
    for library, by in (("pytorch", ""), ("onednn", " by oneDNN")):
        with products_by(library):
            finding = doctor.check_number_formats()
        assert finding.ok is True
        assert finding.detail == f"100 GFLOP/s in float32{by}, {times:g} times that in bfloat16"
    assert ("run.precision=bfloat16" in finding.advice) is is_advised


@pytest.mark.parametrize("error", [VideoError("x.mp4: no such file"), ImportError("libavcodec is missing")])
def test_a_decoder_that_fails_is_a_problem(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(*args: object) -> None:
        raise error

    monkeypatch.setattr("everest.video.reader.read_clip", fail)
    finding = doctor.check_decoding()
    assert finding.ok is False
    assert str(error) in finding.detail
    assert "pip install" in finding.advice


def test_a_format_without_decoder_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(doctor._CODECS, "hologram", ("libhologram",))
    finding = doctor.check_codecs()
    assert finding.ok is False
    assert finding.detail.endswith("not hologram")
    assert "h264" in finding.detail


def test_a_broken_pyav_is_reported_and_not_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> bool:
        raise ImportError("libavcodec is missing")

    monkeypatch.setattr(doctor, "_has_decoder", fail)
    assert doctor.check_codecs().ok is False


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "not installed"),
        ("raise RuntimeError('Could not load libtorchcodec.\\nmore')", "Could not load libtorchcodec."),
        ("", "installed; not used"),
    ],
)
def test_torchcodec_is_optional(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None, said: str
) -> None:
    monkeypatch.delitem(doctor.sys.modules, "torchcodec", raising=False)
    if content is None:
        monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda name: None)
    else:
        (tmp_path / "torchcodec.py").write_text(content)
        monkeypatch.syspath_prepend(tmp_path)
    finding = doctor.check_torchcodec()
    monkeypatch.delitem(doctor.sys.modules, "torchcodec", raising=False)
    assert finding.ok is None
    assert said in finding.detail
    assert "more" not in finding.detail


@pytest.mark.parametrize(
    ("program", "seconds", "ok", "said"),
    [
        ("", 60.0, True, "works with"),
        ("raise SystemExit('Python.h: no such file')", 60.0, False, "Python.h: no such file"),
        ("import os; os._exit(9)", 60.0, False, "exit code 9"),
        ("while True: pass", 0.2, False, "not done after 0 s"),
    ],
)
def test_a_compiler_that_fails_or_hangs_is_a_problem(
    monkeypatch: pytest.MonkeyPatch, program: str, seconds: float, ok: bool, said: str
) -> None:
    monkeypatch.setattr(doctor.shutil, "which", lambda name: f"/bin/{name}")
    monkeypatch.setattr(doctor, "_COMPILE", program)
    finding = doctor.check_compile(seconds)
    assert finding.ok is ok
    assert said in finding.detail
    assert bool(finding.advice) is not ok


def test_no_compiler_is_no_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.shutil, "which", lambda name: None)
    finding = doctor.check_compile(60.0)
    assert finding.ok is None
    assert "install a C++ compiler" in finding.advice


def test_more_threads_than_cores_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 10_000)
    finding = doctor.check_processor()
    assert finding.ok is False
    assert "OMP_NUM_THREADS=" in finding.advice
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    monkeypatch.delattr(doctor.os, "sysconf")
    finding = doctor.check_processor()
    assert finding.ok is True
    assert "memory unknown" in finding.detail


def usage(total: float = 100 * GIB, free: float = 50 * GIB) -> object:
    return lambda path: SimpleNamespace(total=total, free=free)


def test_little_shared_memory_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", usage(total=64 * 2**20))  # what a container has if nothing is said
    finding = doctor.check_shared_memory(tmp_path)
    assert finding.ok is False
    assert "--shm-size" in finding.advice
    monkeypatch.setattr(shutil, "disk_usage", usage(total=8 * GIB))
    assert doctor.check_shared_memory(tmp_path) == Finding("shared memory", True, "8.0 GiB")
    assert doctor.check_shared_memory(tmp_path / "none").ok is None


@pytest.mark.parametrize(("free_gib", "ok"), [(9.9, False), (10.0, True), (500.0, True)])
def test_little_disk_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free_gib: float, ok: bool) -> None:
    monkeypatch.setattr(shutil, "disk_usage", usage(free=free_gib * GIB))
    finding = doctor.check_disk(tmp_path)
    assert finding.ok is ok
    assert f"{free_gib:.1f} GiB free in {tmp_path}" == finding.detail


def test_missing_tensorboard_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda name: None)
    finding = doctor.check_tensorboard()
    assert finding.ok is False
    assert "pip install tensorboard" in finding.advice


def test_optional_packages_say_what_they_are_for() -> None:
    there = doctor.check_optional("json", "JSON", "reading", extra="json")
    assert (there.ok, there.detail) == (True, "installed, for reading")
    absent = doctor.check_optional("no_such_module_at_all", "Nothing", "dreams", extra="sleep")
    assert absent.ok is None
    assert absent.advice == "for dreams: pip install 'everest-video[sleep]'"
