"""Does choosing frames help where most of a video stands still?

    python experiments/c_frames.py --data runs/experiments/data-still-parts --out runs/experiments

The data is made by ``still_parts.py``: each clip is a third of what it was put into, the rest is still footage. Four
arms: frames evenly spread; and frames chosen among 1.3, 1.5 and 2 times as many, in pre-training and in fine-tuning.
"""

from collections.abc import Sequence

from a_pretraining import EVEREST, SIXTY
from trials import Arm, Settings, main

_SPREAD: Settings = {"clip.sampling": "segments", "evaluation.num_segments": 1}


def choosing(alpha: float) -> Settings:
    """Choose frames among so many times as many."""
    return _SPREAD | {"frame_selection.enabled": True, "frame_selection.alpha": alpha}


ARMS = (
    Arm("evenly spread", EVEREST | _SPREAD, {"60%": SIXTY | _SPREAD}, probed=False),
    *(
        Arm(f"alpha {alpha}", EVEREST | choosing(alpha), {"60%": SIXTY | choosing(alpha)}, probed=False)
        for alpha in (1.3, 1.5, 2.0)
    ),
)


def run(words: Sequence[str] | None = None) -> int:
    """From the command line."""
    return main(__doc__, "c", ARMS, words)


if __name__ == "__main__":
    raise SystemExit(run())
