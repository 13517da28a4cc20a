"""What should change be measured by? Distances, and the embedding against pixels and a fixed random projection.

    python experiments/d_scores.py --data runs/experiments/data --out runs/experiments

Each way of scoring chooses the tokens in pre-training and, 60 % of them, in fine-tuning. Beside accuracy, how far the
chosen tokens are those of the paper's score and what scoring costs is written to ``d_agreement-PROFILE.json``: of the
pre-trained encoder of the first seed, on the footage.
"""

import json
import sys
from collections.abc import Sequence

from a_pretraining import EVEREST, SIXTY
from command import bench_of, main, parser_of
from profiles import Settings
from trials import Arm, pretrain

import everest
from everest.bench.scores import bench_scores
from everest.errors import EverestError
from everest.links import write_new

NUM_CLIPS = 200
WAYS: dict[str, Settings] = {
    "l2 of the embedding": {},
    "l1 of the embedding": {"selection.distance": "l1"},
    "cosine of the embedding": {"selection.distance": "cosine"},
    "pixels": {"selection.scoring": "pixels"},
    "random projection": {"selection.scoring": "random_projection"},
}
ARMS = tuple(Arm(name, EVEREST | way, {"60%": SIXTY | way}, probed=("frozen",)) for name, way in WAYS.items())


def run(words: Sequence[str] | None = None) -> int:
    """From the command line."""
    code = main(__doc__, "d", ARMS, words)
    if code:
        return code
    given = parser_of(__doc__).parse_args(words)
    bench = bench_of(given)
    kept = bench.results / f"d_agreement-{bench.profile.name}.json"
    if kept.exists() or 0 not in given.seeds:  # another process may do the others
        return 0
    try:
        encoder = pretrain(bench, EVEREST, 0)
        found = bench_scores(everest.load_data(bench.footage), checkpoint=encoder, num_clips=NUM_CLIPS)
    except EverestError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    found["checkpoint"] = "pre-trained by EVEREST, seed 0"  # where it lay says nothing to others
    write_new(kept, json.dumps(found, indent=1))
    return 0


if __name__ == "__main__":
    raise SystemExit(run())
