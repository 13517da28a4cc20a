"""Train the weights that come with the program, on footage that may be shipped, and say what they are worth.

    python experiments/ready_made.py --out runs/ready-made

Pre-trained without labels on the bundled recordings of two people, then fine-tuned on their windows and tested on the
other two people; beside that, the same without pre-training, as long and ten times as long. ``--also
fights=fights/labels.csv`` fine-tunes on footage of another kind as well, whose weights are kept by nobody. Results go
into OUT/ready_made.jsonl; the weights of the first seed are the ones to ship, whatever the others have reached.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from lists import schedule
from profiles import Settings
from results import Results, as_hex
from trials import as_settings, clips_per_second, losses_of

import everest
from everest.errors import EverestError

RECIPE = "own-nano"
PRETRAIN_CLIPS = 200_000
LONGER = "fresh, ten times as long"
KEYS = ("data", "init", "seed")
RUN = {
    "run.tensorboard": False,
    "run.report": False,
    "run.save_every_minutes": 60,
    "run.save_every_epochs": 100_000,
    "run.log_every_steps": 20,
    "run.precision": "bfloat16",
    "data.num_workers": 0,
}


def pretrain(out: Path, seed: int) -> Path:
    """Pre-train on the spans of the training people, or find it done."""
    spans = Path(str(files("everest").joinpath("assets", "falls", "segments.csv")))
    words = as_settings(RUN, schedule(spans, PRETRAIN_CLIPS), {"run.seed": seed})
    run = out / f"pretrained-{seed}"
    everest.pretrain(recipe=RECIPE, data=spans, out=run, settings=words)
    return run


def finetune(out: Path, data: str, trial: dict[str, Any]) -> dict[str, Any]:
    """Fine-tune and evaluate."""
    seed = trial["seed"]
    init = pretrain(out, seed) if trial["init"] == "pretrained" else None
    longer: Settings = {"optim.epochs": 1000, "optim.warmup_epochs": 100} if trial["init"] == LONGER else {}
    words = as_settings(RUN, {"run.evaluate_every_epochs": 0, "run.seed": seed}, longer)
    folder = out / "-".join([trial["data"], *trial["init"].replace(",", "").split(), str(seed)])
    found = everest.finetune(recipe=RECIPE, data=data, out=folder, init=init, settings=words).evaluation
    assert found is not None  # noqa: S101 - all these data have a part for testing
    right = [int(clip.probabilities.argmax() == clip.label) for clip in found.predictions]
    known = {"top1": found.top1, "top1_interval": found.top1_interval, "majority": found.majority}
    rates = {"rate": round(clips_per_second(folder), 1), "losses": losses_of(folder)}
    return {**known, **rates, "right": as_hex(right), "num_test": len(right)}


def trials(data: dict[str, str], seeds: Sequence[int]) -> Iterator[dict[str, Any]]:
    """List what is to be done, seed by seed."""
    for seed in seeds:
        for name in data:
            for init in ("pretrained", "fresh", *([LONGER] if name == "falls" else [])):
                yield {"data": name, "init": init, "seed": seed}


def main(words: Sequence[str] | None = None) -> int:
    """Train from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="a folder for runs and results")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4], help="(default: 0 1 2 3 4)")
    parser.add_argument("--also", nargs="*", default=[], help="NAME=LIST with labels and splits, to fine-tune on too")
    given = parser.parse_args(words)
    also = dict(each.split("=", 1) for each in given.also)
    data = {"falls": "bundled"} | also | {"falls": "bundled"}
    try:
        results = Results(given.out / "ready_made.jsonl", KEYS)
        for trial in trials(data, given.seeds):
            if not results.knows(trial):
                results.add({**trial, **finetune(given.out, data[trial["data"]], trial)})
    except EverestError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{len(results)} results: {results.path}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
