"""The record of a machine is complete, and never fails."""

import json
import subprocess
from pathlib import Path

import pytest
import torch

from everest.training import environment
from everest.training.environment import describe_environment, memory_used


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=A", "-c", "user.email=a@example.org")
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_record_is_json_and_names_this_torch() -> None:
    record = describe_environment()
    assert json.loads(json.dumps(record)) == record
    assert record["packages"]["torch"] == torch.__version__
    assert record["date"].endswith("+00:00")
    assert record["cpu"]["usable_cores"] >= 1
    assert record["memory_gib"] > 0


def test_commit_and_changes_of_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert describe_environment()["git"] is None
    git(tmp_path, "init")
    (tmp_path / "a.txt").write_text("one")
    git(tmp_path, "add", "a.txt")
    git(tmp_path, "commit", "-m", "first")
    commit = git(tmp_path, "rev-parse", "HEAD")
    assert describe_environment()["git"] == {"commit": commit, "dirty": False}
    (tmp_path / "a.txt").write_text("two")
    assert describe_environment()["git"] == {"commit": commit, "dirty": True}


def test_the_source_of_everest_is_recorded_wherever_it_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also in its own folder: commits of two starts are compared."""
    package = tmp_path / "everest" / "training"
    package.mkdir(parents=True)
    (package / "environment.py").write_text("")
    git(tmp_path, "init")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "first")
    monkeypatch.setattr(environment, "__file__", str(package / "environment.py"))
    expected = {"commit": git(tmp_path, "rev-parse", "HEAD"), "dirty": False}
    for folder in (tmp_path, tmp_path.parent):
        monkeypatch.chdir(folder)
        assert describe_environment()["everest_git"] == expected


def test_a_machine_that_tells_nothing_gives_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_driver() -> int:
        raise RuntimeError("the driver does not answer")

    monkeypatch.setenv("PATH", str(tmp_path))  # no git
    monkeypatch.delattr(environment.os, "sysconf")
    monkeypatch.setattr(torch.cuda, "device_count", no_driver)
    monkeypatch.setattr(torch.backends.cudnn, "version", no_driver)
    monkeypatch.setattr(environment, "_PACKAGES", {"absent": "no-such-distribution"})
    record = describe_environment()
    assert record["git"] is None
    assert record["everest_git"] is None
    assert record["memory_gib"] is None
    assert record["gpus"] == []
    assert record["cudnn"] is None
    assert record["packages"] == {"absent": None}


def test_memory_of_a_gpu_is_its_peak_since_it_was_last_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    peaks = {"bytes": 3_500_000_000}
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: peaks["bytes"])
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: peaks.update(bytes=0))
    device = torch.device("cuda")
    assert memory_used(device) == {"gpu_memory_gb": 3.5}
    assert memory_used(device) == {"gpu_memory_gb": 0.0}
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda device: 5_000_000_000)
    assert memory_used(device, of_graphs=True) == {"gpu_memory_gb": 5.0}  # what is replayed counts as nothing else
    assert memory_used(torch.device("cpu")) == {}


@pytest.mark.parametrize(
    ("line", "works"),
    [
        ("flags\t\t: fpu avx512f avx512_bf16 avx512_vnni", True),
        ("flags\t\t: fpu amx_bf16", True),
        ("Features\t: fp asimd bf16", True),
        ("flags\t\t: fpu avx512f", False),
        ("nothing is told", False),
    ],
)
def test_bfloat16_of_a_processor_is_one_of_its_features(
    monkeypatch: pytest.MonkeyPatch, line: str, works: bool
) -> None:
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: f"processor\t: 0\n{line}\n")
    assert environment.multiplies_bfloat16() is works
