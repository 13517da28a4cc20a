"""What a few numbers tell without any network: how much the frames of a clip differ from each other.

Shapes: T frames, H height, W width, C channels.
"""

import numpy as np
from still_parts import action_of
from torch import Tensor
from trials import Bench

import everest
from everest.inference.feature_rows import FeatureRow, Features


def differences(frames: Tensor) -> list[float]:
    """Measure frames against each other: uint8 [T, H, W, C] to T (T - 1) / 2 mean differences, as logarithms."""
    values = frames.float()
    pairs = [(one, other) for one in range(len(values)) for other in range(one + 1, len(values))]
    return [float((values[one] - values[other]).abs().mean().log1p()) for one, other in pairs]


def features_of(bench: Bench, task: str) -> tuple[Features, Features]:
    """Describe the training and the test clips of a task, by the eight frames in the middle of each."""
    found: dict[str, list[FeatureRow]] = {"train": [], "test": []}
    manifest = everest.load_data(bench.manifest(task))
    for record in manifest.records:
        values = np.asarray(differences(action_of(record.path, task)), dtype=np.float32)
        label = manifest.class_names[record.label or 0]
        found["train" if record.split == "train" else "test"].append(
            FeatureRow(str(record.path), None, None, label, values)
        )
    made_by = {"differences": "mean absolute differences of all pairs of eight frames"}
    return Features(tuple(found["train"]), made_by), Features(tuple(found["test"]), made_by)
