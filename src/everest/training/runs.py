"""Pre-training and fine-tuning runs: from a configuration and data to a run folder with weights."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from torch import nn

from everest.config import CheckpointInfo, FinetuneConfig, ObjectiveConfig, PretrainConfig
from everest.datasets import Manifest, TrainLoader, build_train_loader
from everest.errors import DataError, EverestError, RunInterruptedError, is_lost_connection
from everest.links import append_text
from everest.models import Classifier, build_classifier, build_masked_model, grid_of, initialize_from, save_weights
from everest.models.weights import positions_for, read_weights
from everest.objectives import build_objective, describe_objective, with_objective
from everest.tokens import count_tokens
from everest.training.agreeing import require_same_start
from everest.training.best import keep_best
from everest.training.engine import Engine, seed_everything
from everest.training.files import atomic_write, writing
from everest.training.loop import EpochHook, Trainer
from everest.training.losses import finetuning_loss, pretraining_loss
from everest.training.notes import append_line, warnings_kept
from everest.training.passes import LossFunction
from everest.training.restarting import require_same_data, since_last_start, start_to_keep
from everest.training.rundir import DATA_NAME, RunFolder
from everest.training.stopping import stoppable
from everest.training.trackers import describe_trackers, expect_trackers
from everest.video import describe_decoder

Resume = Literal["auto", "never"]
ClassifierHook = Callable[[int, Classifier, CheckpointInfo], dict[str, float]]
CloseHook = Callable[["TrainedRun"], None]


@dataclass(frozen=True)
class TrainedRun:
    """What a training run leaves behind.

    Attributes:
        folder: Where everything is.
        model: The trained network, on the CPU, in evaluation mode.
        info: What travels with its weights.
        num_steps: Optimiser steps of the run.
        failed: Reason by path of every video that could not be read.
        manifest_digest: Of the whole manifest that it learnt from a part of.
        is_main: Whether this process is the one that writes and prints.
    """

    folder: RunFolder
    model: nn.Module
    info: CheckpointInfo
    num_steps: int
    failed: dict[str, str] = field(default_factory=dict)
    manifest_digest: str = ""
    is_main: bool = True

    def __repr__(self) -> str:
        return f"TrainedRun({self.info.task}, {self.num_steps} steps, {str(self.folder.path)!r})"


def to_stderr(line: str) -> None:
    """Tell a person something, and leave stdout to results."""
    print(line, file=sys.stderr, flush=True)


def run_pretraining(
    config: PretrainConfig,
    data: Manifest,
    out: Path,
    *,
    resume: Resume = "auto",
    say: Callable[[str], None] = to_stderr,
) -> TrainedRun:
    """Pre-train a masked model on unlabelled clips.

    Args:
        config: The run.
        data: The clips to learn from; labels are not looked at.
        out: The run folder.
        resume: ``auto`` goes on with the run that the folder holds, if there is one; ``never`` refuses such a folder.
        say: Takes lines for people; they are written into the run's log as well.

    Raises:
        EverestError: Settings, data or folder cannot be used; nothing has been overwritten then.
        RunInterruptedError: SIGTERM, SIGUSR1 or Ctrl-C asked the run to stop; the state is saved.
    """
    run = _Run(config, data, out, resume, say)
    info = describe_checkpoint(config)
    objective = build_objective(info, grid_of(config.model, config.clip), run.engine.device)
    info = with_objective(info, objective)
    model = build_masked_model(info.model, info.clip, info.objective)
    return run.train(model, info, pretraining_loss(model, info, objective), None, *describe_objective(objective))


def run_finetuning(
    config: FinetuneConfig,
    data: Manifest,
    out: Path,
    *,
    init: Path | None = None,
    resume: Resume = "auto",
    say: Callable[[str], None] = to_stderr,
    on_epoch: ClassifierHook | None = None,
    on_end: CloseHook | None = None,
) -> TrainedRun:
    """Train a classifier on labelled clips.

    Args:
        config: The run.
        data: The clips to learn from.
        out: The run folder.
        init: Run folder or checkpoint of any known format to start the encoder from; None starts from fresh weights.
        resume: ``auto`` goes on with the run that the folder holds, if there is one; ``never`` refuses such a folder.
        say: Takes lines for people; they are written into the run's log as well.
        on_epoch: Called after each epoch with its number, the network and its description; its numbers are logged, and
            the weights with the best ``top1`` among them are kept.
        on_end: Called in every process when all steps are done, while the run is still held and watched.

    Raises:
        EverestError: Settings, data, checkpoint or folder cannot be used; nothing has been overwritten then.
        RunInterruptedError: SIGTERM, SIGUSR1 or Ctrl-C asked the run to stop; the state is saved.
    """
    learnt = {record.label for record in data.records if record.label is not None}
    if data.labelled and len(learnt) < 2:
        raise DataError(f"{data.place}: fine-tuning needs clips of at least two classes, found {len(learnt)}")
    start = None if init is None else read_weights(init)
    stretched = ""
    if start is not None:
        network, stretched = positions_for(config.model, config.clip, start)
        config = config.model_copy(update={"model": network})
    run = _Run(config, data, out, resume, say)
    run.on_end = on_end
    info = describe_checkpoint(config, data.class_names)
    model = build_classifier(config.model, config.clip, data.num_classes)
    run.started = "encoder from fresh weights"
    if start is not None:
        loaded = initialize_from(model, start, data.class_names)
        run.started = f"encoder from {init} ({start.title}): {loaded}"
        digest = start.raw.digest() if run.engine.is_main else ""  # which alone keeps it
        whence = {"checkpoint": str(init), "digest": digest, "format": start.format_name}
        run.start = whence | loaded.to_dict()
    absent = [name for label, name in enumerate(data.class_names) if label not in learnt]
    without = f"{len(absent)} of {data.num_classes} classes have no clip to learn from: {', '.join(absent[:5])}"

    def hook(epoch: int, network: nn.Module) -> dict[str, float]:
        if on_epoch is None or not isinstance(network, Classifier):
            return {}
        numbers = on_epoch(epoch, network, info)
        if "top1" in numbers and run.engine.is_main:
            keep_best(run.folder, network, info, epoch=epoch, top1=numbers["top1"])
        return numbers

    more = ", ..." if len(absent) > 5 else ""
    notes = (stretched, f"{without}{more}" if absent else "")
    return run.train(model, info, finetuning_loss(model, info, config), hook, *notes)


def describe_checkpoint(config: PretrainConfig | FinetuneConfig, class_names: tuple[str, ...] = ()) -> CheckpointInfo:
    """Take from a run's configuration what has to travel with its weights."""
    return CheckpointInfo(
        task=config.task,
        model=config.model,
        clip=config.clip,
        selection=config.selection,
        frame_selection=config.frame_selection,
        # Folders of this machine do not travel.
        objective=config.objective.model_copy(update={"flow": None})
        if isinstance(config, PretrainConfig)
        else ObjectiveConfig(),
        class_names=class_names,
    )


class _Run:
    """What both kinds of run do around their model and loss."""

    def __init__(
        self,
        config: PretrainConfig | FinetuneConfig,
        data: Manifest,
        out: Path,
        resume: Resume,
        say: Callable[[str], None],
    ) -> None:
        self.config, self.data, self.resume, self.say = config, data, resume, say
        self.news: list[str] = []  # since the last start
        expect_trackers(config.run.trackers)
        self.start: dict[str, Any] | None = None  # what became of the tensors of a checkpoint
        self.started = ""  # that for people
        self.on_end: CloseHook | None = None
        self._is_new = False  # whether the folder was made by this start
        self._is_open = False  # whether it is this start that writes into it
        count_tokens(grid_of(config.model, config.clip), config.selection, config.task)  # some must be left to predict
        self.engine = Engine.start(config.run)
        require_same_start(config, data)
        self.folder = RunFolder(out)
        seed_everything(config.run.seed)

    def train(
        self,
        model: nn.Module,
        info: CheckpointInfo,
        loss: LossFunction,
        on_epoch: EpochHook | None = None,
        *notes: str,
    ) -> TrainedRun:
        """Open the folder, train, and leave the weights there."""
        with stoppable(self.folder):
            try:
                with ExitStack() as stack:
                    return self._open_and_train(stack, model, info, loss, on_epoch, *notes)
            except RunInterruptedError:  # which has said all there is to say
                raise
            except BaseException as error:
                if self._has_written_nothing(error):
                    self.folder.remove()  # the next try need not name another folder
                elif self._is_open:
                    self._note(f"stopped: {' '.join(str(error).split()) or type(error).__name__}")
                raise

    def _has_written_nothing(self, error: BaseException) -> bool:
        """Whether the folder tells nobody anything: no step was made, and no other process died."""
        if not self._is_new or not isinstance(error, EverestError):
            return False
        lost_others = error.__cause__ is not None and is_lost_connection(error.__cause__)
        return not (lost_others or self.folder.holds_numbers() or self.folder.holds_results())

    def _open_and_train(
        self,
        stack: ExitStack,
        model: nn.Module,
        info: CheckpointInfo,
        loss: LossFunction,
        on_epoch: EpochHook | None,
        *notes: str,
    ) -> TrainedRun:
        engine, config = self.engine, self.config
        loader = build_train_loader(
            self.data,
            config,
            rank=engine.rank,
            world_size=engine.world_size,
            on_failure=lambda path, reason: self.tell(f"cannot read {path}: {reason}"),
        )
        if engine.is_main:  # last of all that can be refused, so that a refused run leaves no folder behind
            stack.enter_context(self.folder.locked())
            is_new = not self.folder.config_file.exists()
            if self.resume == "auto":
                self.news = [require_same_data(self.folder, self.data)]
                self.start, kept = start_to_keep(self.folder, self.start)
                self.started = kept or self.started
            RunFolder.create(self.folder.path, config, resume=self.resume)
            self._is_new = is_new
            self._write_data()
            self.news += since_last_start(self.folder)
        engine.wait()
        self._is_open = True
        with warnings_kept(self._note):
            return self._train_in_folder(model, info, loss, loader, on_epoch, *notes)

    def _train_in_folder(
        self,
        model: nn.Module,
        info: CheckpointInfo,
        loss: LossFunction,
        loader: TrainLoader,
        on_epoch: EpochHook | None,
        *notes: str,
    ) -> TrainedRun:
        engine, config = self.engine, self.config
        trainer = Trainer(
            config,
            model,
            loader,
            engine,
            self.folder,
            data_digest=self.data.digest,
            on_save=lambda network: _write_weights(network, info, self.folder.weights),
            write_weights=lambda network, path: _write_weights(network, info, path),
            tell=self.tell,
        )
        going_on = self.resume == "auto" and trainer.resume()
        self.tell(f"{len(self.data)} clips of {self.data.num_files} videos from {self.data.place}")
        if config.optim.global_batch_size > len(self.data) * config.data.clips_per_video:
            self.tell(f"a step takes {config.optim.global_batch_size} clips, more than there are: some come again")
        store = loader.store
        remote = "" if store is None else store.describe()
        how = (describe_decoder(config.data.decoder), *trainer.describe())
        for line in (self.data.note, remote, self.started, *notes, *how):
            self.tell(line)
        for line in (*self.news, describe_trackers(config.run.trackers)):
            self.tell(line)
        if trainer.step == trainer.num_steps:
            self.tell(f"finished before: all {trainer.num_steps:,} steps are done, nothing is trained again")
        elif going_on:
            self.tell(f"going on at step {trainer.step:,} of {trainer.num_steps:,}")
        elif engine.is_main and self.folder.holds_numbers():
            self.tell("the last start had saved nothing: beginning anew, and what is logged of its steps is replaced")
        with self._telling_interruptions():
            trainer.run(loss, "pre-training" if info.task == "pretrain" else "fine-tuning", on_epoch)
        self.tell("" if store is None else store.summary())
        self.tell(f"weights: {self.folder.weights}")
        engine.wait()
        trained = trainer.trained.to("cpu").eval()
        failed, digest = dict(loader.failed), self.data.source_digest
        if failed:
            self.tell(f"{len(failed)} videos could not be read and were replaced")
        run = TrainedRun(self.folder, trained, info, trainer.num_steps, failed, digest, engine.is_main)
        if self.on_end is not None:
            with self._telling_interruptions(), trainer.watched():
                self.on_end(run)
        return run

    @contextmanager
    def _telling_interruptions(self) -> Iterator[None]:
        """Context of what a signal to one process ends in all of them."""
        try:
            yield
        except RunInterruptedError as error:
            if self.engine.is_main:
                self.folder.note_interruption(str(error), error.exit_code)
                self.tell(str(error))
            self.engine.wait()  # launchers end all processes when one has ended
            error.is_told = True
            raise

    def tell(self, line: str) -> None:
        """Say a line and write it into the log, once for all processes."""
        if line and self.engine.is_main:
            self.say(line)
            with writing(self.folder.log), append_text(self.folder.log) as log:
                log.write(line + "\n")

    def _note(self, line: str) -> None:
        """Write a line into the log that is said elsewhere."""
        if self.engine.is_main:
            append_line(self.folder.log, line)

    def _write_data(self) -> None:
        """Record which data, and which weights, the run learns from."""
        values = {
            "source": str(self.data.source),
            "manifest_digest": self.data.source_digest,
            "part_digest": self.data.digest,
            "num_clips": len(self.data),
            "num_files": self.data.num_files,
            "class_names": self.data.class_names,
            "note": self.data.note,
            "start": self.start,
            "closing_evaluation": self.on_end is not None,
        }
        with atomic_write(self.folder.path / DATA_NAME) as file:
            file.write((json.dumps(values, indent=2) + "\n").encode())


def _write_weights(network: nn.Module, info: CheckpointInfo, path: Path) -> None:
    with writing(path):
        save_weights(network, info, path)
