"""Does choosing frames help where most of a video stands still?

    python experiments/c_frames.py --data runs/experiments/data-still-parts --out runs/experiments

The data is made by ``still_parts.py``: each clip is a third of what it was put into, the rest is still footage. Four
arms: frames evenly spread; and frames chosen among 1.3, 1.5 and 2 times as many, in pre-training and in fine-tuning.
"""

from collections.abc import Sequence

from a_pretraining import EVEREST, SIXTY
from profiles import Settings
from trials import Arm, main

_SPREAD: Settings = {"clip.sampling": "segments"}
_ONCE: Settings = {"evaluation.num_segments": 1}  # evenly spread frames are the same ones in every view


def choosing(alpha: float) -> Settings:
    """Choose frames among so many times as many."""
    return {"frame_selection.enabled": True, "frame_selection.alpha": alpha}


def arm(name: str, frames: Settings) -> Arm:
    """Choose frames in one way, in pre-training and in fine-tuning."""
    return Arm(name, EVEREST | _SPREAD | frames, {"60%": SIXTY | _SPREAD | _ONCE | frames}, probed=())


ARMS = (arm("evenly spread", {}), *(arm(f"alpha {alpha}", choosing(alpha)) for alpha in (1.3, 1.5, 2.0)))


def run(words: Sequence[str] | None = None) -> int:
    """From the command line."""
    return main(__doc__, "c", ARMS, words)


if __name__ == "__main__":
    raise SystemExit(run())
