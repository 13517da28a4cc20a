"""What should change be measured by? Distances, and the embedding against pixels and a fixed random projection.

    python experiments/d_scores.py --data runs/experiments/data --out runs/experiments

Each way of scoring chooses the tokens in pre-training and, 60 % of them, in fine-tuning. Beside accuracy, how far the
chosen tokens are those of the paper's score and what scoring costs is written to ``d_agreement-PROFILE.json``: of the
pre-trained encoder of the first seed, on the footage.
"""

from collections.abc import Sequence
from typing import Any

from a_pretraining import EVEREST, SIXTY
from command import parser_of, run_from
from lists import Bench
from profiles import Settings
from trials import Arm, encoder_run

import everest
from everest.bench.scores import bench_scores

NUM_CLIPS = 200
WAYS: dict[str, Settings] = {
    "l2 of the embedding": {},
    "l1 of the embedding": {"selection.distance": "l1"},
    "cosine of the embedding": {"selection.distance": "cosine"},
    "pixels": {"selection.scoring": "pixels"},
    "random projection": {"selection.scoring": "random_projection"},
}
ARMS = tuple(Arm(name, EVEREST | way, {"60%": SIXTY | way}, probed=("frozen",)) for name, way in WAYS.items())


def agreement(bench: Bench) -> dict[str, Any]:
    """Say how far each way chooses the tokens of the paper's score, and what scoring costs."""
    encoder = encoder_run(bench, EVEREST)
    found = bench_scores(everest.load_data(bench.footage), checkpoint=encoder, num_clips=NUM_CLIPS)
    return found | {"checkpoint": "pre-trained by EVEREST, seed 0"}  # where it lay says nothing to others


def run(words: Sequence[str] | None = None) -> int:
    """From the command line."""
    return run_from(parser_of(__doc__).parse_args(words), "d", ARMS, once=("d_agreement", agreement))


if __name__ == "__main__":
    raise SystemExit(run())
