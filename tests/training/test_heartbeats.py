"""Processes that die are named: by those that are left, and by the next start."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from everest.errors import RunError, is_lost_connection
from everest.training.heartbeats import (
    INTERVAL_SECONDS,
    Heart,
    clear_heartbeats,
    find_dead,
    lost_processes,
    read_heartbeats,
)


def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def leave(run: Path, rank: int, **changes: object) -> None:
    """Write the sign of life of a process, as it or a machine has left it."""
    Heart(run, rank).beat(7, lambda: ["a.mp4"])
    path = run / "ranks" / f"rank-{rank}.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_sign_of_life_says_who_where_and_what(tmp_path: Path) -> None:
    Heart(tmp_path, 3).beat(57, lambda: ["a.mp4", "b.mp4", "a.mp4"])
    (found,) = read_heartbeats(tmp_path)
    assert (found.rank, found.step, found.files, found.ended) == (3, 57, ("a.mp4", "b.mp4"), "")
    assert (found.host, found.pid) == (socket.gethostname(), os.getpid())
    assert abs(found.seconds - time.time()) < 60
    assert re.search(
        rf"rank 3 on {found.host} \(process {found.pid}\), last heard of at .* UTC, at step 57", str(found)
    )
    assert str(found).endswith("while it worked on a.mp4, b.mp4")


def test_a_process_is_there_before_it_works(tmp_path: Path) -> None:
    heart = Heart(tmp_path, 0)
    heart.begin()
    assert str(read_heartbeats(tmp_path)[0]).endswith("at step 0")
    heart.beat(4, lambda: ["a.mp4"])  # the first batch is not waited for
    assert read_heartbeats(tmp_path)[0].files == ("a.mp4",)


def test_it_is_written_every_few_seconds_only(tmp_path: Path) -> None:
    now = 0.0
    heart = Heart(tmp_path, 0, lambda: now)
    steps = []
    for step in range(100):
        heart.beat(step, list)
        steps.append(read_heartbeats(tmp_path)[0].step)
        now += INTERVAL_SECONDS / 10
    assert sorted(set(steps)) == list(range(0, 100, 10))


@pytest.mark.parametrize("jump", [-1e9, 1e9])
def test_a_clock_that_jumps_changes_nothing(jump: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heart = Heart(tmp_path, 0)
    heart.beat(0, list)
    monkeypatch.setattr(time, "time", lambda: 1.7e9 + jump)
    heart.beat(1, list)
    assert read_heartbeats(tmp_path)[0].step == 0
    leave(tmp_path, 1, pid=dead_pid())
    (told,) = find_dead(tmp_path, 0, 2, wait_seconds=0.1)
    assert told.startswith("rank 1")


def test_a_good_end_leaves_nothing(tmp_path: Path) -> None:
    hearts = [Heart(tmp_path, rank) for rank in range(2)]
    for heart in hearts:
        heart.beat(0, list)
        heart.end()
    assert list(tmp_path.iterdir()) == []


def test_the_next_start_names_those_that_ended_without_a_word(tmp_path: Path) -> None:
    leave(tmp_path, 0)
    Heart(tmp_path, 1).beat(3, list)
    heart = Heart(tmp_path, 2)
    heart.beat(3, list)
    heart.end("RunError: disk full")
    (tmp_path / "ranks" / "rank-3.json").write_text('{"rank"')  # of a machine that went down while it wrote
    assert [each.rank for each in clear_heartbeats(tmp_path)] == [0, 1]
    assert clear_heartbeats(tmp_path) == []


def test_a_folder_that_was_deleted_is_noticed(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with pytest.raises(RunError, match="was deleted, moved or unmounted while the run was going on"):
        Heart(run, 0).beat(0, list)
    assert not run.exists()


def test_a_sign_of_life_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "ranks").touch()
    heart = Heart(tmp_path, 0)
    heart.beat(0, list)
    heart.end("reason")
    heart.end()


def test_of_those_that_are_gone_the_dead_are_named(tmp_path: Path) -> None:
    leave(tmp_path, 0, ended="lost the others")
    leave(tmp_path, 1, ended="lost the others")
    leave(tmp_path, 2)  # alive: it is this process
    leave(tmp_path, 3, pid=dead_pid())
    (told,) = find_dead(tmp_path, 0, 4, wait_seconds=0.1)
    assert told.startswith("rank 3")


def test_a_zombie_is_dead(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    leave(tmp_path, 1, pid=process.pid)
    process.send_signal(signal.SIGKILL)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # dead, and not buried
    (told,) = find_dead(tmp_path, 0, 2, wait_seconds=0.1)
    assert f"process {process.pid}" in told
    process.wait()


def test_of_another_machine_those_that_do_not_answer_are_named(tmp_path: Path) -> None:
    leave(tmp_path, 1, host="elsewhere", pid=1)
    told = find_dead(tmp_path, 0, 3, wait_seconds=0.1)
    assert told[0].startswith("rank 1 on elsewhere (process 1)")
    assert told[1] == "rank 2, which left no sign of life"


@pytest.mark.parametrize(
    "text",
    [
        "[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:537] Read error [127.0.0.1]:1: Connection reset by peer",
        "[..] Connection closed by peer [10.0.0.1]:2",
        "NCCL communicator was aborted on rank 0.",
    ],
)
def test_lost_connections_are_told_from_other_errors(text: str, tmp_path: Path) -> None:
    assert is_lost_connection(RuntimeError(text))
    assert not is_lost_connection(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not is_lost_connection(ValueError(text))
    leave(tmp_path, 1, pid=dead_pid())
    message = str(lost_processes(tmp_path, 0, 2, 1234, RuntimeError(text)))
    assert "rank 0 has lost the connection to other processes at step 1,234. Gone: rank 1 on" in message
    assert text.split(". ", maxsplit=1)[0] in message


TRAINING = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_health import load_data, pretrain_config, replace, runs, run_pretraining, seed_of_step
from everest.cli import _run
from everest.training import heartbeats
from everest.training.processes import this_process
from argparse import Namespace

make = runs.pretraining_loss

def deadly(*arguments):
    loss = make(*arguments)
    def function(wrapped, batch, draws):
        if this_process()[0] == 1 and draws.step_seed == seed_of_step(0, 2) and sys.argv[3] != "live":
            os.kill(os.getpid(), signal.SIGKILL)
        return loss(wrapped, batch, draws)
    return function

def as_torchrun_does(owner, name):
    before = getattr(owner, name)
    def ended(*arguments, **named):
        os.kill(os.getpid(), signal.SIGTERM)
        return before(*arguments, **named)
    setattr(owner, name, ended)

runs.pretraining_loss = deadly
if sys.argv[3] == "die, and the other is ended as it looks who died":
    as_torchrun_does(heartbeats, "find_dead")
if sys.argv[3] == "die, and the other is ended as it ends":
    as_torchrun_does(runs._Run, "_note")
    as_torchrun_does(runs.RunFolder, "holds_results")
bundled = load_data("bundled").split("train")
data = replace(bundled, records=bundled.records[:8])

def command(options):
    run_pretraining(pretrain_config("optim.epochs=4", *sys.argv[4:]), data, Path(sys.argv[2]), resume="auto")
    return 0

sys.exit(_run(Namespace(command=command)))
"""


def start(out: Path, what: str, *settings: str) -> list[tuple[int, str]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    common = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    common |= {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    arguments = [sys.executable, "-c", TRAINING, str(Path(__file__).parent), str(out), what, *settings]
    processes = [
        subprocess.Popen(
            arguments,
            env=os.environ | common | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    return [(process.communicate(timeout=240)[1], process.returncode)[::-1] for process in processes]


def test_a_killed_process_is_named_by_the_survivor_and_by_the_next_start(tmp_path: Path) -> None:
    out = tmp_path / "run"
    (code, told), (died, _) = start(out, "die")
    assert (code, died) == (2, -signal.SIGKILL), told
    assert "Traceback" not in told
    (error,) = [line for line in told.splitlines() if line.startswith("error: ")]
    assert re.match(
        rf"error: rank 0 has lost the connection to other processes at step 2\. Gone: rank 1 on {socket.gethostname()} "
        r"\(process \d+\), last heard of at .* UTC, at step \d while it worked on .*\.mp4.*What was saved stays",
        error,
    ), error
    log = (out / "log.txt").read_text()
    assert log.splitlines()[-1] == error.replace("error: ", "stopped: ", 1)
    assert log.count("Gone: rank 1") == 1
    (code, told), (other, _) = start(out, "live")
    assert (code, other) == (0, 0), told
    (line,) = [line for line in told.splitlines() if "without a word" in line]
    assert line.startswith("the last start ended without a word: rank 1 on ")
    assert line in (out / "log.txt").read_text()
    assert "going on at step 2 of 4" in told
    assert not (out / "ranks").exists()


@pytest.mark.parametrize("moment", ["as it looks who died", "as it ends"])
def test_a_launcher_that_ends_the_survivor_does_not_make_it_an_interruption(moment: str, tmp_path: Path) -> None:
    """A job would go back into the queue after every crash. What was written stays, though there is no state yet."""
    out = tmp_path / "run"
    (code, told), (died, _) = start(out, f"die, and the other is ended {moment}", "run.save_every_epochs=100")
    assert (code, died) == (2, -signal.SIGKILL), told
    assert not (out / "interrupted.json").exists()
    assert "stopped by" not in told + (out / "log.txt").read_text()
    for lines in (told.splitlines(), (out / "log.txt").read_text().splitlines()):
        assert any("Gone: rank 1 on" in line for line in lines if line.startswith(("error: ", "stopped: "))), lines
    assert not (out / "checkpoints").exists()
    assert len((out / "metrics.jsonl").read_text().splitlines()) == 2
    assert {path.name for path in (out / "ranks").iterdir()} == {"rank-0.json", "rank-1.json"}


def test_what_one_process_refuses_is_one_line_of_the_others(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("mine")
    found = start(tmp_path / "run", "live")
    assert [code for code, _ in found] == [2, 2], found
    assert "is a file: name a folder for the run" in found[0][1]
    assert "error: another process has ended, and said why unless it was killed" in found[1][1]
    assert not any("Traceback" in told for _, told in found)
