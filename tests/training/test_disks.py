"""Disks that cannot be written to any more while a run goes on, and who may mount what these tests need."""

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from small_disks import equal, mount, train

import everest.training.runs as runs
from everest.datasets import Manifest, load_data
from everest.errors import RunError
from everest.training.metrics import read_metrics
from everest.training.state import latest_state, load_state

WITH_DISKS = "disk and not without_root"


@pytest.fixture(scope="module")
def data() -> Manifest:
    bundled = load_data("bundled").split("train")
    return replace(bundled, records=bundled.records[:4])


def protect(folder: Path) -> None:
    """Let nothing more be opened for writing; a disk itself cannot be made so while its files are open."""
    subprocess.run(["mount", "--bind", str(folder), str(folder)], check=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", str(folder)], check=True)


@pytest.mark.parametrize("tensorboard", ["true", "false"])
def test_a_disk_that_becomes_read_only_in_a_run_is_one_line_and_loses_nothing(
    tensorboard: str, data: Manifest, tmp_path: Path, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ["optim.epochs=4", f"run.tensorboard={tensorboard}"]
    whole = train(data, tmp_path / "whole", *settings)
    make, run, was_made = runs.pretraining_loss, disk / "run", []

    def protecting(*arguments: Any) -> Any:
        loss = make(*arguments)

        def function(wrapped: Any, batch: Any, draws: Any) -> Any:
            if not was_made and latest_state(run / "checkpoints"):
                was_made.append(1)
                protect(run)
            return loss(wrapped, batch, draws)

        return function

    monkeypatch.setattr(runs, "pretraining_loss", protecting)
    with pytest.raises(RunError, match="could not be written: Read-only file system; let this user write there"):
        train(data, run, *settings)
    newest = latest_state(run / "checkpoints")
    assert newest is not None
    assert newest.name == "step-00000001.pt"
    assert load_state(newest)["model"]  # whole
    subprocess.run(["umount", str(run)], check=True)
    again = train(data, run, *settings)
    assert equal(whole.folder, again.folder)
    assert [line["loss"] for line in read_metrics(again.folder.metrics)] == [
        line["loss"] for line in read_metrics(whole.folder.metrics)
    ]


def test_what_needs_a_small_disk_is_tested_without_root(tmp_path: Path) -> None:
    """In a user namespace, in which everybody may mount, where the system allows one."""
    if mount(tmp_path / "disk", "size=1m"):
        subprocess.run(["umount", str(tmp_path / "disk")], check=True)
        pytest.skip("mounting is allowed here: these tests have run as they are")
    inside = ["unshare", "-rm"]
    if (
        shutil.which("unshare") is None
        or subprocess.run([*inside, "true"], capture_output=True, check=False).returncode
    ):
        pytest.skip("neither root nor a user namespace is to be had: what happens on full disks is not tested")
    files = [str(Path(__file__).with_name(name)) for name in ("test_disks.py", "test_trouble.py")]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--basetemp={tmp_path / 'inside'}"]
    done = subprocess.run([*inside, *command, *files, "-k", WITH_DISKS], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "skipped" not in done.stdout
