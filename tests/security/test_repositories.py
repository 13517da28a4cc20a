"""A run records the state of the repository that it was started in, and runs nothing that it names."""

import subprocess
from pathlib import Path

import pytest

from everest.training.environment import describe_environment


def test_the_settings_of_a_repository_start_no_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    marker = tmp_path / "it-ran"
    hook = tmp_path / "hook"
    hook.write_text(f"#!/bin/sh\ntouch '{marker}'\n")
    hook.chmod(0o755)
    name = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    (tmp_path / "file").write_text("x")
    for words in (("init",), ("add", "file"), (*name, "commit", "-m", "x"), ("config", "core.fsmonitor", str(hook))):
        subprocess.run(["git", *words], check=True, capture_output=True)
    git = describe_environment()["git"]
    assert git["dirty"] is False
    assert not marker.exists()
    subprocess.run(["git", "status"], check=True, capture_output=True)  # which is what would have run it
    assert marker.exists()
