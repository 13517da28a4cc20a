"""The best weights of a fine-tuning run, beside the last ones."""

import json

from torch import nn

from everest.config import CheckpointInfo
from everest.errors import WeightsError
from everest.models import save_weights
from everest.models.weights import read_note
from everest.training.files import writing
from everest.training.rundir import RunFolder


def keep_best(folder: RunFolder, model: nn.Module, info: CheckpointInfo, *, epoch: int, top1: float) -> bool:
    """Keep the weights of an epoch if none before was as good.

    What the weights are is written into their file, which appears complete or not at all, and for people into a JSON
    file beside it; so the two may differ for a moment, and the first one counts.

    Args:
        folder: Of the run.
        model: The network that was evaluated.
        info: What travels with it.
        epoch: Epochs done.
        top1: Its accuracy, 0 to 1.

    Returns:
        Whether they are the best so far; of equal ones the first is.

    Raises:
        RunError: They cannot be written.
    """
    record = {"epoch": epoch, "top1": top1}
    before = best_so_far(folder)
    is_better = before is None or top1 > before["top1"]
    if is_better:
        with writing(folder.best):
            save_weights(model, info, folder.best, note=json.dumps(record))
    folder.write_json(folder.best_record, record if is_better else before)
    return is_better


def best_so_far(folder: RunFolder) -> dict[str, float] | None:
    """Say which epoch the best weights of a run are of, and their top-1 accuracy; None where there are none."""
    try:
        record = json.loads(read_note(folder.best) or "null")
    except (WeightsError, ValueError):
        return None
    return record if isinstance(record, dict) and {"epoch", "top1"} <= record.keys() else None
