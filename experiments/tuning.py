"""Choose learning rates for every arm alike, on a part of the training clips; no test clip is looked at.

    python experiments/tuning.py --data runs/experiments/data --out runs/experiments

A fifth of the groups of each task's training clips is held out. Each way to pre-train is tried at three rates, seed 0,
and at further ones where those may not have been the right ones, and its frozen features are classified there, of all
tokens and of 60 %, by a linear classifier; those of weights as they were drawn too, of five seeds. Then a fresh network
and what EVEREST's pre-training gave at the middle rate are fine-tuned at five rates. What is best on average over tasks
goes into ``profiles.py``, for all experiments. Last, every arm of a, pre-trained at the rate that was chosen for it, is
fine-tuned a fifth as long at the same five rates, with two seeds: where there is little time, the rate may decide.
"""

import argparse
import csv
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from statistics import mean
from typing import Any

from a_pretraining import EVEREST, FIFTH, RUNNING_CELL, SIXTY, VIDEOMAE, WITH_RANDOM
from command import bench_of, parser_of
from lists import Bench, made_of, write_labelled, write_table
from profiles import Settings
from results import Results
from time_tasks import draw
from trials import PROBES, UNTRAINED, classify, pretrain, probe

from everest.errors import DataError, EverestError

PRETRAINING: dict[str, Settings] = {
    "everest": EVEREST,
    "videomae": VIDEOMAE,
    "random": WITH_RANDOM,
    "running-cell": RUNNING_CELL,
}
PRETRAINING_RATES = (5e-3, 1e-2, 2e-2)
MORE_RATES = {
    "everest": (4e-2,),
    "videomae": (3.125e-4, 6.25e-4, 1.25e-3, 2.5e-3),
    "random": (1.25e-3, 2.5e-3),
    "running-cell": (1.25e-3, 2.5e-3),
}
"""Tried when the best of the three had been the first or the last one, or no better than the first; and for the other
control too, once a lower one had been better for VideoMAE."""
DRAWN_SEEDS = (0, 1, 2, 3, 4)  # of weights as they were drawn, which is a rate of zero: where every lower rate leads
FINETUNING_RATES = (1e-3, 2e-3, 4e-3, 8e-3, 1.6e-2)
SHARE = 5  # one group in so many is held out
SHORT = "fine-tuning, a fifth as long"
SHORT_SEEDS = (0, 1)
KEYS = ("profile", "stage", "arm", "rate", "seed", "task", "made_of")


def hold_out(bench: Bench, folder: Path) -> Bench:
    """Write lists of the training clips alone, of which some groups are for testing; the clips stay where they are."""
    for task in bench.tasks():
        source = bench.manifest(task)
        with source.open(newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["split"] == "train"]
        groups = sorted({row["group"] for row in rows})
        held_out = {group for group in groups if not draw(SHARE, group)} or set(groups[:1])
        if held_out == set(groups):
            raise DataError(f"{source}: the training clips are of one scene, so none can be held out")
        target = folder / "tasks" / task / "manifest.csv"
        split = [{**row, "split": "test" if row["group"] in held_out else "train"} for row in rows]
        write_labelled(target, source, split)
    with bench.footage.open(newline="") as file:
        footage = [(row["path"], row["split"]) for row in csv.DictReader(file)]
    target = folder / "footage" / "manifest.csv"
    path = Path(os.path.relpath(bench.footage.parent, target.parent))
    write_table(target, ("path", "split"), [(f"{path / clip}", split) for clip, split in footage])
    return replace(bench, data=folder)


def trials(bench: Bench) -> Iterator[dict[str, Any]]:
    """List what is tried; what was chosen by it makes no other trials of it."""
    pretrained = replace(bench, profile=replace(bench.profile, finetuning_rates={}))
    untuned = replace(bench, profile=replace(pretrained.profile, pretraining_rates={}))
    for task in bench.tasks():
        where = {"profile": bench.profile.name, "task": task, "made_of": made_of(untuned, task), "seed": 0}
        for arm in PRETRAINING:
            for rate in (*PRETRAINING_RATES, *MORE_RATES.get(arm, ())):
                yield {**where, "stage": "pre-training", "arm": arm, "rate": rate}
        for seed in DRAWN_SEEDS:
            yield {**where, "stage": "pre-training", "arm": "none", "rate": 0.0, "seed": seed}
        for arm, rate in product(("none", "everest"), FINETUNING_RATES):
            yield {**where, "stage": "fine-tuning", "arm": arm, "rate": rate}
        where["made_of"] = made_of(pretrained, task)
        for seed, arm, rate in product(SHORT_SEEDS, ("none", *PRETRAINING), FINETUNING_RATES):
            yield {**where, "stage": SHORT, "arm": arm, "rate": rate, "seed": seed}


def is_chosen(trial: Mapping[str, Any], given: argparse.Namespace) -> bool:
    """Whether the command line asks for a trial: ``--arms``, ``--seeds``, and stages by ``--hows``."""
    return (
        (given.arms is None or trial["arm"] in given.arms)
        and (given.hows is None or trial["stage"] in given.hows)
        and trial["seed"] in given.seeds
    )


def measure(bench: Bench, held_out: Bench, trial: Mapping[str, Any]) -> float:
    """Make one trial: accuracy on what is held out."""
    task, arm, seed, rate = trial["task"], trial["arm"], trial["seed"], {"optim.base_lr": trial["rate"]}
    if trial["stage"] == SHORT:
        init = None if arm == "none" else pretrain(bench, PRETRAINING[arm], seed)
        return float(classify(held_out, task, init, FIFTH | rate, seed)[1]["top1"])
    if trial["stage"] == "pre-training":
        run = pretrain(bench, UNTRAINED, seed, 1) if arm == "none" else pretrain(bench, PRETRAINING[arm] | rate, seed)
        return float(mean(probe(held_out, task, run, keep)["linear"] for keep in PROBES.values()))
    init = None if arm == "none" else pretrain(bench, EVEREST | {"optim.base_lr": PRETRAINING_RATES[1]}, seed)
    return float(classify(held_out, task, init, SIXTY | rate, seed)[1]["top1"])


def main(words: Sequence[str] | None = None) -> int:
    """Try all from the command line."""
    parser = parser_of(__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    given = parser.parse_args(words)
    try:
        bench = bench_of(given)
        results = Results(bench.results / "tuning.jsonl", KEYS)
        held_out = hold_out(bench, bench.out / "held-out")
        for trial in trials(held_out):
            if is_chosen(trial, given) and not results.knows(trial):
                print(f"{len(results) + 1}: {trial}", file=sys.stderr)
                results.add({**trial, "accuracy": measure(bench, held_out, trial)})
    except EverestError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for stage, arm in dict.fromkeys((row["stage"], row["arm"]) for row in results):
        rates = sorted({row["rate"] for row in results if (row["stage"], row["arm"]) == (stage, arm)})
        found = [
            mean(row["accuracy"] for row in results if (row["stage"], row["arm"], row["rate"]) == (stage, arm, rate))
            for rate in rates
        ]
        print(
            f"{stage:30}{arm:14}"
            + "  ".join(f"{rate:g}: {100 * a:.1f} %" for rate, a in zip(rates, found, strict=True))
        )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
