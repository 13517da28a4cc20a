"""What the command line does, as functions: train, evaluate, predict."""

import json
from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from everest.config import (
    CheckpointInfo,
    DataConfig,
    Decoder,
    EvaluationConfig,
    FinetuneConfig,
    PretrainConfig,
    RunConfig,
)
from everest.datasets import Manifest, load_data
from everest.errors import ConfigError, WeightsError
from everest.evaluation import Evaluation, choose_device, parse_views, with_keep_ratio
from everest.evaluation import evaluate as evaluate_classifier
from everest.inference import Predictor
from everest.models import Classifier, load_model
from everest.models.weights import is_transformers_folder
from everest.recipes import get_recipe
from everest.settings import override
from everest.training import TrainedRun, run_finetuning, run_pretraining
from everest.training.engine import Engine, choose_dtype
from everest.training.files import atomic_write
from everest.training.progress import Progress
from everest.training.rundir import RunFolder
from everest.training.runs import Resume

DEFAULT_VIEWS = "5x3"
EVALUATION_NAME = "evaluation.json"


@dataclass(frozen=True)
class FinetunedRun:
    """A fine-tuning run and the evaluation that closed it.

    Attributes:
        run: The training.
        evaluation: On the split ``test`` (``val`` where there is no ``test``); None where the data has neither.
    """

    run: TrainedRun
    evaluation: Evaluation | None

    def __repr__(self) -> str:
        return f"FinetunedRun({self.run}, {self.evaluation})"


def pretrain(
    *,
    recipe: str,
    data: str | Path,
    out: str | Path,
    settings: Iterable[str] = (),
    resume: Resume = "never",
) -> TrainedRun:
    """Pre-train on unlabelled clips.

    Args:
        recipe: A name from ``everest recipe list``.
        data: A manifest, a folder of videos, or ``bundled``. Where there are splits, only ``train`` is learnt from;
            of labelled clips without splits, what :func:`finetune` holds out is left out here as well.
        out: The run folder; one that holds a run is refused unless resumed.
        settings: ``KEY=VALUE`` changes to the recipe.
        resume: ``auto`` goes on with the run that the folder holds.

    Raises:
        EverestError: Something given cannot be used; nothing has been overwritten then.
    """
    config = pretrain_config(recipe, settings)
    manifest = load_data(data, holdout=config.data.holdout)
    return run_pretraining(config, _train_part(manifest), Path(out), resume=resume)


def finetune(
    *,
    recipe: str,
    data: str | Path,
    out: str | Path,
    init: str | Path | None = None,
    settings: Iterable[str] = (),
    resume: Resume = "never",
) -> FinetunedRun:
    """Train a classifier on labelled clips, and evaluate it on those that were held out.

    Args:
        recipe: A name from ``everest recipe list``.
        data: A manifest, a folder of class folders, or ``bundled``.
        out: The run folder; one that holds a run is refused unless resumed.
        init: Run folder or checkpoint of any known format to start from; None starts from fresh weights.
        settings: ``KEY=VALUE`` changes to the recipe.
        resume: ``auto`` goes on with the run that the folder holds.

    Raises:
        EverestError: Something given cannot be used; nothing has been overwritten then.
    """
    config = finetune_config(recipe, settings)
    manifest = load_data(data, holdout=config.data.holdout)
    held_out = next((manifest.split(name) for name in ("test", "val") if name in manifest.splits), None)

    views = config.evaluation
    if views.decoder == "auto":  # what one part of a run says of reading goes for the other
        views = views.model_copy(update={"decoder": config.data.decoder})
    if views.time_limit_seconds == EvaluationConfig().time_limit_seconds:
        views = views.model_copy(update={"time_limit_seconds": config.data.time_limit_seconds})
    assess = partial(_evaluate, views=views, run=config.run, num_workers=config.data.num_workers)

    def on_epoch(epoch: int, model: Classifier, info: CheckpointInfo) -> dict[str, float]:
        every = config.run.evaluate_every_epochs
        if held_out is None or not every or epoch % every or epoch == config.optim.epochs:
            return {}
        return {"top1": assess(model, info, held_out).top1}

    run = run_finetuning(
        config,
        _train_part(manifest),
        Path(out),
        init=None if init is None else Path(init),
        resume=resume,
        on_epoch=on_epoch,
    )
    if held_out is None or not isinstance(run.model, Classifier):
        return FinetunedRun(run, None)
    evaluation = assess(run.model, run.info, held_out)
    if not run.is_main:
        return FinetunedRun(run, evaluation)
    with atomic_write(run.folder.path / EVALUATION_NAME) as file:
        file.write((json.dumps(evaluation.to_dict(), indent=2) + "\n").encode())
    return FinetunedRun(run, evaluation)


def evaluate(
    checkpoint: str | Path,
    data: str | Path,
    *,
    split: str = "test",
    views: str | EvaluationConfig | None = None,
    run: RunConfig | None = None,
    num_workers: int = -1,
    decoder: Decoder | None = None,
    keep_ratio: float | None = None,
) -> Evaluation:
    """Evaluate a classifier on labelled clips, every video decoded once for all its views.

    Args:
        checkpoint: A run folder or a weights file.
        data: A manifest, a folder of class folders, or ``bundled``. Without splits, the clips that fine-tuning held out
            are ``test``.
        split: Which part of the data; ``all`` for everything.
        views: Segments x crops, such as ``5x3``; None takes those of the run folder's recipe, or 5x3.
        run: Device and precision; None chooses.
        num_workers: Decoding processes; -1 takes one per spare core.
        decoder: What reads the files; None: as ``views`` say, or PyAV.
        keep_ratio: Share of the tokens to look at; None: as in training.

    Raises:
        EverestError: Something given cannot be used. Videos that cannot be read are listed in the result instead.
    """
    path = Path(checkpoint)
    model, info = load_model(path)
    if not isinstance(model, Classifier):
        raise WeightsError(f"{checkpoint}: holds a pre-trained encoder and no classifier; fine-tune it first")
    info = with_keep_ratio(info, keep_ratio)
    trained = _config_of(path)
    if views is None:
        views = DEFAULT_VIEWS if trained is None else trained.evaluation
    manifest = evaluation_data(path, data, split)
    views = parse_views(views) if isinstance(views, str) else views
    views = views if decoder is None else views.model_copy(update={"decoder": decoder})
    return _evaluate(model, info, manifest, views=views, run=run or RunConfig(), num_workers=num_workers)


def evaluation_data(checkpoint: Path, data: str | Path, split: str) -> Manifest:
    """Load the part of the data that a run did not learn from, or another one; see :func:`evaluate`.

    Raises:
        DataError: There is no such data or no such part.
    """
    trained = _config_of(checkpoint)
    holdout = None if split == "all" else (DataConfig() if trained is None else trained.data).holdout
    return load_data(data, holdout=holdout).split(split)


def load(checkpoint: str | Path, device: str = "auto", keep_ratio: float | None = None) -> Predictor:
    """Load a classifier for prediction: ``everest.load("runs/mine").predict("clip.mp4")``.

    Args:
        checkpoint: A run folder or a weights file.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        keep_ratio: Share of the tokens to look at; None: as in training.

    Raises:
        WeightsError: The checkpoint cannot be read or holds no classifier.
        ConfigError: There is no such device, or the share is out of range.
    """
    return Predictor.load(checkpoint, device=device, keep_ratio=keep_ratio)


def pretrain_config(recipe: str, settings: Iterable[str] = ()) -> PretrainConfig:
    """Settings of a recipe's pre-training, changed by ``KEY=VALUE`` strings."""
    config = get_recipe(recipe).pretrain
    if config is None:
        raise ConfigError(f"recipe {recipe!r} has no pre-training")
    return override(config, settings)


def finetune_config(recipe: str, settings: Iterable[str] = ()) -> FinetuneConfig:
    """Settings of a recipe's fine-tuning, changed by ``KEY=VALUE`` strings."""
    config = get_recipe(recipe).finetune
    if config is None:
        raise ConfigError(f"recipe {recipe!r} has no fine-tuning")
    return override(config, settings)


def _train_part(manifest: Manifest) -> Manifest:
    """What may be learnt from: the split ``train``, or everything where there are no splits."""
    return manifest.split("train") if manifest.splits else manifest


def _config_of(checkpoint: Path) -> FinetuneConfig | None:
    """The configuration beside a checkpoint, if it lies in the folder of a fine-tuning run."""
    folder = RunFolder(checkpoint if checkpoint.is_dir() else checkpoint.parent)
    if not folder.config_file.is_file() or is_transformers_folder(folder.path):
        return None
    config = folder.config()
    return config if isinstance(config, FinetuneConfig) else None


def _evaluate(
    model: Classifier,
    info: CheckpointInfo,
    manifest: Manifest,
    *,
    views: EvaluationConfig,
    run: RunConfig,
    num_workers: int,
) -> Evaluation:
    engine = Engine.join(run)
    device = choose_device(run.device) if engine is None else engine.device
    is_main = engine is None or engine.is_main
    with Progress("evaluating", len(manifest)) if is_main else nullcontext() as progress:
        return evaluate_classifier(
            model,
            info,
            manifest,
            views,
            device=device,
            dtype=choose_dtype(run.precision, device),
            num_workers=num_workers,
            on_progress=None if progress is None else lambda done, _: progress.update(done),
            divided=engine is not None,
        )
