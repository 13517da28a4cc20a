"""Is pre-training worth it, and does it matter which tokens are computed?

    python experiments/a_pretraining.py --tasks tasks/direction tasks/speed falls/windows.csv fights/labels.csv \
        --footage falls/segments.csv fights/labels.csv --out runs/experiments/a

Five arms: no pre-training; VideoMAE's tubes; and, at equal counts, random tokens, a running cell, and the tokens that
change (EVEREST). Each is pre-trained on the training part of the footage, without labels, then fine-tuned on every task
with all tokens and with 60 %, and its frozen features are classified by neighbours and by a linear classifier. All is
done with ``--seeds`` seeds, which draw weights, batches and tokens. ``--equal steps`` gives every arm as many steps;
``--equal time`` as many seconds as VideoMAE's take. A second start goes on where the first was stopped.
"""

import argparse
import csv
import io
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from arms import CLIP, FINETUNING, PRETRAINING, as_settings
from results import Results

import everest
from everest.errors import DataError, EverestError
from everest.links import write_new
from everest.training.metrics import read_metrics

KEYS = ("equal", "task", "arm", "how", "seed")
PROBES = "frozen"


@dataclass(frozen=True)
class Plan:
    """How much is done.

    Attributes:
        equal: ``steps`` or ``time``.
        num_seeds: Of each arm.
        pretrain_epochs: Of VideoMAE, and of all arms where steps are equal.
        finetune_epochs: Of every classifier.
    """

    equal: str = "steps"
    num_seeds: int = 5
    pretrain_epochs: int = 60
    finetune_epochs: int = 20


def merge(footage: Sequence[Path], path: Path) -> Path:
    """Write one list of the training clips of all footage, without labels."""
    rows = [("path", "start", "end")]
    for given in footage:
        for record in everest.load_data(given).records:
            if record.split in {None, "train"}:
                ends = ("" if end is None else str(end) for end in (record.start_seconds, record.end_seconds))
                rows.append((str(record.path), *ends))
    if len(rows) == 1:
        raise DataError("the footage has no clips for training")
    table = io.StringIO()
    csv.writer(table).writerows(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_new(path, table.getvalue())
    return path


def pretrain(arm: str, seed: int, footage: Path, out: Path, num_epochs: int) -> Path | None:
    """Pre-train an arm, or find it done.

    Returns:
        Its run folder; None for the arm without pre-training.
    """
    chosen = PRETRAINING[arm]
    if chosen is None:
        return None
    schedule = {"optim.epochs": num_epochs, "optim.warmup_epochs": num_epochs / 10, "run.save_every_epochs": 100000}
    settings = as_settings(CLIP, {"clip.stride": 2}, chosen, schedule, {"run.seed": seed})
    everest.pretrain(recipe="demo", data=footage, out=out, settings=settings)
    return out


def clips_per_second(run: Path) -> float:
    """Give the rate of a run, the median over its log lines."""
    rates = sorted(row["clips_per_second"] for row in read_metrics(run / "metrics.jsonl") if "clips_per_second" in row)
    return float(rates[len(rates) // 2])


def epochs_of(arms: Sequence[str], footage: Path, out: Path, plan: Plan) -> dict[str, int]:
    """Say how long each arm is pre-trained: equal steps, or as many as fit into the time of VideoMAE's."""
    trained = [arm for arm in arms if PRETRAINING[arm] is not None]
    if plan.equal == "steps":
        return dict.fromkeys(arms, plan.pretrain_epochs)
    rates = {}
    for arm in dict.fromkeys(("videomae", *trained)):
        run = pretrain(arm, 0, footage, out / "rates" / arm, 4)
        assert run is not None  # noqa: S101 - every arm here is trained
        rates[arm] = clips_per_second(run)
    print({arm: f"{rate:.1f} clips/s" for arm, rate in rates.items()}, file=sys.stderr)
    return {arm: round(plan.pretrain_epochs * rates.get(arm, 0.0) / rates["videomae"]) for arm in arms}


def classify(task: Path, init: Path | None, out: Path, *, how: str, seed: int, num_epochs: int) -> dict[str, Any]:
    """Fine-tune and evaluate."""
    schedule = {"optim.epochs": num_epochs, "optim.warmup_epochs": num_epochs / 10, "run.evaluate_every_epochs": 0}
    settings = as_settings(CLIP, FINETUNING[how], schedule, {"run.seed": seed, "evaluation.num_segments": 1})
    run = everest.finetune(recipe="demo", data=task, out=out, init=init, settings=settings)
    found = run.evaluation
    if found is None or found.failures:
        raise DataError(f"{task}: {'no test split' if found is None else found.failures[0]}")
    right = [int(clip.probabilities.argmax() == clip.label) for clip in found.predictions]
    groups = [clip.path.name for clip in found.predictions]
    return {"top1": found.top1, "majority": found.majority, "right": right, "groups": groups}


def probe(task: Path, run: Path, out: Path) -> dict[str, Any]:
    """Classify the frozen features of a pre-trained encoder, of all tokens."""
    tables = [out / f"{split}.npz" for split in ("train", "test")]
    for table in tables:
        everest.embed(run, task, table, split=table.stem, views="1x1", num_workers=0)
    found = everest.probe(*tables)
    return {"majority": found.majority} | {result.name: result.top1 for result in found.results}


def trials(tasks: Sequence[Path], arms: Sequence[str], plan: Plan) -> Iterator[dict[str, Any]]:
    """List what is to be done, seed by seed, so that what is stopped half way has all arms of some seeds."""
    for seed, arm, task in product(range(plan.num_seeds), arms, tasks):
        for how in (*FINETUNING, *(() if PRETRAINING[arm] is None else (PROBES,))):
            yield {"equal": plan.equal, "task": task.name, "arm": arm, "how": how, "seed": seed}


def run_all(tasks: Sequence[Path], footage: Sequence[Path], out: Path, arms: Sequence[str], plan: Plan) -> Results:
    """Make all trials that are not known yet.

    Raises:
        EverestError: Of a run; what has been found by then is kept.
    """
    results = Results(out / "results.jsonl", KEYS)
    by_name = {task.name: _list_of(task) for task in tasks}
    if len(by_name) < len(tasks):
        raise DataError("two tasks have the same name; results could not be told apart")
    unlabelled = merge(footage, out / "footage.csv")
    epochs = epochs_of(arms, unlabelled, out, plan)
    for trial in trials(tasks, arms, plan):
        if results.knows(trial):
            continue
        arm, seed, how = trial["arm"], trial["seed"], trial["how"]
        init = pretrain(arm, seed, unlabelled, out / "pretrained" / plan.equal / f"{arm}-{seed}", epochs[arm])
        place = out / "tuned" / plan.equal / f"{trial['task']}-{arm}-{how.replace(' ', '')}-{seed}"
        print(f"{len(results) + 1}: {trial}", file=sys.stderr)
        if how == PROBES:
            assert init is not None  # noqa: S101 - only what was pre-trained is probed
            found = probe(by_name[trial["task"]], init, place)
        else:
            found = classify(by_name[trial["task"]], init, place, how=how, seed=seed, num_epochs=plan.finetune_epochs)
        results.add({**trial, "pretrain_epochs": epochs[arm], **found})
    return results


def _list_of(task: Path) -> Path:
    return task / "manifest.csv" if task.is_dir() else task


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the experiment from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", type=Path, required=True, help="labelled manifests, or folders with one")
    parser.add_argument("--footage", nargs="+", type=Path, required=True, help="what is learnt from without labels")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--arms", nargs="+", choices=list(PRETRAINING), default=list(PRETRAINING))
    parser.add_argument("--equal", choices=("steps", "time"), default="steps")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--pretrain-epochs", type=int, default=60)
    parser.add_argument("--finetune-epochs", type=int, default=20)
    given = parser.parse_args(arguments)
    plan = Plan(given.equal, given.seeds, given.pretrain_epochs, given.finetune_epochs)
    try:
        results = run_all(given.tasks, given.footage, given.out, given.arms, plan)
    except EverestError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{len(results)} results: {results.path}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
