"""Does choosing frames help where most of a video stands still?

    python experiments/c_frames.py --data runs/experiments/data-still-parts --out runs/experiments

The data is made by ``still_parts.py``: each clip is a third of what it was put into, the rest is still footage. Five
arms: frames evenly spread; frames chosen among 1.3, 1.5 and 2 times as many, in pre-training and in fine-tuning; and,
of 1.5 times as many, as many drawn blindly, so that it is not for their uneven steps that chosen ones do better or
worse: of each clip anew in training, and in evaluation once for all clips, another time with each seed.

Where a clip meets still footage there is a cut, and a cut is change too. So ``c_chosen-PROFILE.json`` says which frames
of the test clips the encoders of seed 0 take: inside the clip, and just after a cut, beside what choosing blindly would
take.
"""

import json
from collections.abc import Iterator, Sequence
from statistics import mean
from typing import Any

from a_pretraining import EVEREST, SIXTY
from command import parser_of, run_from
from lists import Bench
from looking import clips_of, encoder_of, views_of
from profiles import Settings
from still_parts import NUM_ACTION, NUM_STILL, PLACES
from trials import Arm, encoder_run

import everest
from everest.config import SelectionConfig

ALPHAS = (1.3, 1.5, 2.0)
_SPREAD: Settings = {"clip.sampling": "segments"}
_ONCE: Settings = {"evaluation.num_segments": 1}  # evenly spread frames are the same ones in every view


def choosing(alpha: float) -> Settings:
    """Choose frames among so many times as many."""
    return {"frame_selection.enabled": True, "frame_selection.alpha": alpha}


def arm(name: str, frames: Settings) -> Arm:
    """Choose frames in one way, in pre-training and in fine-tuning."""
    return Arm(name, EVEREST | _SPREAD | frames, {"60%": SIXTY | _SPREAD | _ONCE | frames}, probed=())


ARMS = (
    arm("evenly spread", {}),
    *(arm(f"alpha {alpha}", choosing(alpha)) for alpha in ALPHAS),
    arm("alpha 1.5, by chance", choosing(1.5) | {"frame_selection.by": "chance"}),
)


def is_inside(frame: int, place: int) -> bool:
    """Whether a frame is the clip's, where it begins after so many."""
    return place <= frame < place + NUM_ACTION


def after_cut(pairs: Sequence[Sequence[int]], place: int) -> list[bool]:
    """Say of each pair of frames whether a cut lies in it or between it and the pair before."""
    inside = [[is_inside(frame, place) for frame in pair] for pair in pairs]
    before = [inside[0], *inside[:-1]]
    return [len({*one, *other}) > 1 for one, other in zip(inside, before, strict=True)]


def chosen_of(bench: Bench, task: str, places: Sequence[int], arm: Arm) -> Iterator[dict[str, float]]:
    """Look which frames of each test clip the pre-trained encoder of an arm chooses, as in evaluation."""
    assert arm.pretraining is not None  # noqa: S101 - all arms here are
    encoder, info = encoder_of(encoder_run(bench, arm.pretraining))
    records = everest.load_data(bench.manifest(task)).records
    of_all = {record.path: place for record, place in zip(records, places, strict=True)}
    views, size = views_of(bench, task, "test", info), encoder.grid.tubelet_size
    frames = views.plan(NUM_ACTION + NUM_STILL, 1.0)[0]
    pairs = [frames[first : first + size] for first in range(0, len(frames), size)]
    keep = SelectionConfig(method="rero", keep_ratio=0.6, encode_ratio=0.1)
    for record, clip in zip(views.records, clips_of(views), strict=True):
        place = of_all[record.path]
        _, found = encoder.select_frames(clip, info.frame_selection, keep, mean=info.mean, std=info.std, random=False)
        taken = range(len(pairs)) if found is None else found.pairs[0].tolist()
        inside = [mean(is_inside(frame, place) for frame in pair) for pair in pairs]
        cuts = after_cut(pairs, place)
        yield {
            "inside": mean(inside[pair] for pair in taken),
            "inside_blindly": mean(inside),
            "after_cut": mean(cuts[pair] for pair in taken),
            "after_cut_blindly": mean(cuts),
        }


def chosen(bench: Bench) -> list[dict[str, Any]]:
    """Average over the test clips of every task, for each arm."""
    places = json.loads((bench.data / PLACES).read_text())
    rows = []
    for task in bench.tasks():
        for arm in ARMS:
            found = list(chosen_of(bench, task, places[task], arm))
            means = {name: mean(each[name] for each in found) for name in found[0]}
            rows.append({"task": task, "arm": arm.name, "clips": len(found), **means})
    return rows


def run(words: Sequence[str] | None = None) -> int:
    """From the command line."""
    return run_from(parser_of(__doc__).parse_args(words), "c", ARMS, once=("c_chosen", chosen))


if __name__ == "__main__":
    raise SystemExit(run())
