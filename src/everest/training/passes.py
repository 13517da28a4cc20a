"""One forward and backward pass of a run: asked for operation by operation, or recorded once and replayed.

Shapes: B clips.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from everest.datasets import Batch
from everest.draws import ClipDraws
from everest.errors import ConfigError
from everest.models.dropping import drawing, find_dropping
from everest.training.engine import Engine
from everest.training.health import spoilt
from everest.training.recording import GpuRecorder, Record, Recording


class BatchLoss(NamedTuple):
    """What a forward pass gives.

    Attributes:
        value: The loss, a scalar.
        tokens_per_clip: Tokens that were encoded and predicted, on average over the clips of the batch.
    """

    value: Tensor
    tokens_per_clip: float


LossFunction = Callable[[nn.Module, Batch, torch.Generator | ClipDraws], BatchLoss]


@dataclass(frozen=True)
class StepLoss:
    """A loss function in two parts, so that the second can be recorded: it only computes, and alike for every batch.

    Attributes:
        prepare: From a batch and what is drawn for it to tensors on the device. It draws no numbers of ``ClipDraws``.
        compute: From the network as it is called (wrapped for several devices), these tensors, the batch and what is
            drawn to the loss.
    """

    prepare: Callable[[Batch, torch.Generator | ClipDraws], tuple[Tensor, ...]]
    compute: Callable[[nn.Module, tuple[Tensor, ...], Batch, torch.Generator | ClipDraws], BatchLoss]

    def __call__(self, wrapped: nn.Module, batch: Batch, draws: torch.Generator | ClipDraws) -> BatchLoss:
        """Both, one after the other."""
        return self.compute(wrapped, self.prepare(batch, draws), batch, draws)


class Pass(Protocol):
    """One forward and backward pass."""

    def __call__(self, batch: Batch, draws: ClipDraws, *, num_passes: int, sync: bool) -> BatchLoss:
        """Add the gradients of a batch to those of the network.

        Args:
            batch: As the loader gives it.
            draws: Of its clips.
            num_passes: Of the step, which averages them.
            sync: Whether this is the last of them.
        """


class PlainPass:
    """A pass as PyTorch computes it.

    Args:
        engine: Of the run.
        wrapped: The network as it is called.
        loss_function: Of the run.
    """

    def __init__(self, engine: Engine, wrapped: nn.Module, loss_function: LossFunction) -> None:
        self._engine, self._wrapped, self._loss_function = engine, wrapped, loss_function
        self._dropping = find_dropping(wrapped)

    def __call__(self, batch: Batch, draws: ClipDraws, *, num_passes: int, sync: bool) -> BatchLoss:
        """See :class:`Pass`."""
        with drawing(self._dropping, draws), self._engine.accumulate(self._wrapped, sync=sync):
            with self._engine.autocast():
                found = self._loss_function(self._wrapped, batch, draws)
            self._engine.backward(spoilt(found.value) / num_passes)
        return found


class RecordedPass:
    """The same numbers from a CUDA graph: the processor asks for a pass as a whole, not for each of its operations.

    With a small network or few tokens, a step on a fast GPU is otherwise as long as it takes to ask for it.

    Args:
        engine: Of the run, on one GPU.
        wrapped: The network as it is called.
        loss_function: Its second part is recorded.
        num_passes: Of a step.
        record: What records; None: a GPU.

    Raises:
        ConfigError: Not on an NVIDIA GPU, several processes, several passes, or a loss that is not in two parts.
    """

    def __init__(
        self,
        engine: Engine,
        wrapped: nn.Module,
        loss_function: LossFunction,
        *,
        num_passes: int = 1,
        record: Record | None = None,
    ) -> None:
        if record is None and engine.device.type != "cuda":
            raise ConfigError(f"run.cuda_graphs=true needs an NVIDIA GPU, this run is on {engine.device.type}")
        if engine.world_size > 1 or not isinstance(loss_function, StepLoss):
            raise ConfigError("run.cuda_graphs=true is for one process and a loss in two parts: use false")
        if num_passes > 1:
            raise ConfigError(
                f"run.cuda_graphs=true takes a step in one pass, given: {num_passes}. Raise data.batch_size to "
                "optim.global_batch_size, or use run.cuda_graphs=false"
            )
        self._engine, self._wrapped, self._loss = engine, wrapped, loss_function
        self._dropping = find_dropping(wrapped)
        self._recording = Recording(wrapped.parameters(), record or GpuRecorder(engine.device))
        self._tokens_per_clip = 0.0

    def __call__(self, batch: Batch, draws: ClipDraws, *, num_passes: int, sync: bool) -> BatchLoss:
        """See :class:`Pass`; it is the only one of its step.

        Raises:
            ConfigError: It cannot be recorded.
        """
        del num_passes, sync

        def work(seeds: Tensor, *inputs: Tensor) -> Tensor:
            again = ClipDraws(seeds, device=seeds.device)
            with drawing(self._dropping, again):
                with self._engine.autocast():
                    found = self._loss.compute(self._wrapped, inputs, batch, again)
                self._engine.backward(spoilt(found.value))
            self._tokens_per_clip = found.tokens_per_clip
            return found.value.detach()

        value = self._recording(work, (draws.placed, *self._loss.prepare(batch, draws)))
        return BatchLoss(value, self._tokens_per_clip)
