"""The script for SLURM: it starts every machine, hands the signal on, and goes back into the queue only when saved."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from small_runs import NUM_STEPS, Small, first_step_of
from starts import SOURCE

SCRIPT = SOURCE.parent / "examples" / "slurm" / "pretrain.sbatch"
JOB = 4711

# As far as the script can see: notes its options, starts the command once for each machine, hands signals on, ends with
# the highest code.
SRUN = f"""#!{sys.executable}
import os, signal, subprocess, sys
begin = next(number for number, word in enumerate(sys.argv) if number and not word.startswith("--"))
with open(os.environ["CALLS"] + ".srun", "w") as file:
    file.write(" ".join(sys.argv[1:begin]))
tasks = [
    subprocess.Popen(sys.argv[begin:], env=os.environ | {{"SLURM_PROCID": str(number)}})
    for number in range(int(os.environ["SLURM_NNODES"]))
]
def hand_on(number, frame):
    for task in tasks:
        task.send_signal(number)
signal.signal(signal.SIGUSR1, hand_on)
sys.exit(max(task.wait() if task.wait() >= 0 else 128 - task.wait() for task in tasks))
"""
SCONTROL = """#!/bin/bash
echo "$@" >> "$CALLS"
[ "$1" = show ] && printf '%s\\n' localhost other-host
exit 0
"""


@pytest.fixture
def cluster(tmp_path: Path) -> dict[str, str]:
    """The environment of a job on two machines, both of which are this one."""
    commands = tmp_path / "commands"
    commands.mkdir()
    for name, text in (("srun", SRUN), ("scontrol", SCONTROL)):
        (commands / name).write_text(text)
        (commands / name).chmod(0o755)
    return os.environ | {
        "PATH": f"{commands}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "CALLS": str(tmp_path / "calls"),
        "PYTHONPATH": str(SOURCE),
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "SLURM_JOB_ID": str(JOB),
        "SLURM_JOB_NODELIST": "node[1-2]",
        "SLURM_NNODES": "2",
    }


def calls(cluster: dict[str, str]) -> list[str]:
    return Path(cluster["CALLS"]).read_text().splitlines()


def stub_torchrun(cluster: dict[str, str], text: str) -> None:
    path = Path(cluster["PATH"].partition(":")[0]) / "torchrun"
    path.write_text(f"#!/bin/bash\n{text}\n")
    path.chmod(0o755)


def submit(cluster: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["bash", str(SCRIPT), *arguments]
    return subprocess.run(command, env=cluster, capture_output=True, text=True, timeout=120, check=False)


def test_the_script_is_one() -> None:
    subprocess.run(["bash", "-n", str(SCRIPT)], check=True)


@pytest.mark.parametrize(
    ("torchrun", "code", "is_requeued"),
    [
        ("exit 0", 0, False),
        ("exit 1", 1, False),  # an error in the run
        ("exit 2", 2, False),
        ('echo {} > "$OUT/interrupted.json"; exit 1', 75, True),  # what torchrun makes of 75
        ("exit 75", 75, True),
        ('[ "$SLURM_PROCID" = 1 ] && exit 1; exit 0', 1, False),  # one of two machines
    ],
)
def test_only_what_is_saved_goes_back_into_the_queue(
    torchrun: str, code: int, is_requeued: bool, cluster: dict[str, str], tmp_path: Path
) -> None:
    out = tmp_path / "the run"
    out.mkdir()
    (out / "interrupted.json").write_text("of the start before")
    stub_torchrun(cluster, torchrun)
    cluster["OUT"] = str(out)
    done = submit(cluster, "--recipe", "demo", "--data", "bundled", "--out", str(out))
    assert done.returncode == code, done.stderr
    assert calls(cluster) == ["show hostnames node[1-2]", *([f"requeue {JOB}"] if is_requeued else [])]


@pytest.mark.parametrize("asked", [signal.SIGUSR1, signal.SIGTERM])
def test_a_job_that_has_to_make_room_goes_back_into_the_queue(
    asked: signal.Signals, cluster: dict[str, str], tmp_path: Path
) -> None:
    """Both are handed on as SIGUSR1, which torchrun does not send by itself, as it does SIGTERM when a process died."""
    out = tmp_path / "run"
    out.mkdir()
    end = """trap 'echo {} > "$OUT/interrupted.json"; exit 1' USR1"""
    stub_torchrun(cluster, end + '\ntouch "$OUT/up-$SLURM_PROCID"\nfor i in {1..600}; do sleep 0.1; done')
    cluster["OUT"] = str(out)
    job = subprocess.Popen(["bash", str(SCRIPT), f"--out={out}"], env=cluster)
    deadline = time.monotonic() + 60
    while not all((out / f"up-{number}").exists() for number in range(2)):
        assert job.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    job.send_signal(asked)
    assert job.wait(60) == 75
    assert calls(cluster)[-1] == f"requeue {JOB}"


def test_every_machine_is_told_where_the_first_is_and_what_to_do(cluster: dict[str, str], tmp_path: Path) -> None:
    stub_torchrun(cluster, 'printf "%s\\n" "$@" > "$CALLS.$SLURM_PROCID"')
    options = ["--recipe", "demo", "--data", "my videos", f"--out={tmp_path / 'run'}"]
    assert submit(cluster, *options).returncode == 0
    for number in range(2):
        words = Path(f"{cluster['CALLS']}.{number}").read_text().splitlines()
        assert words[-len(options) - 3 :] == ["-m", "everest", "pretrain", *options]
        assert {"--nnodes=2", "--nproc-per-node=1", f"--rdzv-endpoint=localhost:{20000 + JOB}"} <= set(words)


@pytest.mark.parametrize(("asked", "given"), [({"SLURM_CPUS_PER_TASK": "64"}, "--cpus-per-task=64"), ({}, "")])
def test_each_machine_gets_the_cores_that_the_job_asked_for(
    asked: dict[str, str], given: str, cluster: dict[str, str], tmp_path: Path
) -> None:
    """srun of SLURM 22.05 and later does not take the number from sbatch."""
    stub_torchrun(cluster, "true")
    assert submit(cluster | asked, "--out", str(tmp_path / "run")).returncode == 0
    assert Path(f"{cluster['CALLS']}.srun").read_text() == given


def test_a_run_needs_a_folder(cluster: dict[str, str]) -> None:
    done = submit(cluster, "--recipe", "demo")
    assert done.returncode == 2
    assert "--out DIR" in done.stderr


def test_a_job_whose_time_is_over_saves_and_goes_back_into_the_queue(
    cluster: dict[str, str], data: Path, tmp_path: Path
) -> None:
    """Two machines on the loopback; the signal is that of --signal=B:USR1@120."""
    run = Small("pretrain", data, tmp_path / "run")
    output = tmp_path / "output.txt"
    with output.open("w") as file:
        job = subprocess.Popen(["bash", str(SCRIPT), *run.command[1:]], env=cluster, stdout=file, stderr=file)
    deadline = time.monotonic() + 120
    while run.num_steps_logged() < 2:
        assert job.poll() is None, output.read_text()
        assert time.monotonic() < deadline, output.read_text()
        time.sleep(0.01)
    job.send_signal(signal.SIGUSR1)
    assert job.wait(100) == 75, output.read_text()
    printed = output.read_text()
    assert "2 processes" in printed
    assert printed.count("stopped by SIGUSR1: step") == 1
    assert calls(cluster)[-1] == f"requeue {JOB}"
    assert 2 <= run.num_steps_logged() < NUM_STEPS
    assert first_step_of(printed) == 0
    assert (run.out / "checkpoints" / f"step-{run.num_steps_logged():08d}.pt").exists()
    assert run.leftovers() == []
