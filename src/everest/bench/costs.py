"""What a selection costs beside all tokens, counted in multiply-adds of one clip."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from everest.bench.macs import count_task
from everest.config import (
    VARYING,
    WHOLE_CLIP_ARCHS,
    CheckpointInfo,
    FrameSelectionConfig,
    SelectionConfig,
    SelectionMethod,
    num_sampled_frames,
)
from everest.models import grid_of
from everest.models.scoring import NUM_PROJECTIONS
from everest.models.zoo import SIZES
from everest.visualize import Cost

MAX_TOKENS = 100_000  # of a clip: attention to more is not counted, as no machine could compute it


@dataclass(frozen=True)
class TaskCost:
    """One clip of a run.

    Attributes:
        name: What is computed, for people.
        num_encoded: Tokens that the encoder sees.
        num_predicted: Tokens that are predicted.
        num_tokens: All there are.
        gmacs: Multiply-adds of a forward pass, in 10^9.
        gmacs_training: The same of a forward and a backward pass.
    """

    name: str
    num_encoded: int
    num_predicted: int
    num_tokens: int
    gmacs: float
    gmacs_training: float


def costs_of(info: CheckpointInfo, methods: Iterable[SelectionMethod], model: str) -> dict[SelectionMethod, Cost]:
    """Count what each selection costs, of those that keep as many tokens of every clip, with the choice of frames.

    Args:
        info: Network, clip, frame selection and ratios.
        methods: The selections.
        model: What to call the network.
    """
    if info.objective.name == "mvd":  # most of its cost are teachers, which look at everything
        return {}
    whole, full = _without_selection(info)
    everything = _count(info, whole)["gmacs"]
    fixed = [method for method in methods if method not in VARYING]
    frames = frame_choice_gmacs(info)
    return {method: Cost(_count(info, method)["gmacs"] + frames, everything, full, model) for method in fixed}


def frame_choice_gmacs(info: CheckpointInfo) -> float:
    """Count the multiply-adds of choosing frames, in 10^9: every candidate token is scored once, without gradient."""
    if not info.frame_selection.enabled:
        return 0.0
    grid = grid_of(info.model, info.clip)
    num_slots, width = num_sampled_frames(info) // grid.tubelet_size, SIZES[info.model.size].width
    rows = _rows_of_scores(info.selection, num_slots, {"embedding": width, "pixels": grid.num_pixels})
    return rows * grid.tokens_per_slot * grid.num_pixels / 1e9


def _rows_of_scores(selection: SelectionConfig, num_slots: int, widths: dict[str, int]) -> int:
    """Count what a spot's tubelets are mapped to by scoring, in all slots: rows of weights, each of them once."""
    if selection.scoring == "pixels":
        return 0
    if selection.scoring in {"projection", "random_projection"}:
        width = widths["embedding" if selection.scoring == "projection" else "pixels"]
        return (num_slots - 1) * min(NUM_PROJECTIONS, width)
    embeds_tokens = selection.scoring != "bfloat16" and (selection.camera == "still" or selection.distance == "cosine")
    embeds_changes = selection.scoring == "bfloat16" or selection.camera == "moving"
    return (num_slots * embeds_tokens + (num_slots - 1) * embeds_changes) * widths["embedding"]


def beside_all_tokens(info: CheckpointInfo) -> tuple[TaskCost, ...]:
    """Count what a run costs, choosing frames included, and what it would with all tokens; nothing if nobody can say.

    Args:
        info: What the run computes. Where the number of tokens depends on the clip there is nothing to count.
    """
    if info.selection.method in VARYING or info.model.arch in WHOLE_CLIP_ARCHS:
        return ()
    if grid_of(info.model, info.clip).num_tokens > MAX_TOKENS:
        return ()
    if info.task == "finetune" and not info.class_names:
        info = info.model_copy(update={"class_names": ("a", "b")})  # of some classes: a head costs next to nothing
    whole, full = _without_selection(info)
    method, frames = info.selection.method, frame_choice_gmacs(info)
    if method == whole:
        return (_task_cost("this run, which drops no token", _count(info, whole), frames),)
    return _task_cost("this run", _count(info, method), frames), _task_cost(full, _count(info, whole))


def _without_selection(info: CheckpointInfo) -> tuple[SelectionMethod, str]:
    """What is computed where no token is dropped, and what that is called."""
    return ("tube", "VideoMAE") if info.task == "pretrain" else ("all", "all tokens")


@lru_cache(maxsize=32)
def _count(info: CheckpointInfo, method: SelectionMethod) -> dict[str, Any]:
    """Count a forward pass; runs that are compared, or follow each other, often compute the same."""
    selection = info.selection.model_copy(update={"method": method})
    return count_task(
        info.model_copy(update={"selection": selection, "frame_selection": FrameSelectionConfig(enabled=False)})
    )


def _task_cost(name: str, found: dict[str, Any], more_gmacs: float = 0.0) -> TaskCost:
    tokens = found["tokens"]
    gmacs = [found[key] + more_gmacs for key in ("gmacs", "gmacs_training")]
    return TaskCost(name, tokens["visible"], tokens["target"], tokens["total"], *gmacs)
