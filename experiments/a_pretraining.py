"""Is pre-training worth it, and does it matter which tokens are computed?

    python experiments/a_pretraining.py --data runs/experiments/data --out runs/experiments

Five arms: no pre-training; VideoMAE's tubes; and, at equal counts, random tokens, a running cell, and the tokens that
change (EVEREST). Each is pre-trained on the training part of the footage, without labels, then fine-tuned on every task
with all tokens and with the 60 % that change most, and its frozen features, of all tokens and of 60 %, classified by
neighbours and by a linear classifier. Without pre-training, and after that on random tokens, 60 % drawn at random are
tried as well: is it the choice that helps, or having fewer? And of no network at all, the same classifiers look at how
much the frames of a clip differ (``simple.py``). ``--equal steps`` gives every arm as many steps; ``--equal time`` as
many seconds as VideoMAE's take.
"""

from collections.abc import Sequence

from profiles import Settings
from simple import features_of
from trials import Arm, main

EVEREST: Settings = {"selection.method": "rero", "selection.keep_ratio": 0.3, "selection.encode_ratio": 0.1}
VIDEOMAE: Settings = {"selection.method": "tube", "selection.encode_ratio": 0.1}
ALL: Settings = {"selection.method": "all"}
SIXTY: Settings = {"selection.method": "rero", "selection.keep_ratio": 0.6}
AT_RANDOM: Settings = {"selection.method": "random_equal", "selection.keep_ratio": 0.6}
_BOTH = {"all tokens": ALL, "60 %": SIXTY}

ARMS = (
    Arm("none", None, _BOTH | {"60 % at random": AT_RANDOM}),
    Arm("everest", EVEREST, _BOTH),
    Arm("videomae", VIDEOMAE, _BOTH),
    Arm("random", EVEREST | {"selection.method": "random_equal"}, _BOTH | {"60 % at random": AT_RANDOM}),
    Arm("running-cell", EVEREST | {"selection.method": "running_cell"}, _BOTH),
    Arm("frame differences", None, probed=("frozen",), features=features_of),
)


def run(words: Sequence[str] | None = None) -> int:
    """From the command line."""
    return main(__doc__, "a", ARMS, words, reference=VIDEOMAE)


if __name__ == "__main__":
    raise SystemExit(run())
