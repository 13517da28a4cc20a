"""Runs that last seconds, and what must be equal at the end of two of them."""

import csv
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from everest.datasets import load_data
from everest.models.weights import read_note
from everest.training.metrics import read_metrics
from everest.training.state import latest_state, load_state

SAVE_EVERY = 3  # steps
NUM_STEPS = 16
SETTINGS = {
    "model.size": "tiny",
    "clip.num_frames": 4,
    "clip.height": 32,
    "clip.width": 32,
    "optim.epochs": 4,
    "optim.warmup_epochs": 0.5,
    "optim.global_batch_size": 2,
    "data.batch_size": 2,
    "run.device": "cpu",
    "run.save_every_epochs": 100,
    "run.save_every_steps": SAVE_EVERY,
    "run.save_every_minutes": "none",
    "run.log_every_steps": 1,
    "run.report": "false",
}
# name -> settings beside these; what is random, averaged, accumulated and read by others is in one or the other
VARIANTS = {
    "pretrain": {"data.num_workers": 1, "data.memory_cache": "false", "run.tensorboard": "true"},
    "finetune": {
        "data.num_workers": 0,
        "optim.epochs": 8,
        "optim.global_batch_size": 4,  # in two passes
        "optim.base_lr": 1.0,
        "optim.ema_decay": 0.5,
        "optim.label_smoothing": 0.1,
        "model.drop_path": 0.1,
        "model.head_dropout": 0.2,
        "augment.mixup_alpha": 0.8,
        "augment.erase_probability": 0.5,
        "evaluation.num_segments": 1,
        "evaluation.batch_size": 2,
        "run.evaluate_every_epochs": 2,
        "run.tensorboard": "false",
    },
}
NOT_EQUAL = {"time", "clips_per_second", "wait_share"}  # numbers of the machine, not of the run
_GOING_ON = re.compile(r"going on at step ([0-9,]+) of")
_FIRST_STEP = re.compile(r"-(?:training|tuning) 1/")


@dataclass(frozen=True)
class Small:
    """A run: its variant, its data, its folder, and settings beside those of the variant."""

    variant: str
    data: Path
    out: Path
    settings: Mapping[str, object] = field(default_factory=dict)

    @property
    def command(self) -> list[str]:
        """The words after ``everest``."""
        return [*command_of(self.variant, self.data, **self.settings), "--out", str(self.out)]

    def num_steps_logged(self) -> int:
        """Steps that the metrics know of."""
        metrics = self.out / "metrics.jsonl"
        return max((line["step"] + 1 for line in read_metrics(metrics)), default=0) if metrics.exists() else 0

    def leftovers(self) -> list[str]:
        """Files that nobody needs."""
        return sorted(path.name for path in self.out.rglob(".*"))


def command_of(variant: str, data: Path, **settings: object) -> list[str]:
    """The words after ``everest`` but for the folder; settings are written with ``__`` for the dot."""
    chosen = SETTINGS | VARIANTS[variant] | {key.replace("__", "."): value for key, value in settings.items()}
    return [
        *(variant, "--recipe", "demo", "--data", str(data)),
        *(f"--set={key}={value}" for key, value in chosen.items()),
    ]


def write_data(path: Path) -> Path:
    """Write a manifest of eight bundled clips to train on and eight to evaluate on, of two classes."""
    bundled = load_data("bundled")
    rows = [
        (str(record.path), label, split, record.start_seconds, record.end_seconds)
        for split in ("train", "test")
        for label in (0, 1)
        for record in [each for each in bundled.split(split).records if each.label == label][:4]
    ]
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("path", "label", "split", "start", "end"), *rows])
    return path


def first_step_of(printed: str) -> int | None:
    """The step at which a start went on or began, by what it said; None where it was killed before it said so."""
    match = _GOING_ON.search(printed)
    if match is not None:
        return int(match[1].replace(",", ""))
    if "finished before" in printed:
        return NUM_STEPS
    return 0 if _FIRST_STEP.search(printed) else None


def assert_equal(run: Small, whole: Small) -> None:
    """Compare all that two runs leave behind, bit by bit."""
    for name in ("weights.safetensors", "weights-best.json", "config.json", "data.json"):
        here, there = run.out / name, whole.out / name
        assert here.exists() == there.exists(), name
        assert not here.exists() or here.read_bytes() == there.read_bytes(), name
    best = [each.out / "weights-best.safetensors" for each in (run, whole)]
    assert best[0].exists() == best[1].exists() == (run.variant == "finetune")
    if best[0].exists():  # its notes have no order, so the bytes may differ
        assert are_same(*map(load_file, best))
        assert read_note(best[0]) == read_note(best[1])
    assert numbers(run) == numbers(whole)
    assert events(run) == events(whole)
    assert evaluation(run) == evaluation(whole)
    states = [latest_state(each.out / "checkpoints") for each in (run, whole)]
    assert all(states)
    assert are_same(*(load_state(state) for state in states if state is not None))
    assert [path.name for path in states] == [f"step-{NUM_STEPS:08d}.pt"] * 2  # type: ignore[union-attr]
    assert run.leftovers() == []


def are_same(one: Any, other: Any) -> bool:
    """Whether two training states hold the same bits."""
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(are_same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(are_same, one, other))
    return bool(one == other)


def numbers(run: Small) -> list[dict[str, Any]]:
    """What was logged, but for what the machine decides."""
    return [
        {key: value for key, value in line.items() if key not in NOT_EQUAL}
        for line in read_metrics(run.out / "metrics.jsonl")
    ]


def events(run: Small) -> dict[str, list[tuple[int, float]]]:
    """Steps and values of the curves in TensorBoard, but for what the machine decides; none where it is turned off."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    if not (run.out / "tensorboard").exists():
        return {}
    found = EventAccumulator(str(run.out / "tensorboard"))
    found.Reload()
    names = set(found.Tags()["scalars"]) - NOT_EQUAL
    return {name: [(event.step, event.value) for event in found.Scalars(name)] for name in names}


def evaluation(run: Small) -> dict[str, Any]:
    """The closing evaluation, but for its duration; empty where there is none."""
    path = run.out / "evaluation.json"
    values: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return {key: value for key, value in values.items() if key not in {"seconds", "clips_per_second"}}
