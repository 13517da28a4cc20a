"""Small runs on small disks, which are mounted in memory."""

import os
import shutil
import subprocess
from pathlib import Path

import torch

from everest.datasets import Manifest
from everest.recipes import get_recipe
from everest.settings import override
from everest.training import TrainedRun, run_pretraining
from everest.training.rundir import RunFolder
from everest.training.state import latest_state, load_state

SMALL = [  # one step an epoch; a state is 40 MB
    *("model.size=tiny", "clip.num_frames=4", "clip.height=32", "clip.width=32", "optim.warmup_epochs=0"),
    *("optim.global_batch_size=4", "data.num_workers=0", "run.device=cpu", "run.save_every_epochs=1"),
]


def train(data: Manifest, out: Path, *settings: str) -> TrainedRun:
    config = get_recipe("demo").pretrain
    assert config is not None
    return run_pretraining(override(config, [*SMALL, *settings]), data, out, resume="auto", say=lambda _: None)


def mount(path: Path, options: str) -> bool:
    """Mount a file system in memory; says whether that is allowed, as it is to root."""
    path.mkdir(exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(path)]
    return (
        shutil.which("mount") is not None and subprocess.run(command, capture_output=True, check=False).returncode == 0
    )


def fill(disk: Path, free_bytes: int) -> Path:
    """Leave so much room on a disk."""
    file = disk / "full"
    status = os.statvfs(disk)
    with file.open("wb") as content:
        os.posix_fallocate(content.fileno(), 0, status.f_bavail * status.f_frsize - free_bytes)
    return file


def equal(first: RunFolder, second: RunFolder) -> bool:
    states = [load_state(found) for run in (first, second) if (found := latest_state(run.checkpoints)) is not None]
    assert len(states) == 2
    return all(torch.equal(value, states[1]["model"][name]) for name, value in states[0]["model"].items())
