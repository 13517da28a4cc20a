"""Steps that were skipped: counted, told, written down to be repeated, and not too many in a row."""

import json
import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from everest.config import FinetuneConfig, PretrainConfig
from everest.datasets import Batch, TrainLoader
from everest.errors import EverestError, RunError
from everest.training.engine import Engine
from everest.training.environment import package_versions
from everest.training.files import list_files
from everest.training.processes import gather_values
from everest.training.replay_files import (
    Replay,
    prune_replays,
    replay_pass,
    replay_path,
    weights_path,
    write_replay,
)
from everest.training.rundir import DATA_NAME, RunFolder

ADVICE = "Start a new run with a lower optim.base_lr, with optim.clip_grad_norm=1, or with run.precision=float32"
_NUM_RANKS = 3  # that a line names


@dataclass(frozen=True, eq=False, repr=False)
class Computed:
    """An optimiser step between its backward passes and the change of the weights.

    Attributes:
        step: Its number, from 0.
        learning_rate: That it is to have.
        batches: Of each pass, :func:`without_frames`.
        losses: Of each pass, scalars.
        grad_norm: Of all processes together, a scalar.
    """

    step: int
    learning_rate: float
    batches: Sequence[Batch]
    losses: Sequence[Tensor]
    grad_norm: Tensor


def without_frames(batch: Batch) -> Batch:
    """Keep what names the clips of a batch; the memory of their frames is wanted for others."""
    return replace(batch, frames=torch.empty(0), changes=(), motion=None)


class SkippedSteps:
    """Keeps account of the steps that were skipped.

    Args:
        config: The run.
        engine: Where it computes.
        folder: Its folder.
        loader: Its data.
        write_weights: Writes the network to a file, with all that is needed to build it; called in every process.
        tell: Takes lines for people and the log.

    Attributes:
        total: Steps skipped in the whole run.
        in_a_row: Steps skipped since the last one that was made.
    """

    def __init__(
        self,
        config: PretrainConfig | FinetuneConfig,
        engine: Engine,
        folder: RunFolder,
        loader: TrainLoader,
        *,
        write_weights: Callable[[Path], None],
        tell: Callable[[str], None],
    ) -> None:
        self._config, self._engine, self._folder, self._loader = config, engine, folder, loader
        self._write_weights, self._tell = write_weights, tell
        self._weights_step: int | None = None  # whose weights this start has written, the same in all processes
        self.total = self.in_a_row = 0

    def add(self, computed: Computed, grad_norm: float, losses: list[float]) -> None:
        """Count a step that was not made, say so, and write down what it was; every process calls it.

        Args:
            computed: The step.
            grad_norm: Not finite.
            losses: Of the passes of this process.

        Raises:
            RunError: More than ``run.max_skipped_steps`` steps in a row were skipped.
        """
        self.total += 1
        self.in_a_row += 1
        limit, step = self._config.run.max_skipped_steps, computed.step
        files = files_of(computed.batches, self._loader)
        everybody = gather_values([losses, files])
        guilty = [rank for rank, (seen, _) in enumerate(everybody) if not all(map(math.isfinite, seen))]
        ranks = guilty or list(range(len(everybody)))
        named = "; ".join(
            f"rank {rank}, loss {_mean(everybody[rank][0]):.4g}, files {list_files(everybody[rank][1])}"
            for rank in ranks[:_NUM_RANKS]
        )
        more = f"; and {len(ranks) - _NUM_RANKS} more ranks" if len(ranks) > _NUM_RANKS else ""
        written = self._record(computed, grad_norm, losses, is_guilty=self._engine.rank in ranks)
        example = replay_path(self._folder.replays, step, ranks[0])
        look = f"; everest replay {example} repeats it" if written else ""
        self._tell(
            f"step {step:,} was skipped ({self.in_a_row} in a row, where {limit} may be): gradient norm "
            f"{grad_norm:.4g}; {named}{more}{look}"
        )
        if self.in_a_row > limit:
            raise self._too_many(step)

    def _record(self, computed: Computed, grad_norm: float, losses: list[float], *, is_guilty: bool) -> bool:
        """Write the replay file of this process and, in the main one, the weights; a full disk is only told."""
        folder, step = self._folder.replays, computed.step
        if self.in_a_row == 1 or self._weights_step is None:
            self._weights_step = step  # of the steps that are skipped after this one too: nothing changes them
        try:
            if self._weights_step == step:  # first of all: processes that divide the weights bring them together here
                self._write_weights(weights_path(folder, step))
            with suppress(FileExistsError):
                folder.mkdir()
            if is_guilty:
                write_replay(folder, self._replay_of(computed, grad_norm, losses))
            if self._engine.is_main:
                prune_replays(folder)
        except (OSError, EverestError) as error:
            self._tell(f"no replay file of step {step:,}: {error}")
            return False
        return True

    def _replay_of(self, computed: Computed, grad_norm: float, losses: list[float]) -> Replay:
        config, loader = self._config, self._loader
        data = json.loads((self._folder.path / DATA_NAME).read_text(encoding="utf-8"))
        passes = zip(computed.batches, loader.sampler.keys_of(computed.step), losses, strict=True)
        repeats = config.data.clips_per_video
        return Replay(
            step=computed.step,
            rank=self._engine.rank,
            world_size=self._engine.world_size,
            grad_norm=grad_norm,
            learning_rate=computed.learning_rate,
            precision=str(self._engine.dtype).removeprefix("torch."),
            device=self._engine.device.type,
            passes=tuple(replay_pass(batch, keys, loss, loader.records, repeats) for batch, keys, loss in passes),
            weights=weights_path(self._folder.replays, self._weights_step or 0).name,
            data_source=data["source"],
            data_digest=data["part_digest"],
            config=config,
            versions=package_versions(),
        )

    def _too_many(self, step: int) -> RunError:
        first = step - self.in_a_row + 1
        states = sorted(path.name for path in self._folder.checkpoints.glob("step-*"))
        after = f"step-{first:08d}"
        good = [name for name in states if name < after]
        bad = [name for name in states if name >= after]
        kept = f"{self._folder.checkpoints / good[-1]} is from before that" if good else "none is from before"
        drop = f"; to go on from there, delete {', '.join(bad)}" if good and bad else ""
        return RunError(
            f"{self.in_a_row} steps in a row were skipped because loss or gradient were not finite, from step "
            f"{first:,} on (run.max_skipped_steps={self._config.run.max_skipped_steps}). Of the training states "
            f"{kept}{drop}. {ADVICE}"
        )


def files_of(batches: Sequence[Batch], loader: TrainLoader) -> list[str]:
    """Name the videos of batches, each once."""
    indices = (index for batch in batches for index in batch.record_indices.tolist())
    return list(dict.fromkeys(str(loader.records[index].source) for index in indices))


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
