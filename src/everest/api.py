"""What the command line does, as functions: train, evaluate, predict."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path

from everest.config import (
    CheckpointInfo,
    DataConfig,
    Decoder,
    EvaluationConfig,
    FinetuneConfig,
    PretrainConfig,
    RemoteConfig,
    RunConfig,
)
from everest.datasets import ClipRecord, Manifest, load_data
from everest.datasets.ray_engine import RayEngine
from everest.datasets.records import is_video
from everest.errors import ConfigError, WeightsError
from everest.evaluation import KEPT_NAME, Evaluation, choose_device, forget_results, parse_views, with_keep_ratio
from everest.evaluation.here import evaluate_here
from everest.hashing import sha256_of
from everest.inference import DEFAULT_VIEWS as DEFAULT_CLIPS
from everest.inference import EmbedReport, Predictor, Windows
from everest.inference import embed as embed_videos
from everest.models import Classifier, load_model
from everest.models.features import FeatureModel, to_use
from everest.models.weights import find_weights, is_transformers_folder
from everest.models.weights.ready import locate
from everest.recipes import get_recipe
from everest.settings import override
from everest.training import TrainedRun, run_finetuning, run_pretraining
from everest.training.best import keep_best
from everest.training.notes import append_line
from everest.training.progress import Progress
from everest.training.rundir import RunFolder
from everest.training.runs import Resume
from everest.training.stopping import stoppable
from everest.video.source import is_url
from everest.video.urls import Url

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
    resume: Resume = "auto",
) -> TrainedRun:
    """Pre-train on unlabelled clips.

    Args:
        recipe: A name from ``everest recipe list``.
        data: A manifest, a folder of videos, or ``bundled``. Where there are splits, only ``train`` is learnt from;
            of labelled clips without splits, what :func:`finetune` holds out is left out here as well.
        out: The run folder; one that holds a run of other settings or of other data is refused.
        settings: ``KEY=VALUE`` changes to the recipe.
        resume: ``auto`` goes on with the run that the folder holds, if there is one; ``never`` refuses such a folder.

    Raises:
        EverestError: Something given cannot be used; nothing has been overwritten then.
        RunInterruptedError: SIGTERM, SIGUSR1 or Ctrl-C asked the run to stop; what it had learnt is saved.
    """
    config = pretrain_config(recipe, settings)
    with stoppable(RunFolder(Path(out))):
        manifest = load_data(data, holdout=config.data.holdout)
        run = run_pretraining(config, manifest.train, Path(out), resume=resume)
        _report(config.run, run, manifest)
        return run


def finetune(
    *,
    recipe: str,
    data: str | Path,
    out: str | Path,
    init: str | Path | None = None,
    settings: Iterable[str] = (),
    resume: Resume = "auto",
) -> FinetunedRun:
    """Train a classifier on labelled clips, and evaluate it on those that were held out.

    Args:
        recipe: A name from ``everest recipe list``.
        data: A manifest, a folder of class folders, or ``bundled``.
        out: The run folder; one that holds a run of other settings or of other data is refused.
        init: Run folder or checkpoint of any known format to start from; None starts from fresh weights.
        settings: ``KEY=VALUE`` changes to the recipe.
        resume: ``auto`` goes on with the run that the folder holds, if there is one; ``never`` refuses such a folder.

    Raises:
        EverestError: Something given cannot be used; nothing has been overwritten then.
        RunInterruptedError: SIGTERM, SIGUSR1 or Ctrl-C asked the run to stop; what it had learnt is saved.
    """
    config = finetune_config(recipe, settings)
    with stoppable(RunFolder(Path(out))):
        manifest = load_data(data, holdout=config.data.holdout)
        return _finetune(config, manifest, Path(out), None if init is None else Path(init), resume)


def _finetune(config: FinetuneConfig, manifest: Manifest, out: Path, init: Path | None, resume: Resume) -> FinetunedRun:
    held_out = next((manifest.split(name) for name in ("test", "val") if name in manifest.splits), None)
    views = config.evaluation
    if views.decoder == "auto":  # what one part of a run says of reading goes for the other
        views = views.model_copy(update={"decoder": config.data.decoder})
    if views.time_limit_seconds == EvaluationConfig().time_limit_seconds:
        views = views.model_copy(update={"time_limit_seconds": config.data.time_limit_seconds})
    if views.remote == RemoteConfig():
        views = views.model_copy(update={"remote": config.data.remote})
    kept = out / KEPT_NAME  # of other weights, an evaluation that was not finished is of no use
    assess = partial(
        evaluate_here, views=views, run=config.run, num_workers=config.data.num_workers, keep=kept, replaces=True
    )
    every, num_epochs = config.run.evaluate_every_epochs, config.optim.epochs

    def on_epoch(epoch: int, model: Classifier, info: CheckpointInfo) -> dict[str, float]:
        if held_out is None or not every or epoch % every or epoch == num_epochs:
            return {}
        return {"top1": assess(model, info, held_out).top1}

    closing: list[Evaluation] = []

    def on_end(run: TrainedRun) -> None:
        if held_out is None or not isinstance(run.model, Classifier):
            return
        evaluation = assess(run.model, run.info, held_out)
        closing.append(evaluation)
        if run.is_main and every:
            keep_best(run.folder, run.model, run.info, epoch=num_epochs, top1=evaluation.top1)
        if run.is_main:
            append_line(run.folder.log, evaluation.summary())
            RunFolder.write_json(run.folder.path / EVALUATION_NAME, evaluation.to_dict())
            forget_results(kept)

    run = run_finetuning(
        config,
        manifest.train,
        out,
        init=init,
        resume=resume,
        on_epoch=on_epoch,
        on_end=None if held_out is None else on_end,
    )
    evaluation = closing[0] if closing else None
    _report(config.run, run, manifest, evaluation)
    return FinetunedRun(run, evaluation)


def _report(settings: RunConfig, run: TrainedRun, data: Manifest, evaluation: Evaluation | None = None) -> None:
    """Draw the page about a run that has ended."""
    if settings.report and run.is_main:
        from everest.reports import report_finished

        report_finished(run, data, evaluation)


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
    cache_dir: str | None = None,
    keep: Path | None = None,
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
        cache_dir: Folder in which clips from URLs are kept; None: as ``views`` say, or nowhere.
        keep: A folder for what was found so far, made in one that exists: after an end before the end the same call
            goes on there. :func:`everest.evaluation.forget_results` deletes it.

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
    if cache_dir is not None:
        views = views.model_copy(update={"remote": views.remote.model_copy(update={"cache_dir": cache_dir})})
    return evaluate_here(model, info, manifest, views=views, run=run or RunConfig(), num_workers=num_workers, keep=keep)


def evaluation_data(checkpoint: Path, data: str | Path, split: str) -> Manifest:
    """Load the part of the data that a run did not learn from, or another one; see :func:`evaluate`.

    Raises:
        DataError: There is no such data or no such part.
    """
    trained = _config_of(checkpoint)
    holdout = None if split == "all" else (DataConfig() if trained is None else trained.data).holdout
    return load_data(data, holdout=holdout).split(split)


def load(
    checkpoint: str | Path, device: str = "auto", keep_ratio: float | None = None, precision: str = "auto"
) -> Predictor:
    """Load a classifier for prediction: ``everest.load("runs/mine").predict("clip.mp4")``.

    Args:
        checkpoint: A run folder or a weights file.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        keep_ratio: Share of the tokens to look at; None: as in training.
        precision: ``auto`` computes as evaluation does; or ``float32``, ``bfloat16``.

    Raises:
        WeightsError: The checkpoint cannot be read or holds no classifier.
        ConfigError: There is no such device or precision, or the share is out of range.
    """
    return Predictor.load(checkpoint, device=device, keep_ratio=keep_ratio, precision=precision)


def embed(
    checkpoint: str | Path,
    videos: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    split: str | None = None,
    layer: int | None = None,
    per_token: bool = False,
    window_seconds: float | None = None,
    hop_seconds: float | None = None,
    views: str | EvaluationConfig | None = None,
    keep_ratio: float | None = None,
    device: str = "auto",
    decoder: Decoder | None = None,
    num_workers: int = -1,
    engine: RayEngine | None = None,
) -> EmbedReport:
    """Write features of videos into a file; the same call goes on where an earlier one was stopped.

    Args:
        checkpoint: A run folder or a weights file, pre-trained or fine-tuned.
        videos: Files; or one manifest, folder, URL of packed clips, or ``bundled``.
        out: The file to make, ``.parquet`` or ``.npz``; see :mod:`everest.inference.feature_rows`.
        split: Part of a manifest; None: everything.
        layer: After so many blocks of the encoder; None: what the model ends with.
        per_token: A vector for each kept token instead of their mean.
        window_seconds: Cut videos into spans of this length, each with a row of its own.
        hop_seconds: From the start of one span to that of the next; None: their length. Given alone, spans have the
            length of one clip of the model.
        views: Segments x crops of a video or span, whose features are averaged; None: 3x1 of a video, 1x1 of a span.
        keep_ratio: Share of the tokens to look at; None: as in fine-tuning, and all of a pre-trained model.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        decoder: What reads the files; None: PyAV.
        num_workers: Decoding processes; -1 takes one per spare core.
        engine: A Ray cluster, which does all the work.

    Raises:
        EverestError: Something given cannot be used. Videos that cannot be read are listed in the result instead.
    """
    model, info = load_model(Path(checkpoint))
    info = with_keep_ratio(to_use(info), keep_ratio)
    features = FeatureModel(
        model.to(choose_device("cpu" if engine is not None else device)), info, layer=layer, per_token=per_token
    )
    has_windows = window_seconds is not None or hop_seconds is not None
    if views is None:
        num_segments = 1 if has_windows or per_token else DEFAULT_CLIPS.num_segments
        views = DEFAULT_CLIPS.model_copy(update={"num_segments": num_segments})
    views = parse_views(views) if isinstance(views, str) else views
    views = views if decoder is None else views.model_copy(update={"decoder": decoder})
    manifest = _videos(videos)
    manifest = manifest if split is None else manifest.split(split)
    weights = find_weights(Path(checkpoint)).absolute()  # wherever the file of features is used
    made_by = {
        "everest": version("everest-video"),
        "checkpoint": str(weights),
        "sha256": sha256_of(weights),
        "layer": layer,
        "per_token": per_token,
        "selection": info.selection.model_dump(mode="json"),
    }
    with Progress("embedding", len(manifest)) as progress:
        return embed_videos(
            features,
            manifest,
            Path(out),
            made_by=made_by,
            windows=Windows(window_seconds, hop_seconds) if has_windows else None,
            views=views,
            num_workers=num_workers,
            on_progress=lambda done, _: progress.update(done),
            on_skip=progress.skip,
            engine=engine,
            device=device,
        )


def _videos(given: str | Path | Sequence[str | Path]) -> Manifest:
    """Take files as they are, and what names a list of them as such."""
    several = [given] if isinstance(given, str | Path) else list(given)
    if not several:
        raise ConfigError("no video is given: name files, a manifest, a folder, or the word bundled")
    if len(several) == 1 and not (Path(several[0]).is_file() and is_video(Path(several[0]))):
        return load_data(several[0])
    for url in (Url(str(video)) for video in several if is_url(str(video))):
        raise ConfigError(f"{url}: the URL of a list or of packed clips has to be the only thing that is named")
    return Manifest(tuple(ClipRecord(Path(video).absolute()) for video in several), (), Path.cwd())


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


def _config_of(checkpoint: Path) -> FinetuneConfig | None:
    """The configuration beside a checkpoint, if it lies in the folder of a fine-tuning run."""
    checkpoint = locate(checkpoint)
    folder = RunFolder(checkpoint if checkpoint.is_dir() else checkpoint.parent)
    if not folder.config_file.is_file() or is_transformers_folder(folder.path):
        return None
    config = folder.config()
    return config if isinstance(config, FinetuneConfig) else None
