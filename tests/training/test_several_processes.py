"""A run is the same on any number of processes, on one machine or two, and with divided weights."""

import json
import os
import shutil
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from everest.datasets import load_data, write_manifest
from everest.datasets.records import ClipRecord

NUM_STEPS = 20
RUNS = """
import sys
from pathlib import Path

import everest

out, ways = Path(sys.argv[1]), sys.argv[2:]
small = ["model.size=tiny", "clip.num_frames=4", "clip.height=32", "clip.width=32", "optim.global_batch_size=8"]
small += ["data.num_workers=0", "run.tensorboard=false", "run.device=cpu", "optim.warmup_epochs=1"]
small += ["run.log_every_steps=1", "run.save_every_epochs=4", "optim.clip_grad_norm=1"]
for way in ways:
    is_divided = str(way == "divided").lower()
    settings = [*small, f"run.shard_weights={is_divided}", f"run.activation_checkpointing={is_divided}"]
    everest.pretrain(
        recipe="demo", data=sys.path[0] + "/clips.csv", out=out / way / "pretrain", resume="auto",
        settings=[*settings, "data.batch_size=4", "model.drop_path=0.2", "optim.epochs=5"],
    )
    everest.finetune(
        recipe="demo", data=sys.path[0] + "/clips.csv", out=out / way / "finetune", resume="auto",
        settings=[
            *settings, "data.batch_size=8", "model.drop_path=0.2", "model.head_dropout=0.2", "optim.epochs=5",
            "augment.mixup_alpha=0.8", "augment.cutmix_alpha=1.0", "optim.ema_decay=0.9",
            "run.evaluate_every_epochs=5",
        ],
    )
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program, and beside it what it learns from: 32 clips to learn from and 5 to evaluate, one of them broken."""
    folder = tmp_path_factory.mktemp("processes")
    data = load_data("bundled")
    (folder / "broken.mp4").write_bytes(b"no video")
    records = [ClipRecord(folder / "broken.mp4", label=0, split="test")]
    for split, count in (("train", 32), ("test", 5)):
        of_split = [record for record in data.records if record.split == split]
        records += of_split[:: len(of_split) // count][:count]
    write_manifest(replace(data, records=tuple(records)), folder / "clips.csv")
    (folder / "runs.py").write_text(RUNS)
    return folder / "runs.py"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def start(script: Path, out: Path, *ways: str, processes: int, nodes: int = 1) -> None:
    """Run the program on so many processes of each of so many machines, all of them this one."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(processes)]
    torchrun += ["--nnodes", str(nodes), "--master-addr", "127.0.0.1", "--master-port", str(free_port())]
    started = [
        subprocess.Popen(
            [*torchrun, "--node-rank", str(node), str(script), str(out), *ways],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for node in range(nodes)
    ]
    told = [process.communicate(timeout=400)[0] for process in started]
    assert [process.returncode for process in started] == [0] * nodes, "\n".join(told)


@pytest.fixture(scope="module")
def results(script: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    out = tmp_path_factory.mktemp("runs")
    start(script, out / "1", "plain", processes=1)
    start(script, out / "2", "plain", "divided", processes=1, nodes=2)
    start(script, out / "4", "plain", processes=4)
    return {
        "one": out / "1" / "plain",
        "two machines": out / "2" / "plain",
        "two that divide the weights": out / "2" / "divided",
        "four": out / "4" / "plain",
    }


def metrics(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


OTHERS = ["two machines", "two that divide the weights", "four"]


@pytest.mark.parametrize("task", ["pretrain", "finetune"])
@pytest.mark.parametrize("other", OTHERS)
def test_the_loss_curve_is_that_of_one_process(results: dict[str, Path], other: str, task: str) -> None:
    lines, expected = metrics(results[other] / task), metrics(results["one"] / task)
    assert len(lines) == len(expected) == NUM_STEPS
    for name, tolerance in (("loss", 1e-5), ("grad_norm", 1e-3), ("lr", 0.0), ("tokens_per_clip", 0.0)):
        assert [line[name] for line in lines] == pytest.approx([line[name] for line in expected], rel=tolerance)
    assert len({line["loss"] for line in lines}) == NUM_STEPS  # it does move


@pytest.mark.parametrize("other", OTHERS)
def test_every_video_is_evaluated_once(results: dict[str, Path], other: str) -> None:
    found, expected = (
        json.loads((results[name] / "finetune" / "evaluation.json").read_text()) for name in (other, "one")
    )
    assert [clip["path"] for clip in found["predictions"]] == [clip["path"] for clip in expected["predictions"]]
    assert (found["num_clips"], found["num_failures"]) == (5, 1)
    assert found["failures"] == expected["failures"]
    for clip, same in zip(found["predictions"], expected["predictions"], strict=True):
        assert clip["probabilities"] == pytest.approx(same["probabilities"], abs=1e-4)


@pytest.mark.parametrize("other", OTHERS)
def test_weights_and_states_are_those_of_one_process(results: dict[str, Path], other: str) -> None:
    import torch
    from safetensors.torch import load_file

    found, expected = (load_file(results[name] / "finetune" / "weights.safetensors") for name in (other, "one"))
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-3, atol=1e-5)
    states = [
        torch.load(next((results[name] / "finetune" / "checkpoints").glob("*.pt")), weights_only=True)
        for name in (other, "one")
    ]
    for part in ("model", "optimizer", "ema"):
        assert states[0][part].keys() == states[1][part].keys()


@pytest.mark.parametrize(
    ("before", "way", "processes"),
    [("two that divide the weights", "plain", 1), ("one", "divided", 2)],
    ids=["whole again", "divided from now on"],
)
def test_a_run_goes_on_with_other_processes(
    script: Path, results: dict[str, Path], tmp_path: Path, before: str, way: str, processes: int
) -> None:
    shutil.copytree(results[before], tmp_path / way)
    for task in ("pretrain", "finetune"):
        (tmp_path / way / task / "weights.safetensors").unlink()
        (tmp_path / way / task / "checkpoints" / "step-00000020.pt").unlink()  # the one before is of step 16
    start(script, tmp_path, way, processes=processes)
    for task in ("pretrain", "finetune"):
        assert "going on at step 16 of 20" in (tmp_path / way / task / "log.txt").read_text()
        lines, expected = metrics(tmp_path / way / task), metrics(results["one"] / task)
        assert [line["loss"] for line in lines] == pytest.approx([line["loss"] for line in expected], rel=1e-5)
        assert (tmp_path / way / task / "weights.safetensors").is_file()
