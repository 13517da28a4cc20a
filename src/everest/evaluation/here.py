"""An evaluation as commands and runs make it: on the device of this program, divided over its processes, with a bar."""

from contextlib import nullcontext
from pathlib import Path

from everest.config import CheckpointInfo, EvaluationConfig, RunConfig
from everest.datasets import Manifest
from everest.evaluation.devices import choose_device
from everest.evaluation.evaluate import Evaluation, evaluate
from everest.models import Classifier
from everest.training.engine import Engine, choose_dtype
from everest.training.progress import Progress


def evaluate_here(
    model: Classifier,
    info: CheckpointInfo,
    manifest: Manifest,
    *,
    views: EvaluationConfig,
    run: RunConfig,
    num_workers: int,
    keep: Path | None = None,
    replaces: bool = False,
) -> Evaluation:
    """Measure a classifier; see :func:`~everest.evaluation.evaluate`, which has the same arguments.

    Args:
        model: Moved to the device.
        info: What travels with it.
        manifest: The clips of one split.
        views: Of each clip.
        run: Device and precision.
        num_workers: Decoding processes; -1 takes one per spare core.
        keep: A folder for what was found so far.
        replaces: What it holds of another evaluation is deleted.
    """
    engine = Engine.join(run)
    device = choose_device(run.device) if engine is None else engine.device
    is_main = engine is None or engine.is_main
    with Progress("evaluating", len(manifest)) if is_main else nullcontext() as progress:
        return evaluate(
            model,
            info,
            manifest,
            views,
            device=device,
            dtype=choose_dtype(run.precision, device),
            num_workers=num_workers,
            on_progress=None if progress is None else lambda done, _: progress.update(done),
            on_skip=None if progress is None else progress.skip,
            divided=engine is not None,
            keep=keep,
            replaces=replaces,
        )
