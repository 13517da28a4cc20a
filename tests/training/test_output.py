"""What real processes print: one live line on a terminal, plain lines in a pipe, results and nothing else on stdout."""

import json
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from terminals import Screen, run_on_terminal

from everest.datasets import load_data

SMALL = (
    *("clip.height=32", "clip.width=32", "optim.epochs=3", "optim.warmup_epochs=0", "optim.global_batch_size=4"),
    *("data.batch_size=2", "data.num_workers=0", "run.tensorboard=false", "run.log_every_steps=1"),
    *("run.evaluate_every_epochs=1", "run.device=cpu", "data.max_failed_share=0.5", "data.memory_cache=false"),
)
WIDTH = 80  # of the terminal
LIVE = ("fine-tuning", "evaluating")


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of four videos each; one of them cannot be read."""
    root = tmp_path_factory.mktemp("videos")
    bundled = load_data("bundled")
    for stem in ("Fall", "ADL"):
        (root / stem).mkdir()
        for path in sorted({r.path for r in bundled.records if r.path.parent.name == stem})[:4]:
            shutil.copy(path, root / stem / path.name)
    rows = [f"{path.relative_to(root)},{path.parent.name},train" for path in sorted(root.rglob("*.mp4"))]
    rows += [row.replace(",train", ",test") for row in rows[::3]]
    (root / "torn.mp4").write_bytes(path.read_bytes()[:3000])
    (root / "list.csv").write_text("\n".join(["path,label,split", *rows, "torn.mp4,Fall,train"]) + "\n")
    return root / "list.csv"


def finetune(videos: Path, out: Path, *more: str) -> list[str]:
    settings = [f"--set={setting}" for setting in SMALL]
    return ["finetune", "--recipe=demo", f"--data={videos}", f"--out={out}", "--json", *settings, *more]


def said_in(run: Path) -> list[str]:
    """What a log has, but for the evaluation that ends it: that is a result."""
    lines = (run / "log.txt").read_text().splitlines()
    assert [line.split()[0] for line in lines[-3:]] == ["top-1", "always", "3"]
    return lines[:-3]


def _without_codes(shown: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown).replace("\r", "\n")


def test_a_terminal_shows_one_live_line(videos: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "everest", *finetune(videos, tmp_path / "run")]
    code, out, shown = run_on_terminal(command, tmp_path, WIDTH)
    assert code == 0, shown
    assert json.loads(out)["num_steps"] == 6
    screen = Screen(WIDTH)
    screen.feed(shown, LIVE)
    assert screen.most == {"fine-tuning": 1, "evaluating": 1}
    assert re.search(r"fine-tuning [^\n]*[1-6]/6 [^\n]*:\d\d [^\n]*loss \d", _without_codes(shown))
    lines = [line.rstrip() for line in screen.lines]
    log = said_in(tmp_path / "run")
    joined = "".join(lines)
    assert all(line.replace(" ", "") in joined.replace(" ", "") for line in log)  # above or below it, wrapped
    assert sum("torn.mp4" in line for line in log) == 1


def test_a_pipe_gets_plain_lines_of_one_of_two_processes(videos: Path, tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    launcher = ["-m", "torch.distributed.run", "--nproc_per_node=2", f"--master_port={port}", "-m", "everest"]
    command = [sys.executable, *launcher, *finetune(videos, tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["evaluation"]["num_clips"] == 3  # one result, and nothing beside it
    assert "\x1b" not in done.stderr
    assert "\r" not in done.stderr
    lines = done.stderr.splitlines()
    first, last = [line for line in lines if line.startswith("fine-tuning")]
    assert re.fullmatch(
        r"fine-tuning 1/6: loss \S+, lr \S+, \S+ clips/s, \d+% waiting for data, \d:\d\d:\d\d left", first
    )
    assert last.startswith("fine-tuning 6/6: loss ")
    said = said_in(tmp_path / "run")
    assert any("2 processes" in line for line in said)
    assert sorted(line for line in lines if line in set(said)) == sorted(said)  # each once
