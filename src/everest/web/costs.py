"""What a selection costs, as a share of computing everything: counted once for each number of tokens."""

from dataclasses import dataclass
from functools import lru_cache

from everest.bench.costs import frame_choice_gmacs
from everest.bench.macs import count_task
from everest.config import (
    VARYING,
    CheckpointInfo,
    FrameSelectionConfig,
    ModelConfig,
    SelectionMethod,
)
from everest.inference import Inspection
from everest.visualize import Cost

MANY_CLASSES = tuple(map(str, range(400)))  # of Kinetics-400; where no classifier says how many
NAMES = {"nano": "ViT-nano", "tiny": "ViT-tiny", "small": "ViT-S", "base": "ViT-B", "large": "ViT-L", "huge": "ViT-H"}


@dataclass(frozen=True)
class LookCost:
    """What one look costs.

    Attributes:
        whole: All of it, beside what it would cost if no token were dropped.
        frames_gmacs: The part of it that chooses frames, in 10^9 multiply-adds.
    """

    whole: Cost
    frames_gmacs: float


def count_cost(found: Inspection, *, is_random: bool) -> LookCost | None:
    """Count the multiply-adds of a forward pass with the selection, and where no token is dropped.

    Args:
        found: With one selection.
        is_random: No checkpoint was given, so a ViT-B stands for what somebody would train.

    Returns:
        Finding the tokens and choosing the frames are included. None for MVD, where teachers look at everything.
    """
    info = found.info.model_copy(update={"frame_selection": FrameSelectionConfig()})
    if info.objective.name == "mvd":
        return None
    if is_random:
        info = info.model_copy(update={"model": ModelConfig()})
    if info.task == "finetune" and not info.class_names:
        info = info.model_copy(update={"class_names": MANY_CLASSES})
    whole: SelectionMethod = "tube" if info.task == "pretrain" else "all"
    full = "VideoMAE" if info.task == "pretrain" else "all tokens"
    frames = frame_choice_gmacs(found.info.model_copy(update={"model": info.model}))
    name = f"{'a' if is_random else 'this'} {NAMES[info.model.size]}"
    gmacs = _gmacs(_with_counts(info, found)) + frames
    return LookCost(Cost(gmacs, _gmacs(_with_method(info, whole)), full, name), frames)


@lru_cache(maxsize=4096)
def _gmacs(info: CheckpointInfo) -> float:
    return float(count_task(info)["gmacs"])


def _with_counts(info: CheckpointInfo, found: Inspection) -> CheckpointInfo:
    """A selection that keeps as many tokens of any clip, where ours keeps another number of each."""
    (method,) = found.selections
    if method not in VARYING:
        return info
    selection, total = found.selections[method], found.grid.num_tokens
    num_encoded, num_kept = len(selection.visible[0]), len(found.kept(method))
    same: SelectionMethod = "rero" if method == "adaptive" else "random_equal"  # the one has scores, the other none
    ratios = {"encode_ratio": _ratio(num_encoded, total), "keep_ratio": _ratio(num_kept, total)}
    return info.model_copy(update={"selection": info.selection.model_copy(update={"method": same, **ratios})})


def _with_method(info: CheckpointInfo, method: SelectionMethod) -> CheckpointInfo:
    selection = info.selection.model_copy(update={"method": method, "keep_ratio": 1.0})
    return info.model_copy(update={"selection": selection})


def _ratio(count: int, total: int) -> float:
    """A share that is this many of all tokens when it is rounded down."""
    return min(1.0, round((count + 0.5) / total, 9))
