"""Full disks, read-only folders, folders that vanish, clocks that jump: a clear message, and nothing lost."""

import ast
import errno
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from small_disks import SMALL, equal, fill, mount, train

import everest.commands
import everest.errors
import everest.training.loop as loop
import everest.training.runs as runs
from everest.cli import main
from everest.datasets import Manifest, load_data, write_manifest
from everest.errors import EverestError, RunError
from everest.training.files import atomic_write
from everest.training.metrics import MetricsLog, read_metrics
from everest.training.rundir import RunFolder
from everest.training.state import latest_state, load_state


@pytest.fixture(scope="module")
def data() -> Manifest:
    bundled = load_data("bundled").split("train")
    return replace(bundled, records=bundled.records[:4])


@pytest.mark.parametrize("free", [0, 1_000_000, 30_000_000], ids=["nothing free", "a megabyte", "half a state"])
def test_a_full_disk_ends_the_run_and_the_same_command_goes_on(
    free: int, data: Manifest, tmp_path: Path, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(data, tmp_path / "whole", "optim.epochs=4", "run.tensorboard=false")
    filled: list[Path] = []
    make = runs.pretraining_loss

    def filling(*arguments: Any) -> Any:
        loss = make(*arguments)

        def function(wrapped: Any, batch: Any, draws: Any) -> Any:
            if not filled and latest_state(disk / "run" / "checkpoints"):
                filled.append(fill(disk, free))  # somebody else needs all the room, in the middle of step 1
            return loss(wrapped, batch, draws)

        return function

    monkeypatch.setattr(runs, "pretraining_loss", filling)
    with pytest.raises(RunError, match="could not be written: No space left on device") as caught:
        train(data, disk / "run", "optim.epochs=4", "run.tensorboard=false")
    assert "free some space" in str(caught.value)
    assert str(disk / "run") in str(caught.value)
    newest = latest_state(disk / "run" / "checkpoints")
    assert newest is not None
    assert load_state(newest)["model"]  # whole
    assert not [path for path in (disk / "run").rglob("*.tmp") if "rank" not in path.name]  # nothing half written
    with pytest.raises(RunError, match="No space left on device"):  # still full
        train(data, disk / "run", "optim.epochs=4", "run.tensorboard=false")
    assert load_state(newest)["model"]
    filled[0].unlink()
    again = train(data, disk / "run", "optim.epochs=4", "run.tensorboard=false")
    assert equal(whole.folder, again.folder)
    assert [line["loss"] for line in read_metrics(again.folder.metrics)] == [
        line["loss"] for line in read_metrics(whole.folder.metrics)
    ]


def test_a_run_that_could_not_save_keeps_its_numbers_and_is_begun_anew(
    data: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def save(*arguments: Any) -> None:
        raise RunError("the disk is full")

    settings = ["optim.epochs=4", "run.save_every_epochs=3", "run.tensorboard=false"]
    works = loop.save_state
    monkeypatch.setattr(loop, "save_state", save)
    with pytest.raises(RunError, match="the disk is full"):
        train(data, tmp_path / "run", *settings)
    monkeypatch.setattr(loop, "save_state", works)
    folder = RunFolder.open(tmp_path / "run")
    assert [line["step"] for line in read_metrics(folder.metrics)] == [0, 1, 2]
    assert folder.log.read_text().endswith("stopped: the disk is full\n")
    before = folder.log.read_text()
    train(data, tmp_path / "run", *settings)
    assert [line["step"] for line in read_metrics(folder.metrics)] == [0, 1, 2, 3]
    added = folder.log.read_text().removeprefix(before)
    assert added.count("the last start had saved nothing: beginning anew") == 1
    train(data, tmp_path / "run", *settings)
    assert "anew" not in folder.log.read_text().removeprefix(before + added)


def test_a_run_goes_on_from_before_a_damaged_state_and_says_so(data: Manifest, tmp_path: Path) -> None:
    settings = ["optim.epochs=4", "run.tensorboard=false"]
    whole = train(data, tmp_path / "whole", *settings)
    folder = train(data, tmp_path / "run", *settings).folder
    newest = latest_state(folder.checkpoints)
    assert newest is not None
    content = bytearray(newest.read_bytes())
    content[content.index(b"PK\x01\x02") + 10] ^= 8  # the directory of the archive: another way to unpack a part
    newest.write_bytes(bytes(content))
    with pytest.warns(UserWarning, match="is damaged"):
        train(data, tmp_path / "run", *settings)
    assert re.search(rf"warning: .*{newest.name} is damaged.*trying an earlier one", folder.log.read_text())
    assert "going on at step 3 of 4" in folder.log.read_text()
    assert equal(whole.folder, folder)
    assert [path.name for path in sorted(folder.checkpoints.iterdir())] == [
        "step-00000003.pt",
        "step-00000004.pt",
        "step-00000004.pt.damaged",
    ]


def test_a_run_that_ends_before_its_first_step_leaves_no_folder(
    data: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_loss(*arguments: Any) -> None:
        raise EverestError("no step can be made")

    monkeypatch.setattr(runs, "pretraining_loss", lambda *arguments: no_loss)
    with pytest.raises(EverestError, match="no step"):
        train(data, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_program_says_a_full_disk_in_one_line(data: Manifest, tmp_path: Path, disk: Path) -> None:
    write_manifest(data, tmp_path / "list.csv")
    fill(disk, 60_000_000)
    arguments = [sys.executable, "-m", "everest", "pretrain", "--recipe", "demo", "--data", str(tmp_path / "list.csv")]
    arguments += ["--out", str(disk / "run"), *(f"--set={each}" for each in [*SMALL, "optim.epochs=4"])]
    done = subprocess.run(
        arguments, capture_output=True, text=True, check=False, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "No space left on device" in line


def write_lines(folder: RunFolder, disk: Path, count: int, *, tensorboard: bool) -> None:
    """Write lines of metrics until a disk is full."""
    with MetricsLog(folder, tensorboard=tensorboard) as log:
        log.write(0, 0.0, loss=1.0)
        fill(disk, 0)
        for step in range(1, count):
            log.write(step, 0.0, loss=1.0)


def test_events_on_a_full_disk_are_an_error_for_people(
    tmp_path: Path, disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = RunFolder(tmp_path)  # the lines have room, the events have not
    (disk / "events").mkdir()
    folder.tensorboard.symlink_to(disk / "events")
    hook = threading.excepthook
    with pytest.raises(RunError, match="tensorboard could not be written: No space left"):
        write_lines(folder, disk, 100_000, tensorboard=True)
    assert "Traceback" not in capsys.readouterr().err  # of TensorBoard's thread
    assert threading.excepthook is hook


def test_lines_on_a_full_disk_are_an_error_for_people_and_go_on_after_it(disk: Path) -> None:
    folder = RunFolder(disk)
    with pytest.raises(RunError, match=r"metrics\.jsonl could not be written: No space left"):
        write_lines(folder, disk, 1000, tensorboard=False)
    (disk / "full").unlink()
    lines = read_metrics(folder.metrics)  # whole ones, up to where the disk was full
    assert [line["step"] for line in lines] == list(range(len(lines)))
    with MetricsLog(folder, tensorboard=False) as log:
        log.write(len(lines), 0.0, loss=1.0)
    assert len(read_metrics(folder.metrics)) == len(lines) + 1


def test_a_folder_that_may_only_be_read_is_refused(data: Manifest, tmp_path: Path) -> None:
    path = tmp_path / "disk"
    if not mount(path, "size=1m,ro"):
        path.chmod(0o500)  # which stops everybody but root, who could have mounted
    try:
        with pytest.raises(RunError, match=r"cannot be used for a run: (Read-only file system|Permission denied)"):
            train(data, path / "run", "optim.epochs=1")
        with (
            pytest.raises(RunError, match=r"could not be written: .*; let this user write there") as caught,
            atomic_write(path / "file"),
        ):
            pass
        assert str(path / "file") in str(caught.value)
    finally:
        subprocess.run(["umount", "-l", str(path)], check=False, capture_output=True)


def test_a_disk_that_becomes_read_only_leaves_what_is_there(data: Manifest, disk: Path) -> None:
    train(data, disk / "run", "optim.epochs=2")
    before = {path: path.read_bytes() for path in (disk / "run").rglob("*") if path.is_file()}
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    with pytest.raises(RunError, match="Read-only file system"):
        train(data, disk / "run", "optim.epochs=2")
    assert {path: path.read_bytes() for path in (disk / "run").rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("gone", ["deleted", "moved"])
def test_a_folder_that_vanishes_is_said_and_not_made_again(
    gone: str, data: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    whole = train(data, tmp_path / "whole", "optim.epochs=4")
    make = runs.pretraining_loss

    def vanishing(*arguments: Any) -> Any:
        loss = make(*arguments)

        def function(wrapped: Any, batch: Any, draws: Any) -> Any:
            if out.exists() and len(list(out.glob("checkpoints/*.pt"))) == 2:
                shutil.rmtree(out) if gone == "deleted" else out.rename(elsewhere)
            return loss(wrapped, batch, draws)

        return function

    monkeypatch.setattr(runs, "pretraining_loss", vanishing)
    with pytest.raises(RunError, match="was deleted, moved or unmounted while the run was going on: bring it back"):
        train(data, out, "optim.epochs=4")
    assert not out.exists()
    if gone == "moved":
        monkeypatch.setattr(runs, "pretraining_loss", make)
        elsewhere.rename(out)
        assert equal(train(data, out, "optim.epochs=4").folder, whole.folder)


def test_a_clock_that_jumps_changes_nothing(data: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = ("optim.epochs=4", "data.num_workers=1", "data.time_limit_seconds=5")
    steady = train(data, tmp_path / "steady", *settings)
    real, jumps = time.time, iter(range(10**9))

    def jumping() -> float:
        return real() + (-1) ** next(jumps) * 1e8  # three years back, three years on

    monkeypatch.setattr(time, "time", jumping)
    jumped = train(data, tmp_path / "jumped", *settings)
    assert next(jumps) > 0
    assert equal(steady.folder, jumped.folder)
    assert not jumped.failed
    names = ("step", "loss", "grad_norm", "lr")
    found = [[[line[name] for name in names] for line in read_metrics(run.folder.metrics)] for run in (steady, jumped)]
    assert found[0] == found[1]
    assert all(line["clips_per_second"] > 0 for line in read_metrics(jumped.folder.metrics))


def test_no_decision_is_made_by_the_clock_on_the_wall() -> None:
    """It is read where it is written down for people, and nowhere else."""
    root = Path(everest.errors.__file__).parent
    found = {}
    for path in sorted(root.rglob("*.py")):
        calls = [ast.unparse(node.func) for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        of_the_wall = {
            "time.time",
            "time.time_ns",
            "time.localtime",
            "datetime.now",
            "datetime.today",
            "datetime.utcnow",
        }
        if used := of_the_wall & set(calls):
            found[path.relative_to(root).as_posix()] = used
    assert found == {  # what is only written down
        "datasets/clip_cache.py": {"time.time"},  # compared with time stamps of what killed programs left
        "history/run.py": {"time.time"},
        "inference/kept.py": {"datetime.now"},
        "reports/run_report.py": {"datetime.now"},
        "training/environment.py": {"datetime.now"},
        "training/heartbeats.py": {"time.time"},
        "training/metrics.py": {"time.time"},
        "training/rundir.py": {"datetime.now"},
        "video/problems.py": {"time.time"},  # of servers that say until when to wait, within the patience
    }


def test_a_replay_file_that_cannot_be_written_is_told_and_stops_nothing(
    data: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = runs.pretraining_loss
    seen: list[int] = []

    def failing(*arguments: Any) -> Any:
        loss = make(*arguments)

        def function(wrapped: Any, batch: Any, draws: Any) -> Any:
            seen.append(1)
            if len(seen) == 1:
                (tmp_path / "run" / "replays").write_text("in the way")
            found = loss(wrapped, batch, draws)
            return found._replace(value=found.value * float("nan")) if len(seen) == 2 else found

        return function

    monkeypatch.setattr(runs, "pretraining_loss", failing)
    run = train(data, tmp_path / "run", "optim.epochs=4")
    assert "no replay file of step 1: " in run.folder.log.read_text()
    assert [line["skipped_steps"] for line in read_metrics(run.folder.metrics)] == [0, 1, 1, 1]


@pytest.mark.parametrize("name", ["", "report.json"])
def test_any_command_says_a_full_disk_in_one_line(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), *([name] if name else []))

    monkeypatch.setattr(everest.commands, "recipe_list", full)
    assert main(["recipe", "list"]) == 2
    assert re.fullmatch(
        rf"error: ({name} )?could not be written: No space left on device; make room and start again\n",
        capsys.readouterr().err,
    )


def test_errors_of_the_folder_reach_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("mine")
    arguments = ["pretrain", "--recipe", "demo", "--data", "bundled", "--out", str(tmp_path / "file")]
    assert main([*arguments, *(f"--set={each}" for each in SMALL)]) == 2
    assert "is a file: name a folder for the run" in capsys.readouterr().err
    assert issubclass(RunError, EverestError)
