"""What a few numbers tell without any network: how much the frames of a clip differ from each other.

Shapes: T frames, H height, W width, C channels.
"""

from collections.abc import Callable

import numpy as np
from lists import Bench
from still_parts import action_of
from torch import Tensor

import everest
from everest.inference.feature_rows import FeatureRow, Features

LEAST = 1e-2  # grey levels, far less than what moves
Describe = Callable[[Tensor], list[float]]
"""Gives numbers of the frames of a clip: uint8 [T, H, W, C]."""


def differences(frames: Tensor) -> list[float]:
    """Measure frames against each other: uint8 [T, H, W, C] to T (T - 1) / 2 mean differences, as logarithms."""
    values = frames.float()
    pairs = [(one, other) for one in range(len(values)) for other in range(one + 1, len(values))]
    return [float((values[one] - values[other]).abs().mean().log1p()) for one, other in pairs]


def rhythm(frames: Tensor) -> list[float]:
    """Say how change and sharpness are spread over a clip, not how much: uint8 [T, H, W, C] to 2 T - 1 numbers.

    A linear classifier should not tell a clip of a task of time by that: where it does, frames were taken unevenly, or
    what they were compressed with shows, such as key frames of the footage at fixed places. (Neighbours also see how
    evenly something moves, which is no mistake.)
    """
    values = frames.float()
    changes = ((values[1:] - values[:-1]).abs().mean(dim=(1, 2, 3)) + LEAST).log()  # [T-1]
    edges = ((values[:, 1:] - values[:, :-1]).abs().mean(dim=(1, 2, 3)) + LEAST).log()  # [T]
    return [*(changes - changes.mean()).tolist(), *(edges - edges.mean()).tolist()]


def features_of(bench: Bench, task: str, describe: Describe = differences) -> tuple[Features, Features]:
    """Describe the training and the test clips of a task, by the eight frames in the middle of each."""
    found: dict[str, list[FeatureRow]] = {"train": [], "test": []}
    manifest = everest.load_data(bench.manifest(task))
    for record in manifest.records:
        values = np.asarray(describe(action_of(record.path, task)), dtype=np.float32)
        label = manifest.class_names[record.label or 0]
        found["train" if record.split == "train" else "test"].append(
            FeatureRow(str(record.path), None, None, label, values)
        )
    made_by = {"of eight frames": describe.__name__}
    return Features(tuple(found["train"]), made_by), Features(tuple(found["test"]), made_by)
