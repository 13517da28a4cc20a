"""Where a training step waits for a GPU: nowhere, if steps are to be asked for ahead of it."""

import warnings
from collections.abc import Sequence
from pathlib import Path

import torch

from everest.bench.step import default_warmup
from everest.bench.tasks import TrainingStep
from everest.training.ema import Ema

_SAID = "synchronizing"  # what PyTorch's warning of it says
_ABOUT_ITSELF = "Synchronization debug mode is a prototype"  # and what it says, with the same word, when it is asked to


def find_waits(step: TrainingStep, *, warmup: int | None = None) -> list[str]:
    """List the lines of Python that wait for what was asked of the GPU before, in one step and averaging its weights.

    A blocking copy waits, and so does everything that looks at a number.

    Args:
        step: From :func:`~everest.bench.tasks.build_step`, not compiled.
        warmup: Steps before it; None: 1 on the CPU, 5 on a GPU.

    Returns:
        ``FOLDER/FILE:LINE``, each as often as it waits; on a CPU, where nothing is ahead of anything, none.
    """
    for _ in range(default_warmup(step.device) if warmup is None else warmup):
        step.run()
    average = None if step.model is None else Ema(step.model, 0.999)
    if average is not None and step.model is not None:
        for _ in range(2):  # the first one copies
            average.update(step.model)
    if step.device.type != "cuda":
        return []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            step.run(wait=False)
            if average is not None and step.model is not None:
                average.update(step.model)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return places_of(caught)


def places_of(caught: Sequence[warnings.WarningMessage]) -> list[str]:
    """Take the places of those warnings that say that something waited: ``FOLDER/FILE:LINE``."""
    said = [(str(warning.message), warning) for warning in caught]
    found = [warning for text, warning in said if _SAID in text and not text.startswith(_ABOUT_ITSELF)]
    return ["/".join([*Path(warning.filename).parts[-2:]]) + f":{warning.lineno}" for warning in found]
