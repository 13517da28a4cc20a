"""The training loop that pre-training and fine-tuning share.

    for each optimiser step: batches -> losses -> gradients -> clip -> step -> average -> log

Everything random follows from the seed and the places of the clips in the run, so a run that is stopped and resumed at
a step goes on as if it had not been stopped, and any number of processes gives the same.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from everest.config import VARYING, FinetuneConfig, PretrainConfig
from everest.datasets import Batch, TrainLoader
from everest.draws import ClipDraws, seed_of_step
from everest.errors import RunError, RunInterruptedError
from everest.training.blocks import prepare_blocks
from everest.training.boundary import Boundary
from everest.training.ema import Ema
from everest.training.engine import Engine
from everest.training.environment import multiplies_bfloat16
from everest.training.files import folder_is_gone, writing
from everest.training.health import Health
from everest.training.metrics import MetricsLog
from everest.training.optim import build_optimizer, set_learning_rate
from everest.training.passes import LossFunction, Pass, PlainPass, RecordedPass
from everest.training.processes import gather_values
from everest.training.progress import Progress
from everest.training.restarting import STATE_FORMAT, require_known_format
from everest.training.rundir import RunFolder
from everest.training.schedule import describe_lr, learning_rate_at, scaled_lr
from everest.training.sharding import PlainCopy, load_whole_state, whole_state
from everest.training.skipping import Computed, SkippedSteps, without_frames
from everest.training.state import load_latest, load_state, save_state, state_path
from everest.training.stopping import interruption, patiently, until_asked

EpochHook = Callable[[int, nn.Module], dict[str, float]]


@dataclass
class StepTimer:
    """Where the time of the steps goes: computing, or waiting for the next batch."""

    started: float = field(default_factory=time.perf_counter)
    waiting_seconds: float = 0.0
    num_clips: int = 0

    def wait_for(self, batches: Iterator[Batch]) -> Batch | None:
        """Take the next batch and count the time that it takes to come; None where there is none."""
        before = time.perf_counter()
        batch = next(batches, None)
        self.waiting_seconds += time.perf_counter() - before
        self.num_clips += 0 if batch is None else len(batch.frames)
        return batch

    def rates(self, world_size: int) -> dict[str, float]:
        """Clips per second over all processes, and the share of the time spent waiting."""
        seconds = max(time.perf_counter() - self.started, 1e-9)
        return {
            "clips_per_second": self.num_clips * world_size / seconds,
            "wait_share": min(1.0, self.waiting_seconds / seconds),
        }


class Trainer:
    """One run: its model, optimiser, data and folder.

    Attributes:
        model: The plain network, on the device.
        ema: Averaged weights, where the configuration asks for them.
        step: Optimiser steps done.
        num_steps: Optimiser steps of the whole run.
    """

    def __init__(
        self,
        config: PretrainConfig | FinetuneConfig,
        model: nn.Module,
        loader: TrainLoader,
        engine: Engine,
        folder: RunFolder,
        *,
        data_digest: str,
        on_save: Callable[[nn.Module], None] = lambda network: None,
        write_weights: Callable[[nn.Module, Path], None],
        tell: Callable[[str], None],
    ) -> None:
        self.config, self.loader, self.engine, self.folder = config, loader, engine, folder
        self.model = model.to(engine.device)
        self.ema = None if config.optim.ema_decay is None else Ema(self.model, config.optim.ema_decay)
        prepare_blocks(
            self.model, compile=config.run.compile, activation_checkpointing=config.run.activation_checkpointing
        )
        depth = len(self.model.encoder.blocks)  # type: ignore[union-attr, arg-type]
        self._plain = PlainCopy(self.model) if engine.is_sharded else None
        self._wrapped = engine.prepare(self.model)
        if self.ema is not None and engine.is_sharded:
            engine.prepare(self.ema.model)
        self._optimizer = build_optimizer(self.model, config.optim, depth)
        self._data_digest, self._on_save, self._write_weights, self._tell = data_digest, on_save, write_weights, tell
        skipped = SkippedSteps(config, engine, folder, loader, write_weights=self._write_current, tell=tell)
        self._health = Health(
            engine,
            folder,
            loader,
            skipped,
            model=self.model,
            optimizer=self._optimizer,
            ema=self.ema,
            replays=config.run.cuda_graphs,
        )
        self._boundary = Boundary(config.run, engine.rank, engine.world_size)
        self._on_epoch: EpochHook | None = None
        self.step = 0
        self._saved_step: int | None = None
        self.num_steps = config.optim.epochs * loader.num_steps
        self._not_shown = {"grad_norm", "gpu_memory_gb", "skipped_steps"}
        if config.selection.method not in VARYING:
            self._not_shown.add("tokens_per_clip")
        self._num_warmup_steps = min(self.num_steps, round(config.optim.warmup_epochs * loader.num_steps))

    @property
    def trained(self) -> nn.Module:
        """The network to use afterwards: averaged weights if there are any. Every process must ask for it."""
        model = self.model if self.ema is None else self.ema.model
        return model if self._plain is None else self._plain.of(model)

    def describe(self) -> list[str]:
        """Lines that say how the run computes and learns, with the numbers."""
        plan, optim = self.loader.plan, self.config.optim
        slow = self.config.run.precision == "auto" and self.engine.device.type == "cpu" and multiplies_bfloat16()
        return [
            f"computing on {self.engine.describe()}",
            *(["this processor multiplies faster in bfloat16: try run.precision=bfloat16"] if slow else ()),
            f"batch {plan.global_batch_size} = {plan.batch_size} clips x {plan.accumulation_steps} passes x "
            f"{self.engine.world_size} processes; {self.loader.num_steps} steps an epoch, {optim.epochs} epochs",
            describe_lr(optim, num_steps=self.num_steps, num_warmup_steps=self._num_warmup_steps),
        ]

    def resume(self) -> bool:
        """Go on from the latest whole training state of the folder, if there is one; the same in all processes.

        Raises:
            RunError: The data has changed since, the state does not fit, or there is none beside the weights.
        """
        found = load_latest(self.folder.checkpoints) if self.engine.is_main else None
        # Other machines may not see the newest file yet, or see it half: they are told which one it is.
        step = self._boundary.largest(-1 if found is None else found[0])[0]
        if step < 0:
            if self.folder.weights.exists():
                raise RunError(
                    f"{self.folder.path} holds weights, but its {self.folder.checkpoints.name} are gone, so it cannot "
                    "go on; use the weights as they are, or start a new run in another folder"
                )
            return False
        state = load_state(state_path(self.folder.checkpoints, step)) if found is None else found[1]
        require_known_format(state, self.folder)
        if state["data_digest"] != self._data_digest:
            raise RunError(
                f"{self.folder.path}: the data has changed since this run was started, so it cannot go on as it was; "
                "restore the data, or start a new run in another folder"
            )
        try:
            load_whole_state(self.model, self._optimizer, state["model"], state["optimizer"])
        except (RuntimeError, ValueError, KeyError) as error:
            raise RunError(f"{self.folder.checkpoints}: the saved state does not fit this model: {error}") from None
        if self.ema is not None:
            self.ema.load_state_dict(state["ema"])
        self._health.load_state_dict(state["health"])
        self.step = self._saved_step = step
        trained = self.trained
        # A run that was killed between the two has weights of an earlier state.
        if self.engine.is_main and not self._health.is_skipping:
            self._on_save(trained)
        return True

    def run(self, loss_function: LossFunction, description: str, on_epoch: EpochHook | None = None) -> None:
        """Train from the current step to the last.

        Args:
            loss_function: From the wrapped model, a batch and what is drawn for it on the device to its loss.
            description: For the progress bar.
            on_epoch: Called after each epoch with its number (from 1) and the network to evaluate; its numbers are
                logged. When a run was stopped before they were, it is called again for that epoch.

        Raises:
            ConfigError: A step cannot be recorded, where that is asked for.
            RunError: Loss or gradient are not finite in too many steps in a row, another process is gone, or the
                folder cannot be written to; what was saved stays intact.
            RunInterruptedError: A process was asked to stop; the state is saved.
            DataError: Too many videos cannot be read.
        """
        one_pass = self._make_pass(loss_function)
        first_epoch, first_step = divmod(self.step, self.loader.num_steps)
        self._on_epoch = on_epoch
        run = self.config.run
        with ExitStack() as stack:
            stack.enter_context(self.watched())
            log = progress = None
            if self.engine.is_main:  # one process writes and shows
                log = stack.enter_context(MetricsLog(self.folder, tensorboard=run.tensorboard, trackers=run.trackers))
                log.truncate_from(self.step)
                progress = stack.enter_context(Progress(description, self.num_steps, first_step=self.step))
            if first_epoch and not first_step:  # was the evaluation of this epoch finished, before the run stopped?
                is_done = log is not None and log.holds_evaluation(self.step - 1)
                if not self._boundary.largest(int(is_done))[0]:
                    self._evaluate(first_epoch, log)
            for epoch in range(first_epoch, self.config.optim.epochs):
                batches = until_asked(self.loader.epoch(epoch, first_step if epoch == first_epoch else 0))
                self._run_epoch(one_pass, batches, log, progress)
                self.loader.hear(gather_values(self.loader.failed))
                self._evaluate(epoch + 1, log)

    def _make_pass(self, loss_function: LossFunction) -> Pass:
        if not self.config.run.cuda_graphs:
            return PlainPass(self.engine, self._wrapped, loss_function)
        num_passes = self.loader.plan.accumulation_steps
        return RecordedPass(self.engine, self._wrapped, loss_function, num_passes=num_passes)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Context of what all processes do together, in training and after it: who dies in it is named by the others.

        Raises:
            RunError: Another process is gone.
        """
        with patiently(), self._health.watching(self.step):  # what is lost is looked into without being interrupted
            yield

    def save(self) -> None:
        """Write the training state, and the weights beside it, in the main process. Every process must call it.

        Raises:
            RunError: The weights are not finite, the folder is gone or cannot be written to.
        """
        self._health.require_finite_weights(self.step)
        model, optimizer = whole_state(self.model, self._optimizer)
        state: dict[str, Any] = {
            "model": model,
            "optimizer": optimizer,
            "ema": None if self.ema is None else self.ema.state_dict(),
            "data_digest": self._data_digest,
            "format_version": STATE_FORMAT,
            "health": self._health.state_dict(),
        }
        trained = self.trained
        if self.engine.is_main:
            self._write(state, trained)
        self._saved_step = self.step
        self._boundary.saved()

    def _write(self, state: dict[str, Any], trained: nn.Module) -> None:
        if not self.folder.path.is_dir():
            raise folder_is_gone(self.folder.path)
        # While steps are skipped, these may be weights that nothing can be computed with: what is from before stays.
        is_good = not self._health.is_skipping
        with writing(self.folder.checkpoints):
            save_state(
                self.folder.checkpoints, self.step, state, self.config.run.keep_checkpoints if is_good else sys.maxsize
            )
        if is_good or self.step == self.num_steps:
            self._on_save(trained)

    def _evaluate(self, epoch: int, log: MetricsLog | None) -> None:
        """Call the hook after an epoch, whose state is saved if it evaluates."""
        if self._on_epoch is None:
            return
        self._health.reach(self.step)
        was_abandoned, numbers = False, {}
        try:
            numbers = self._on_epoch(epoch, self.trained)
        except RunInterruptedError:
            was_abandoned = True
        if log is not None and numbers:
            log.write(self.step - 1, epoch, **numbers)
        self._between_steps(log, was_abandoned=was_abandoned)

    def _between_steps(self, log: MetricsLog | None, *, was_abandoned: bool = False) -> None:
        """Save where it is due, and stop where a process was asked to."""
        answer = self._boundary.ask(self.step, was_abandoned=was_abandoned)
        if self.step != self._saved_step and (answer.save or answer.asked or self._saves_epoch()):
            if log is not None and self.folder.path.is_dir():  # else saving says so
                log.sync()  # the lines of these steps are not written again
            self.save()
        if answer.asked and (self.step < self.num_steps or answer.was_abandoned):
            saved = f"step {self.step:,} of {self.num_steps:,} is saved in {self.folder.checkpoints}"
            raise interruption(answer.asked, saved + ", an evaluation was broken off" * answer.was_abandoned)

    def _saves_epoch(self) -> bool:
        """Whether the last step was the last of an epoch after which the state is saved."""
        epoch, num_more = divmod(self.step, self.loader.num_steps)
        run = self.config.run
        if num_more:
            return False
        evaluates = self._on_epoch is not None and run.evaluate_every_epochs and not epoch % run.evaluate_every_epochs
        return bool(evaluates) or epoch == self.config.optim.epochs or not epoch % run.save_every_epochs

    def _write_current(self, path: Path) -> None:
        """Write the weights as they are, not averaged; every process must call it."""
        model = self.model if self._plain is None else self._plain.of(self.model)
        if self.engine.is_main:
            self._write_weights(model, path)

    def _run_epoch(
        self,
        one_pass: Pass,
        batches: Iterator[Batch],
        log: MetricsLog | None,
        progress: Progress | None,
    ) -> None:
        self.model.train()
        last_step = (self.step // self.loader.num_steps + 1) * self.loader.num_steps
        timer = StepTimer()
        while self.step < last_step:
            try:
                loss, tokens_here, grad_norm, lr = self._run_step(one_pass, batches, timer)
            except RunInterruptedError:  # before a pass: the step is dropped
                self._optimizer.zero_grad(set_to_none=True)
                self._between_steps(log)
                raise
            self.step += 1
            if self.step % self.config.run.log_every_steps == 0 or self.step == last_step:
                numbers = {"loss": self.engine.mean(loss).item(), "grad_norm": grad_norm.item(), "lr": lr}
                tokens = self.engine.mean(torch.tensor(tokens_here, device=self.engine.device))
                numbers |= {"tokens_per_clip": tokens.item()}
                numbers |= timer.rates(self.engine.world_size)
                healthy, spike = self._health.report(numbers["wait_share"])
                numbers |= healthy
                if spike:
                    self._tell(spike)
                if log is not None and progress is not None:
                    log.write(self.step - 1, self.step / self.loader.num_steps, **numbers)
                    progress.update(self.step, **{k: v for k, v in numbers.items() if k not in self._not_shown})
                timer = StepTimer()
            self._between_steps(log)
        next(batches, None)  # lets the loader end its epoch

    def _run_step(
        self, one_pass: Pass, batches: Iterator[Batch], timer: StepTimer
    ) -> tuple[Tensor, float, Tensor, float]:
        """One optimiser step; returns loss, tokens of a clip, gradient norm and learning rate.

        Nothing in it may wait for a GPU: steps are asked for ahead of it.
        """
        passes = self.loader.plan.accumulation_steps
        total = torch.zeros((), device=self.engine.device)
        tokens = 0.0
        taken, losses = [], []
        for number in range(passes):
            batch = timer.wait_for(batches)
            self._boundary.before_pass()
            assert batch is not None  # noqa: S101 - for the type checker: only who is asked to stop has none
            draws = self._draws_of(batch)
            self._health.working_on(self.step, batch)
            found = one_pass(batch, draws, num_passes=passes, sync=number == passes - 1)
            taken.append(without_frames(batch))
            losses.append(found.value.detach())
            total += found.value.detach() / passes
            tokens += found.tokens_per_clip / passes
        grad_norm = self.engine.clip(self._wrapped, self.config.optim.clip_grad_norm)
        lr = self._learning_rate()
        set_learning_rate(self._optimizer, lr)
        self._health.update(Computed(self.step, lr, taken, losses, grad_norm))
        return total, tokens, grad_norm, lr

    def _draws_of(self, batch: Batch) -> ClipDraws:
        """What is random in a pass: it belongs to the clips, so it is the same on any number of processes."""
        assert batch.seeds is not None  # noqa: S101 - for the type checker: the loader of a run gives them
        return ClipDraws(batch.seeds, seed_of_step(self.config.run.seed, self.step), self.engine.device)

    def _learning_rate(self) -> float:
        optim = self.config.optim
        return learning_rate_at(
            self.step,
            peak_lr=scaled_lr(optim.base_lr, optim.global_batch_size),
            min_lr=scaled_lr(min(optim.min_lr, optim.base_lr), optim.global_batch_size),
            num_steps=self.num_steps,
            num_warmup_steps=self._num_warmup_steps,
        )
