"""Is pre-training worth it, and does it matter which tokens are computed?

    python experiments/a_pretraining.py --data runs/experiments/data --out runs/experiments

Five arms: no pre-training; VideoMAE's tubes; and, at equal counts, random tokens, a running cell, and the tokens that
change (EVEREST). Each is pre-trained on the training part of the footage, without labels, then fine-tuned on every task
with all tokens and with the 60 % that change most, and its frozen features, of all tokens and of 60 %, classified by
neighbours and by a linear classifier. 60 % drawn at random are tried as well, without pre-training and after EVEREST's
and that on random tokens: is it the choice that helps, or having fewer? Without pre-training 60 % are also trained for
as long as EVEREST's pre-training and fine-tuning together: is it more than time that pre-training gives? All are fine-
tuned a fifth as long as well, at the learning rate of all and at the one that suits each: does a better start show
where there is less time to catch up? Tasks with few labels (``fewer_labels.py``) ask the same of labels. VideoMAE's
tubes and random tokens are pre-trained three times as long as well, of one seed: are they only slower? And the tubes
are pre-trained at a quarter of the learning rate, as lower ones gave no worse features when rates were chosen. Of no
network at all, the same classifiers look at how much the frames of a clip differ, and at how change is spread over it,
which should tell nothing (``simple.py``).
``--equal steps`` gives every arm as many steps; ``--equal time`` as many seconds as VideoMAE's take.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from command import parser_of, run_from
from lists import Bench, num_tuning_clips
from profiles import SHORT_RATES, Settings
from simple import features_of, rhythm
from trials import TIMES, Arm, Tuning, rate_of, tuning_rate_of

EVEREST: Settings = {"selection.method": "rero", "selection.keep_ratio": 0.3, "selection.encode_ratio": 0.1}
VIDEOMAE: Settings = {"selection.method": "tube", "selection.encode_ratio": 0.1}
WITH_RANDOM: Settings = EVEREST | {"selection.method": "random_equal"}
RUNNING_CELL: Settings = EVEREST | {"selection.method": "running_cell"}
ALL: Settings = {"selection.method": "all"}
SIXTY: Settings = {"selection.method": "rero", "selection.keep_ratio": 0.6}
FIFTH: Settings = SIXTY | {TIMES: 0.2}
AT_RANDOM: Settings = {"selection.method": "random_equal", "selection.keep_ratio": 0.6}


@dataclass(frozen=True)
class AsLong:
    """Fine-tunes a fresh network for as many seconds as others are pre-trained and fine-tuned."""

    rule: str = "seconds by rates, clips by whole batches"

    def __call__(self, bench: Bench, task: str, _: Path | None) -> Settings:
        """Say how."""
        if bench.minutes is not None:
            seconds = 60 * bench.minutes
        else:
            seconds = bench.profile.pretrain_clips / rate_of(bench, EVEREST if bench.equal == "steps" else VIDEOMAE)
        times_before = seconds * tuning_rate_of(bench, task, SIXTY) / num_tuning_clips(bench, task)
        return SIXTY | {TIMES: round(1 + times_before, 1)}


@dataclass(frozen=True)
class Short:
    """Fine-tunes a fifth as long, at the learning rate that suits an arm at that length, where one was looked for."""

    arm: str

    def rate(self, bench: Bench) -> float | None:
        """The learning rate, or none where none was looked for."""
        return SHORT_RATES.get(bench.profile.name, {}).get(self.arm)

    def rule(self, bench: Bench) -> str:
        """What decides."""
        return str({bench.profile.name: self.rate(bench)})

    def __call__(self, bench: Bench, task: str, _: Path | None) -> Settings:
        """Say how."""
        rate = self.rate(bench)
        return FIFTH | ({} if rate is None else {"optim.base_lr": rate})


def ways(arm: str) -> dict[str, Tuning]:
    """How all arms are fine-tuned."""
    short: dict[str, Tuning] = {"60 %, a fifth as long": FIFTH, "60 %, a fifth as long, own rate": Short(arm)}
    return {"all tokens": ALL, "60 %": SIXTY, **short}


ARMS = (
    Arm("none", None, ways("none") | {"60 % at random": AT_RANDOM, "60 %, as long as both": AsLong()}),
    Arm("everest", EVEREST, ways("everest") | {"60 % at random": AT_RANDOM}),
    Arm("videomae", VIDEOMAE, ways("videomae")),
    Arm("random", WITH_RANDOM, ways("random") | {"60 % at random": AT_RANDOM}),
    Arm("running-cell", RUNNING_CELL, ways("running-cell")),
    Arm("videomae, a quarter of the rate", VIDEOMAE | {"optim.base_lr": 1.25e-3}, {"60 %": SIXTY}),
    Arm("videomae, three times as long", VIDEOMAE | {TIMES: 3}, num_seeds=1),
    Arm("random, three times as long", WITH_RANDOM | {TIMES: 3}, num_seeds=1),
    Arm("frame differences", None, probed=("frozen",), features=features_of),
    Arm("spread of change", None, probed=("frozen",), features=partial(features_of, describe=rhythm)),
)


def run(words: Sequence[str] | None = None) -> int:
    """From the command line."""
    return run_from(parser_of(__doc__).parse_args(words), "a", ARMS, reference=VIDEOMAE)


if __name__ == "__main__":
    raise SystemExit(run())
