"""What a folder tells of its run: how far it is, whether it goes on, and how long it took."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from everest.errors import RunError
from everest.history import files as names
from everest.history import read_run
from everest.history.run import tell_seconds
from everest.history.show import hours_of, training_seconds
from everest.process import describe_process, is_alive
from everest.training import rundir
from everest.training.rundir import RunFolder
from run_folders import DATE, GONE, START, make_run, write_evaluation

FOREIGN = [("{", "cannot be read"), ('{"model_type": "bert"}', "names no training task"), ("[1]", "no training task")]


def silent_for(path: Path, seconds: float) -> None:
    """Let a run have written nothing for so long."""
    then = time.time() - seconds
    for file in [path, *path.iterdir()]:
        os.utime(file, (then, then))


def test_a_run_without_its_closing_evaluation_is_not_finished(tmp_path: Path) -> None:
    path = make_run(tmp_path / "run", "optim.epochs=1", task="finetune", process=GONE)
    assert read_run(path).state == "finished"  # nothing was held out
    data = json.loads((path / "data.json").read_text())
    (path / "data.json").write_text(json.dumps(data | {"closing_evaluation": True}))
    assert read_run(path).judge() == ("stopped", "its process is gone, in the closing evaluation")
    (path / "interrupted.json").write_text(json.dumps({"message": "stopped by SIGTERM", "exit_code": 75}))
    assert read_run(path).judge() == ("stopped", "stopped by SIGTERM")
    write_evaluation(path, 0.75)
    (path / "interrupted.json").unlink()
    for quick in (True, False):
        assert read_run(path, quick=quick).state == "finished"


def test_files_are_called_as_runs_call_them(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    assert tmp_path / names.CONFIG == folder.config_file
    assert tmp_path / names.STARTS == folder.environment
    assert tmp_path / names.METRICS == folder.metrics
    assert tmp_path / names.LOG == folder.log
    assert tmp_path / names.TRACKERS == folder.trackers
    assert tmp_path / names.INTERRUPTION == folder.interruption
    assert names.DATA == rundir.DATA_NAME


def test_torch_is_not_needed() -> None:
    code = "import everest.history, sys; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


@pytest.mark.parametrize("quick", [True, False])
def test_a_run_says_what_it_is(tmp_path: Path, quick: bool) -> None:
    path = make_run(tmp_path / "run", "optim.epochs=2", top1=0.75, clips_per_second=20.0)
    run = read_run(path, quick=quick)
    assert (run.task, run.model_name, run.selection, run.data_name) == (
        "pretrain",
        "vit-tiny",
        "rero 0.3/0.1",
        "kinetics.csv",
    )
    assert (run.num_done, run.steps_per_epoch, run.num_steps) == (3, 3, 6)
    assert (run.last("loss"), run.last("nothing")) == (1.0, None)
    assert run.top1 == (0.75, (0.65, 0.85))
    assert run.started == DATE
    assert run.problems == []
    assert "predictions" not in run.evaluation


def test_the_number_of_steps_needs_no_line(tmp_path: Path) -> None:
    run = read_run(make_run(tmp_path / "run", "optim.epochs=2", "optim.global_batch_size=16", losses=()))
    assert (run.num_done, run.num_steps) == (0, 6)  # of 48 clips
    each = read_run(make_run(tmp_path / "twice", "optim.epochs=2", "data.clips_per_video=2", losses=()))
    assert each.num_steps == 12
    (tmp_path / "run" / "data.json").unlink()
    assert read_run(tmp_path / "run").num_steps is None


@pytest.mark.parametrize("steps_per_epoch", [1, 7, 5_000, 78_125])
@pytest.mark.parametrize("num_done", [1, 40])
def test_steps_of_an_epoch_follow_from_what_is_exact(tmp_path: Path, steps_per_epoch: int, num_done: int) -> None:
    path = make_run(tmp_path / "run", losses=[1.0] * num_done, steps_per_epoch=steps_per_epoch)
    batch = read_run(path).settings["optim.global_batch_size"]
    data = json.loads((path / "data.json").read_text()) | {"num_clips": batch * steps_per_epoch}
    (path / "data.json").write_text(json.dumps(data))
    assert read_run(path).steps_per_epoch == steps_per_epoch


def test_a_run_that_did_all_its_steps_is_finished(tmp_path: Path) -> None:
    assert read_run(make_run(tmp_path / "run", "optim.epochs=1", process=GONE)).judge() == ("finished", "")


def test_a_run_goes_on_while_its_process_lives(tmp_path: Path) -> None:
    path = make_run(tmp_path / "run", process=describe_process())
    silent_for(path, 1e6)  # as while it evaluates for days
    assert read_run(path).judge() == ("going on", "its process lives")
    assert read_run(make_run(tmp_path / "gone", process=GONE)).judge() == ("stopped", "its process is gone")
    (path / "log.txt").write_text("48 clips\nstopped: the disk is full\n")
    assert read_run(path).judge() == ("stopped", "the disk is full")
    with (path / "log.txt").open("a") as log:
        log.write("going on at step 3\n")
    assert read_run(path).state == "going on"
    (path / "interrupted.json").write_text('{"exit_code": 143, "message": "stopped by SIGTERM,\\n saved at step 3"}')
    assert read_run(path).judge() == ("stopped", "stopped by SIGTERM, saved at step 3")


def test_a_run_of_another_machine_goes_on_while_it_writes(tmp_path: Path) -> None:
    path = make_run(tmp_path / "run", process=GONE | {"host": "elsewhere"})
    assert read_run(path).judge() == ("going on", "last written 0 s ago")
    silent_for(path, 3600)
    assert read_run(path).judge() == ("stopped", "last written 1 h ago")
    slow = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    for number, line in enumerate(slow):
        line["time"] = START + 1000 * number
    (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in slow))
    silent_for(path, 3600)
    assert read_run(path).state == "going on"  # a line takes it a quarter of an hour


def test_a_process_is_known_again_and_no_other_is_taken_for_it() -> None:
    own = describe_process()
    assert is_alive(own) is True
    code = "import json, everest.process as p; print(json.dumps(p.describe_process()), flush=True); input()"
    other = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None
    described = json.loads(other.stdout.readline())
    assert is_alive(described) is True
    assert is_alive(own | {"pid": described["pid"]}) is False  # the number is taken again
    other.kill()
    other.communicate()
    assert is_alive(described) is False
    boot, _, ticks = own["mark"].split()
    assert is_alive(own | {"mark": f"{boot} pid:[77] {ticks}"}) is None  # of another container
    assert is_alive(GONE) is False
    for unknown in (None, {}, "x", own | {"host": "elsewhere"}, own | {"pid": "1"}, own | {"mark": None}):
        assert is_alive(unknown) is None


def test_pauses_are_no_training(tmp_path: Path) -> None:
    path = make_run(tmp_path / "run", losses=[1.0] * 4)
    starts = json.loads((path / "environment.json").read_text())
    starts.append(starts[0] | {"date": "2027-01-15T18:00:00+00:00"})  # ten hours later
    (path / "environment.json").write_text(json.dumps(starts))
    lines = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    for line in lines[2:]:
        line["time"] += 36_000
    lines[3]["time"] -= 1000  # the clock was put back
    (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    hours = hours_of(read_run(path))
    assert [round(hour * 3600) for hour in hours] == [10, 20, 50, 50]
    assert training_seconds(read_run(path)) == pytest.approx(50)


def test_lines_without_a_time_are_placed_by_their_speed(tmp_path: Path) -> None:
    path = make_run(tmp_path / "run", "optim.global_batch_size=16", clips_per_second=4.0)
    lines = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    (path / "metrics.jsonl").write_text("".join(json.dumps(line | {"time": None}) + "\n" for line in lines))
    assert training_seconds(read_run(path)) == pytest.approx(3 * 16 / 4)


@pytest.mark.parametrize(("text", "told"), FOREIGN)
def test_a_folder_of_something_else_is_refused(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(RunError, match=told):
        read_run(tmp_path)
    with pytest.raises(RunError, match=r"it has no config.json"):
        read_run(tmp_path / "none")


def test_what_is_damaged_or_unknown_is_left_out(tmp_path: Path) -> None:
    path = make_run(tmp_path / "run", top1=0.5)
    config = json.loads((path / "config.json").read_text())
    config["optim"] = {"epochs": "many", "rate_of_tomorrow": 1}
    (path / "config.json").write_text(json.dumps(config))
    (path / "environment.json").write_text('[1, {"date": "yesterday", "process": 3}]')
    (path / "data.json").write_text("[]")
    (path / "evaluation.json").write_text('{"top1": "good", "top1_interval": [0, null]}')
    with (path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 7, "epoch": "x", "loss": "low", "time": "noon"}\nrubbish\n')
    run = read_run(path)
    assert (run.started, run.seconds, run.num_steps, run.num_done) == (None, None, None, 8)
    assert (run.last("loss"), run.top1, run.data_name) == (1.0, None, "?")
    assert run.settings["optim.rate_of_tomorrow"] == 1
    assert set(run.problems) == {
        "data.json holds a list instead of an object",
        "1 lines of metrics.jsonl cannot be read",
    }
    write_evaluation(path, 0.25)
    assert read_run(path).top1 == (0.25, (0.15, 0.35))


TIMES = {0.2: "0 s", 59.4: "59 s", 60: "1 min", 75: "1 min 15 s", 3600: "1 h", 7500: "2 h 5 min", 273_659: "3 d 4 h"}


@pytest.mark.parametrize("seconds", TIMES)
def test_times_are_said_in_two_units(seconds: float) -> None:
    assert tell_seconds(seconds) == TIMES[seconds]
