"""Run folders made by hand: as a run leaves them, without training."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from everest.process import describe_process
from everest.recipes import get_recipe
from everest.settings import override

START = 1_800_000_000.0  # seconds since 1970: 2027-01-15T08:00:00+00:00
DATE = "2027-01-15T08:00:00+00:00"
GONE = {"host": describe_process()["host"], "pid": 1, "mark": "another-boot pid:[1] 5"}
"""A process of this machine before it was started again."""


def make_run(
    path: Path,
    *settings: str,
    task: str = "pretrain",
    losses: Iterable[float] = (3.0, 2.0, 1.0),
    steps_per_epoch: int = 3,
    top1: float | None = None,
    process: Any = None,
    **line: Any,
) -> Path:
    """Write what a run of the recipe ``demo`` would have left after so many steps."""
    recipe = get_recipe("demo")
    config = override(recipe.pretrain if task == "pretrain" else recipe.finetune, ["optim.warmup_epochs=0", *settings])
    path.mkdir(parents=True)
    (path / "config.json").write_text(json.dumps(config.model_dump(mode="json")))
    start = {"date": DATE, "packages": {"everest": "0.1.0", "torch": "2.13.0"}, "cpu": {"model": "a CPU"}, "gpus": []}
    start |= {"process": process, "command": ["/bin/everest", task, "--recipe", "demo", "--out", "my runs/x"]}
    (path / "environment.json").write_text(json.dumps([start]))
    data = {"source": "/data/kinetics.csv", "num_clips": 48, "part_digest": "ab" * 32, "note": "", "start": None}
    (path / "data.json").write_text(json.dumps(data))
    rows = [
        {"step": n, "epoch": round((n + 1) / steps_per_epoch, 6), "time": START + 10 * (n + 1), "loss": loss} | line
        for n, loss in enumerate(losses)
    ]
    (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (path / "log.txt").write_text("48 clips of 48 videos\n")
    if top1 is not None:
        write_evaluation(path, top1)
    return path


def write_evaluation(path: Path, top1: float, num_clips: int = 100) -> None:
    values = {
        **{"num_clips": num_clips, "num_views": 3, "num_failures": 1, "top1": top1},
        **{"top1_interval": [top1 - 0.1, top1 + 0.1], "top5": None, "majority": 0.25, "class_names": ["a", "b"]},
        **{"failures": [], "predictions": [{"probabilities": [0.5, 0.5]}] * num_clips},
    }
    (path / "evaluation.json").write_text(json.dumps(values, indent=2) + "\n")
