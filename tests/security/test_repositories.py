"""A run records the state of the repository that it was started in, and runs nothing that it names."""

import subprocess
from pathlib import Path

import pytest

from everest.training.environment import describe_environment

NAME = ("-c", "user.name=a", "-c", "user.email=a@example.org")


def test_the_settings_of_a_repository_start_no_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    marker, hook = _repository(tmp_path, monkeypatch)
    _git("config", "core.fsmonitor", str(hook))
    git = describe_environment()["git"]
    assert git["dirty"] is False
    assert not marker.exists()
    _git("status")  # which is what would have run it
    assert marker.exists()


def test_what_an_incomplete_clone_lacks_is_not_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Git asks the remote for missing objects on its own, through the program of the repository's settings."""
    marker, hook = _repository(tmp_path, monkeypatch)
    settings = {
        "core.repositoryFormatVersion": "1",
        "extensions.partialClone": "origin",
        "remote.origin.url": "ssh://nobody@127.0.0.1/nothing",
        "remote.origin.promisor": "true",
        "core.sshCommand": str(hook),
        "protocol.ssh.allow": "always",
    }
    for key, value in settings.items():
        _git("config", key, value)
    tree = _git("rev-parse", "HEAD^{tree}")
    (tmp_path / ".git" / "objects" / tree[:2] / tree[2:]).unlink()
    git = describe_environment()["git"]
    assert not marker.exists()
    assert git["commit"] == _git("rev-parse", "HEAD")
    assert git["dirty"] is None
    subprocess.run(["git", "status"], check=False, capture_output=True)  # which is what would have run it
    assert marker.exists()


def _repository(folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Make a repository of one commit the working folder; give a program and what it leaves behind when it is run."""
    monkeypatch.chdir(folder)
    marker, hook = folder / "it-ran", folder / "hook"
    hook.write_text(f"#!/bin/sh\ntouch '{marker}'\n")
    hook.chmod(0o755)
    (folder / "file").write_text("x")
    for words in (("init",), ("add", "file"), (*NAME, "commit", "-m", "x")):
        _git(*words)
    return marker, hook


def _git(*words: str) -> str:
    return subprocess.run(["git", *words], check=True, capture_output=True, text=True).stdout.strip()
