"""What keeps a long run well: steps that are not finite are skipped, spikes and processes that die are named.

A step counts, whether it was made or skipped: the clips of the next one and its learning rate are the same either way.

How processes agree, and what that costs: a loss that is not finite makes its own gradients so (:func:`spoilt`), and the
average over the processes carries that to all of them. So the norm of the averaged gradient, which all have anyway,
tells every process the same, and nothing more is exchanged. On a GPU nobody waits for it: fused AdamW is given the
verdict as a tensor and leaves weights and moments alone where it is bad (what PyTorch's gradient scaler does), and the
program reads the number when the gradients of the next step are on their way (:meth:`Health.settle`).
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from everest.datasets import Batch, TrainLoader
from everest.errors import RunError, is_lost_connection
from everest.training.ema import Ema
from everest.training.engine import Engine
from everest.training.environment import memory_used
from everest.training.files import list_files
from everest.training.heartbeats import Heart, lost_processes
from everest.training.processes import gather_rows, gather_values
from everest.training.rundir import RunFolder
from everest.training.skipping import ADVICE, Computed, SkippedSteps, files_of
from everest.training.spikes import WINDOW, Spike, SpikeDetector


def spoilt(loss: Tensor) -> Tensor:
    """Give a loss whose gradients are as finite as its value: a finite one to the bit, else none is.

    A sum of squares can overflow while its gradient does not. Only gradients reach the other processes.
    """
    return loss * (loss.detach() * 0 + 1)  # 0 times infinity is NaN


@dataclass(frozen=True, eq=False, repr=False)
class _Pending:
    """A step whose numbers are on their way: the norm of the gradient, then the loss of each pass."""

    computed: Computed
    numbers: Tensor
    arrived: torch.cuda.Event | None = None


class Health:
    """Looks after one run, in every process of it.

    Args:
        engine: Where it computes.
        folder: Its folder.
        loader: Its data.
        skipped: Keeps account of skipped steps.
        model: The plain network.
        optimizer: Makes the steps.
        ema: Averaged weights.
        replays: Whether steps are replayed from CUDA graphs.
    """

    def __init__(
        self,
        engine: Engine,
        folder: RunFolder,
        loader: TrainLoader,
        skipped: SkippedSteps,
        *,
        model: nn.Module,
        optimizer: Optimizer,
        ema: Ema | None,
        replays: bool = False,
    ) -> None:
        self._engine, self._folder, self._loader, self._skipped = engine, folder, loader, skipped
        self._model, self._ema, self._replays = model, ema, replays
        self._optimizer: Any = optimizer
        self._heart = Heart(folder.path, engine.rank)
        self._spikes = SpikeDetector()
        self._worst: tuple[Spike, list[str]] | None = None
        self._pending: _Pending | None = None
        self._step = 0  # what is worked on
        self._defers = engine.device.type == "cuda" and bool(optimizer.defaults.get("fused"))

    @property
    def is_skipping(self) -> bool:
        """Whether the last step was skipped: what is saved now may be of weights that no clip is computed with."""
        self.settle()
        return self._skipped.in_a_row > 0

    def state_dict(self) -> dict[str, int]:
        """What a resumed run has to know."""
        self.settle()
        return {"skipped_steps": self._skipped.total, "in_a_row": self._skipped.in_a_row}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on from what was saved."""
        self._skipped.total, self._skipped.in_a_row = state["skipped_steps"], state["in_a_row"]

    @contextmanager
    def watching(self, step: int) -> Iterator[None]:
        """Context of what all processes do together: says what becomes of this process, and what became of others.

        Args:
            step: Optimiser steps done.

        Raises:
            RunError: Another process is gone.
        """
        self._step = step
        self._heart.begin(step)
        try:
            yield
        except BaseException as error:
            self._heart.end(f"{type(error).__name__}: {error}")
            if self._engine.world_size > 1 and is_lost_connection(error):
                rank, size = self._engine.rank, self._engine.world_size
                raise lost_processes(self._folder.path, rank, size, self._step, error) from error
            raise
        self._heart.end()

    def working_on(self, step: int, batch: Batch) -> None:
        """Note what this process is about to compute.

        Raises:
            RunError: The folder of the run is gone.
        """
        self._step = step
        self._heart.beat(step, lambda: files_of([batch], self._loader))

    def reach(self, step: int) -> None:
        """Note that so many steps are done, and that what comes now is none."""
        self._step = step
        self._heart.reach(step)

    def update(self, computed: Computed) -> None:
        """Make a step, or skip it where loss or gradient are not finite; the gradients are gone afterwards.

        Raises:
            RunError: More than ``run.max_skipped_steps`` steps in a row were skipped.
        """
        self.settle()
        numbers = torch.stack([each.detach().float() for each in (computed.grad_norm, *computed.losses)])  # [1+passes]
        arrived = None
        if self._defers:
            self._optimizer.found_inf = (~computed.grad_norm.isfinite()).float()  # as PyTorch's gradient scaler does
            self._optimizer.step()
            numbers = numbers.to("cpu", non_blocking=True)
            if computed.grad_norm.is_cuda:
                arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
                arrived.record()
        elif math.isfinite(computed.grad_norm.item()):
            self._optimizer.step()
        self._pending = _Pending(computed, numbers, arrived)
        self._optimizer.zero_grad(set_to_none=True)
        if not self._defers:
            self.settle()

    def settle(self) -> None:
        """Finish the last step: average the weights, or say that it was skipped.

        It comes before anything that looks at the weights: the next step, a line of metrics, saving.

        Raises:
            RunError: More than ``run.max_skipped_steps`` steps in a row were skipped.
        """
        pending, self._pending = self._pending, None
        if pending is None:
            return
        if pending.arrived is not None:
            pending.arrived.synchronize()
        grad_norm, *losses = pending.numbers.tolist()
        if not math.isfinite(grad_norm):
            self._skipped.add(pending.computed, grad_norm, losses)
            return
        self._skipped.in_a_row = 0
        if self._ema is not None:
            self._ema.update(self._model)
        spike = self._spikes.feed(pending.computed.step, sum(losses) / len(losses))
        if spike is not None and (self._worst is None or spike.deviations > self._worst[0].deviations):
            self._worst = spike, files_of(pending.computed.batches, self._loader)

    def report(self, wait_share: float) -> tuple[dict[str, float], str]:
        """Give numbers for a line of metrics, and name the highest spike since the last; every process calls it.

        Args:
            wait_share: Share of the time that this process has waited for data, 0 to 1.

        Returns:
            ``skipped_steps`` of the whole run; of all processes the largest ``wait_share`` (the others wait for that
            one) and, on a GPU, the highest ``gpu_memory_gb`` since the last line; and a line on the spike, empty where
            there was none.
        """
        self.settle()
        worst, self._worst = self._worst, None
        memory = memory_used(self._engine.device, of_graphs=self._replays)
        shared = {"wait_share": wait_share} | memory  # of the same names everywhere
        own = [*([0.0] * 4 if worst is None else worst[0].to_numbers()), *shared.values()]
        found = gather_rows(torch.tensor([own], dtype=torch.float64)).tolist()  # of each process, 5 or 6 numbers
        largest = [max(column) for column in list(zip(*found, strict=True))[4:]]
        numbers = {"skipped_steps": float(self._skipped.total)} | dict(zip(shared, largest, strict=True))
        rank = max(range(len(found)), key=lambda number: found[number][0])
        above, step, loss, usual = found[rank][:4]
        if not above:
            return numbers, ""
        files = gather_values([] if worst is None else worst[1])[rank]
        return numbers, (
            f"loss {loss:.4g} of rank {rank} at step {int(step):,} is far above the usual {usual:.4g} "
            f"({above:.0f} deviations; usual is the median of {WINDOW} steps before it), files {list_files(files)}"
        )

    def require_finite_weights(self, step: int) -> None:
        """Refuse to save what cannot be gone on from; every process calls it.

        Raises:
            RunError: A weight is not finite.
        """
        self.settle()
        networks = [self._model] if self._ema is None else [self._model, self._ema.model]
        names = [name for network in networks for name in not_finite(network.state_dict())]
        if any(gather_values(len(names))):
            named = f" ({list_files(names)})" if names else ""
            raise RunError(
                f"weights are not finite after step {step:,}{named}, though loss and gradient were: nothing was saved, "
                f"and the training states in {self._folder.checkpoints} are from before. {ADVICE}"
            )


def not_finite(tensors: Mapping[str, Tensor]) -> list[str]:
    """Name the tensors that hold a number that is not finite, of a divided one in the part of this process.

    The smallest and the largest number of each say it: forty times as fast as looking at each by itself, and one wait
    for the device.
    """
    local = {
        name: value.to_local() if isinstance(value, DTensor) else value.detach()
        for name, value in tensors.items()
        if value.is_floating_point()
    }
    ends = {name: torch.stack(value.aminmax()).float() for name, value in local.items() if value.numel()}  # [2] each
    if not ends:
        return []
    found = torch.stack(list(ends.values())).isfinite().all(dim=1).tolist()
    return [name for name, is_fine in zip(ends, found, strict=True) if not is_fine]
