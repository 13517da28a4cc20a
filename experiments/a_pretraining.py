"""Is pre-training worth it, and does it matter which tokens are computed?

    python experiments/a_pretraining.py --data runs/experiments/data --out runs/experiments

Five arms: no pre-training; VideoMAE's tubes; and, at equal counts, random tokens, a running cell, and the tokens that
change (EVEREST). Each is pre-trained on the training part of the footage, without labels, then fine-tuned on every task
with all tokens and with the 60 % that change most, and its frozen features, of all tokens and of 60 %, classified by
neighbours and by a linear classifier. 60 % drawn at random are tried as well, without pre-training and after EVEREST's
and that on random tokens: is it the choice that helps, or having fewer? Without pre-training 60 % are also trained
three times as long: is it more than time that pre-training gives? And of no network at all, the same classifiers look
at how much the frames of a clip differ (``simple.py``). ``--equal steps`` gives every arm as many steps; ``--equal
time`` as many seconds as VideoMAE's take.
"""

from collections.abc import Sequence

from command import parser_of, run_from
from profiles import Settings
from simple import features_of
from trials import TIMES, Arm

EVEREST: Settings = {"selection.method": "rero", "selection.keep_ratio": 0.3, "selection.encode_ratio": 0.1}
VIDEOMAE: Settings = {"selection.method": "tube", "selection.encode_ratio": 0.1}
ALL: Settings = {"selection.method": "all"}
SIXTY: Settings = {"selection.method": "rero", "selection.keep_ratio": 0.6}
AT_RANDOM: Settings = {"selection.method": "random_equal", "selection.keep_ratio": 0.6}
_BOTH = {"all tokens": ALL, "60 %": SIXTY}

ARMS = (
    Arm("none", None, _BOTH | {"60 % at random": AT_RANDOM, "60 %, three times as long": SIXTY | {TIMES: 3}}),
    Arm("everest", EVEREST, _BOTH | {"60 % at random": AT_RANDOM}),
    Arm("videomae", VIDEOMAE, _BOTH),
    Arm("random", EVEREST | {"selection.method": "random_equal"}, _BOTH | {"60 % at random": AT_RANDOM}),
    Arm("running-cell", EVEREST | {"selection.method": "running_cell"}, _BOTH),
    Arm("frame differences", None, probed=("frozen",), features=features_of),
)


def run(words: Sequence[str] | None = None) -> int:
    """From the command line."""
    return run_from(parser_of(__doc__).parse_args(words), "a", ARMS, reference=VIDEOMAE)


if __name__ == "__main__":
    raise SystemExit(run())
