"""What a selection costs beside all tokens, counted in multiply-adds of one clip."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from everest.bench.macs import count_task
from everest.config import VARYING, WHOLE_CLIP_ARCHS, CheckpointInfo, FrameSelectionConfig, SelectionMethod
from everest.models import grid_of
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
    """Count what each selection costs, of those that keep as many tokens of every clip.

    Args:
        info: Network, clip and ratios.
        methods: The selections.
        model: What to call the network.
    """
    if info.objective.name == "mvd":  # most of its cost are teachers, which look at everything
        return {}
    whole, full = _without_selection(info)
    everything = _count(info, whole)["gmacs"]
    fixed = [method for method in methods if method not in VARYING]
    return {method: Cost(_count(info, method)["gmacs"], everything, full, model) for method in fixed}


def beside_all_tokens(info: CheckpointInfo) -> tuple[TaskCost, ...]:
    """Count what a run costs, and what it would cost with all tokens; nothing where that cannot be said.

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
    if info.selection.method == whole:
        return (_task_cost("this run, which drops no token", _count(info, whole)),)
    methods = {info.selection.method: "this run", whole: full}
    return tuple(_task_cost(name, _count(info, method)) for method, name in methods.items())


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


def _task_cost(name: str, found: dict[str, Any]) -> TaskCost:
    tokens = found["tokens"]
    return TaskCost(name, tokens["visible"], tokens["target"], tokens["total"], found["gmacs"], found["gmacs_training"])
