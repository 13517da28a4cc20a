"""What is measured, in words: the settings of a step, the paper's by default, and back to words for the results."""

from typing import Any, TypedDict, get_args

from everest.bench.distilled import objective_settings, size_of_teachers
from everest.config import (
    Arch,
    Camera,
    CheckpointInfo,
    Distance,
    ModelSize,
    ObjectiveName,
    Scoring,
    SelectionMethod,
    Task,
)
from everest.errors import ConfigError, nearest
from everest.settings import parse

Peer = str  # "plain", "transformers", or "MODULE:FUNCTION"; None for EVEREST itself
PLAIN = "plain"
NUM_CLASSES = 101
ENCODE_RATIO = 0.1
KEEP_RATIO: dict[Task, float] = {"pretrain": 0.3, "finetune": 0.6}
"""Shares of all tokens (paper, hyper-parameters of pre-training and fine-tuning)."""


class TaskOptions(TypedDict, total=False):
    """What :func:`describe_task` takes beside size, task and selection."""

    num_frames: int
    height: int
    width: int
    num_classes: int
    keep_ratio: float | None
    encode_ratio: float
    scoring: Scoring
    distance: Distance
    camera: Camera
    objective: ObjectiveName
    teacher: ModelSize | None
    arch: Arch
    tubelet_size: int


def describe_task(
    size: ModelSize,
    task: Task,
    selection: SelectionMethod,
    *,
    num_frames: int = 16,
    height: int = 224,
    width: int = 224,
    num_classes: int = NUM_CLASSES,
    keep_ratio: float | None = None,
    encode_ratio: float = ENCODE_RATIO,
    scoring: Scoring = "auto",
    distance: Distance = "l2",
    camera: Camera = "still",
    objective: ObjectiveName = "pixels",
    teacher: ModelSize | None = None,
    arch: Arch = "vit",
    tubelet_size: int = 2,
) -> CheckpointInfo:
    """Give the settings of a step, the paper's by default.

    Args:
        size: Model size.
        task: Pre-training or fine-tuning.
        selection: Which tokens are computed; ``tube`` in pre-training is VideoMAE.
        num_frames: T.
        height: H, in pixels.
        width: W, in pixels.
        num_classes: Of the classifier.
        keep_ratio: Share of all tokens that is kept; None: the paper's, .3 in pre-training and .6 in fine-tuning.
        encode_ratio: Share of all tokens that is encoded in pre-training.
        scoring: What the change of tokens is measured on.
        distance: How it is measured.
        camera: Whether a moving camera is followed.
        objective: What is predicted in pre-training.
        teacher: Size of both teachers of ``mvd``; None: that of the model.
        arch: The network.
        tubelet_size: Frames of a tubelet.

    Raises:
        ConfigError: A name or a number that is not accepted.
    """
    for what, given, accepted in (
        ("size", size, ModelSize),
        ("task", task, Task),
        ("selection", selection, SelectionMethod),
        ("scoring", scoring, Scoring),
        ("distance", distance, Distance),
        ("camera", camera, Camera),
        ("objective", objective, ObjectiveName),
        ("teacher", teacher or size, ModelSize),
        ("arch", arch, Arch),
    ):
        if given not in get_args(accepted):
            raise ConfigError(f"unknown {what} {given!r}: {nearest(given, get_args(accepted))}")
    keep_ratio = KEEP_RATIO[task] if keep_ratio is None else keep_ratio
    settings = {
        "task": task,
        "model": {
            "arch": arch,
            "size": size,
            "tubelet_size": tubelet_size,
            "drop_path": 0.1 if task == "finetune" or objective == "mvd" else 0.0,
        },
        "clip": {"num_frames": num_frames, "height": height, "width": width},
        "selection": {
            "method": selection,
            "keep_ratio": keep_ratio,
            "encode_ratio": min(encode_ratio, keep_ratio),
            "scoring": scoring,
            "distance": distance,
            "camera": camera,
        },
        "objective": objective_settings(objective, task, teacher or size),
        "class_names": [f"class {number}" for number in range(num_classes)] if task == "finetune" else [],
    }
    return parse(CheckpointInfo, settings)


def asked_for(info: CheckpointInfo, peer: Peer | None) -> dict[str, Any]:
    """Write down what is measured, in plain values that JSON can hold."""
    model, selection, clip = info.model, info.selection, info.clip
    return {
        **{"size": model.size, "task": info.task, "selection": selection.method, "peer": peer},
        **{"arch": model.arch, "tubelet_size": model.tubelet_size},
        **{"keep_ratio": selection.keep_ratio, "encode_ratio": selection.encode_ratio, "scoring": selection.scoring},
        **{"distance": selection.distance, "camera": selection.camera},
        **{"objective": info.objective.name, "teacher": size_of_teachers(info.objective)},
        "clip": {"num_frames": clip.num_frames, "height": clip.height, "width": clip.width},
    }


def name_of(values: dict[str, Any]) -> str:
    """Name what :func:`asked_for` has written down, in a few words."""
    name = "" if values["arch"] == "vit" else f"{values['arch']} "
    name += f"{values['size']} {values['task']}, {values['selection']}"
    name += f", peer {values['peer']}" if values["peer"] else ""
    name += "" if values["objective"] == "pixels" else f", {values['objective']}"
    return name + (f" with {values['teacher']} teachers" if values["teacher"] else "")
