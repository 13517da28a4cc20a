"""Devices, precision, several processes and seeds: a thin layer over Accelerate.

Accelerate finds the device and the other processes and wraps the model for them. Mixed precision is torch's own
autocast around the forward pass: weights, gradients and optimiser state stay float32, and the model's forward method
is not replaced (as Accelerate's own mixed precision does), so the model can be copied, compiled and saved as it is.
"""

import atexit
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor

from everest.config import RunConfig
from everest.errors import ConfigError
from everest.training.environment import cpu_model
from everest.training.meeting import meeting_options
from everest.training.processes import leave
from everest.training.sharding import shard


@dataclass(frozen=True, eq=False, repr=False)
class Engine:
    """Where and how a run computes.

    Attributes:
        device: The device of this process.
        dtype: What matrix products compute in: bfloat16 (with float32 weights) or float32.
        rank: Number of this process, from 0.
        world_size: Number of processes.
        is_sharded: Whether the processes divide the weights between them.
    """

    device: torch.device
    dtype: torch.dtype
    rank: int
    world_size: int
    _accelerator: Any  # accelerate.Accelerator: imported late, and without types

    @classmethod
    def start(cls, run: RunConfig) -> "Engine":
        """Find the device and the other processes.

        Processes are started by ``accelerate launch`` or ``torchrun``. Their own mixed precision, compilation and
        accumulation settings are not used: the configuration of the run decides.

        Args:
            run: Device and precision.

        Raises:
            ConfigError: The device or the precision asked for is not available.
        """
        accelerator = _start_accelerator(run.device)
        device = accelerator.device
        if run.device not in ("auto", device.type):
            raise ConfigError(
                f"run.device={run.device} was asked for, but Accelerate chose {device.type}: "
                f"remove the ACCELERATE_* environment variables, or use run.device=auto"
            )
        return cls(
            device=device,
            dtype=choose_dtype(run.precision, device),
            rank=accelerator.process_index,
            world_size=accelerator.num_processes,
            _accelerator=accelerator,
            is_sharded=run.shard_weights and accelerator.num_processes > 1,
        )

    is_sharded: bool = False

    @classmethod
    def join(cls, run: RunConfig) -> "Engine | None":
        """Find the other processes for work that is not training, if there are any: ``torchrun`` starts them.

        Raises:
            ConfigError: As for :meth:`start`.
        """
        return cls.start(run) if int(os.environ.get("WORLD_SIZE", "1")) > 1 else None

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and prints."""
        return self.rank == 0

    def prepare(self, model: nn.Module) -> nn.Module:
        """Move a model to the device and connect it to the other processes.

        Args:
            model: The network; its parameters stay the same objects, unless the processes divide them (then build the
                optimiser afterwards).

        Returns:
            The model to call.
        """
        if self.is_sharded:
            return shard(model.to(self.device), self.device, self.world_size)
        return cast(nn.Module, self._accelerator.prepare_model(model))

    def autocast(self) -> AbstractContextManager[object]:
        """Context of the forward pass and the loss, in the precision of the run."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.dtype == torch.bfloat16)

    @contextmanager
    def accumulate(self, model: nn.Module, *, sync: bool) -> Iterator[None]:
        """Context of one forward AND backward pass of an optimiser step that has several.

        Without ``sync`` the gradients only add up in this process; the last pass of a step exchanges the sum between
        the processes. The forward pass must be inside: it is there that the exchange is decided.

        Args:
            model: The model that :meth:`prepare` gave.
            sync: Whether this is the last pass of the step.
        """
        if isinstance(model, FSDPModule):
            model.set_requires_gradient_sync(sync)
            model.unshard()  # token selection looks at the embedding before the forward pass
            yield
            return
        with nullcontext() if sync else self._accelerator.no_sync(model):
            yield

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of a loss to those of the parameters.

        Args:
            loss: A scalar, already divided by the number of passes of a step. Over several processes the gradients
                are averaged.
        """
        self._accelerator.backward(loss)

    def clip(self, model: nn.Module, max_norm: float | None) -> Tensor:
        """Measure the norm of all gradients together, and scale them down where it is too large.

        Args:
            model: A model after the backward pass.
            max_norm: Largest norm; None leaves the gradients alone.

        Returns:
            The norm before scaling, a float32 scalar on the device; not finite when a gradient is not.
        """
        parameters = [parameter for parameter in model.parameters() if parameter.grad is not None]
        gradients = [cast(Tensor, parameter.grad) for parameter in parameters]
        norm = torch.nn.utils.get_total_norm(gradients)
        if max_norm is not None:
            torch.nn.utils.clip_grads_with_norm_(parameters, max_norm, norm)
        return (norm.full_tensor() if isinstance(norm, DTensor) else norm).float()

    def mean(self, value: Tensor) -> Tensor:
        """Average a tensor over the processes; every process must call it."""
        return cast(Tensor, self._accelerator.reduce(value, reduction="mean"))

    def wait(self) -> None:
        """Wait until every process is here."""
        self._accelerator.wait_for_everyone()

    def unwrap(self, model: nn.Module) -> nn.Module:
        """Give the plain model, whose state dict has the names that files have.

        Args:
            model: A model that was prepared, compiled as a whole, or neither.
        """
        return cast(nn.Module, self._accelerator.unwrap_model(model, keep_torch_compile=False))

    def describe(self) -> str:
        """Say in one line what the run computes on."""
        if self.device.type == "cuda":
            name = torch.cuda.get_device_name(self.device)
        else:
            name = f"{cpu_model()}, {torch.get_num_threads()} threads"
        processes = f"{self.world_size} process{'es' if self.world_size > 1 else ''}"
        processes += " that divide the weights" if self.is_sharded else ""
        return f"{self.device.type} ({name}), {str(self.dtype).removeprefix('torch.')}, {processes}"

    def __repr__(self) -> str:
        return f"Engine({self.describe()})"


def choose_dtype(precision: str, device: torch.device) -> torch.dtype:
    """Decide what matrix products compute in.

    Args:
        precision: ``auto`` takes bfloat16 on accelerators that have it and float32 elsewhere; or ``float32`` or
            ``bfloat16`` as such. A CPU can compute in bfloat16, but is often slower in it.
        device: The device of the run.

    Raises:
        ConfigError: bfloat16 is asked for and the device does not have it, or there is no such precision.
    """
    if precision not in {"auto", "float32", "bfloat16"}:
        raise ConfigError(f"no precision {precision!r}: give auto, float32 or bfloat16")
    available = _has_bfloat16(device)
    if precision == "bfloat16" and not available:
        raise ConfigError(f"run.precision=bfloat16 is not available on this {device.type} device: use float32 or auto")
    if precision == "bfloat16" or (precision == "auto" and available and device.type != "cpu"):
        return torch.bfloat16
    return torch.float32


def seed_everything(seed: int) -> None:
    """Seed the global generators of Python, numpy and torch, the same in every process.

    Args:
        seed: From 0 to below 2^31.
    """
    from accelerate.utils.random import set_seed

    set_seed(seed)


def _has_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "mps":
        return bool(torch.backends.mps.is_macos_or_newer(14, 0))
    return device.type == "cpu"


def _start_accelerator(device: str) -> Any:
    """Make the Accelerator of a run; two runs in one process may differ in their device."""
    if (device == "cuda" and not torch.cuda.is_available()) or (
        device == "mps" and not torch.backends.mps.is_available()
    ):
        raise ConfigError(
            f"run.device={device} is not available with torch {torch.__version__} on this machine: "
            f"use run.device=auto or cpu"
        )
    from accelerate.accelerator import Accelerator
    from accelerate.state import AcceleratorState
    from accelerate.utils.dataclasses import GradientAccumulationPlugin

    # Accelerate keeps the first choice of a process for ever. Forgetting it leaves the processes connected.
    AcceleratorState._reset_state(reset_partial_state=True)
    # Left to find out that there is no accelerator, it would not connect the processes.
    is_found = torch.accelerator.is_available() or "ACCELERATE_TORCH_DEVICE" in os.environ
    on_cpu = device == "cpu" or (device == "auto" and not is_found)
    accelerator = Accelerator(
        cpu=on_cpu,
        mixed_precision="no",
        dynamo_backend="no",
        gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1, sync_with_dataloader=False),
        kwargs_handlers=meeting_options(),
    )
    num_started = int(os.environ.get("WORLD_SIZE", "1"))
    if num_started != accelerator.num_processes:
        raise ConfigError(
            f"{num_started} processes were started, but Accelerate sees {accelerator.num_processes}: start them with "
            "torchrun or accelerate launch, or unset WORLD_SIZE"
        )
    atexit.unregister(leave)
    atexit.register(leave)  # threads of a connection that is still open may abort a program that ends
    return accelerator
