"""How many tokens are enough? Accuracy against cost, in pre-training and in fine-tuning.

    python experiments/b_keep_ratio.py --data runs/experiments/data --out runs/experiments

Pre-training keeps 50, 40, 30 or 20 % of the tokens and encodes 10 %; each is fine-tuned with 60 % and probed. And what
30 % gave is fine-tuned with all tokens and with 80, 60, 40 and 20 %: those that change most, and, as a control, as many
drawn at random. The 30 % are pre-trained once more, where the other ratios were and the first 30 % were not: on
another machine the same settings and seeds give other networks.
"""

from collections.abc import Sequence

from a_pretraining import ALL, EVEREST, SIXTY
from command import parser_of, run_from
from profiles import Settings
from trials import Arm

AGAIN = "pre-trained again"
TUNING_RATIOS = (0.8, 0.6, 0.4, 0.2)


def keep(method: str, ratio: float) -> Settings:
    """Keep so many tokens in fine-tuning."""
    return {"selection.method": method, "selection.keep_ratio": ratio, "selection.encode_ratio": min(ratio, 0.1)}


_CHANGING = {f"{ratio:.0%}": keep("rero", ratio) for ratio in TUNING_RATIOS}
_RANDOM = {f"{ratio:.0%} at random": keep("random_equal", ratio) for ratio in TUNING_RATIOS}
ARMS = (
    Arm("pre-trained with 30%", EVEREST, {"100%": ALL} | _CHANGING | _RANDOM),
    *(
        Arm(f"pre-trained with {ratio:.0%}", EVEREST | {"selection.keep_ratio": ratio}, {"60%": SIXTY})
        for ratio in (0.5, 0.4, 0.2)
    ),
    Arm(f"{AGAIN} with 30%", EVEREST, {"60%": SIXTY}),
)


def run(words: Sequence[str] | None = None) -> int:
    """From the command line."""
    return run_from(parser_of(__doc__).parse_args(words), "b", ARMS)


if __name__ == "__main__":
    raise SystemExit(run())
