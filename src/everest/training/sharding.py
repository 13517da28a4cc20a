"""Weights, gradients and optimiser state divided over the processes: PyTorch's FSDP2.

Every block is gathered when it computes and divided again afterwards; what is not in a block stays gathered for the
length of a step, because token selection looks at the embedding before the forward pass.
"""

import copy
import warnings
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_state_dict,
    set_model_state_dict,
    set_state_dict,
)
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.optim import Optimizer

from everest.models.recomputing import BlockBase

_WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True)


def shard(model: nn.Module, device: torch.device, world_size: int) -> nn.Module:
    """Divide a model over the processes, in place; its parameters become other objects of the same names.

    Args:
        model: On the device, the same in every process.
        device: Of this process.
        world_size: Number of processes.
    """
    # What a model gives is only read, so nothing in place can take the hook off it.
    warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view tensor")
    mesh = init_device_mesh(device.type, (world_size,))
    for module in model.modules():
        if isinstance(module, BlockBase):
            fully_shard(module, mesh=mesh)
    return cast(nn.Module, fully_shard(model, mesh=mesh))


def is_sharded(model: nn.Module) -> bool:
    """Whether a model is divided."""
    return isinstance(model, FSDPModule)


def whole_model_state(model: nn.Module) -> dict[str, Any]:
    """Give the weights by their names, on the CPU; see :func:`whole_state`."""
    return dict(get_model_state_dict(model, options=_WHOLE))


def whole_state(model: nn.Module, optimizer: Optimizer) -> tuple[dict[str, Any], dict[str, Any]]:
    """Give the states of model and optimiser by the names of the parameters, on the CPU.

    They are the same whether the model is divided, and over how many processes. Every process must call it; those
    that are not the main one get nothing of a divided model.
    """
    state, of_optimizer = get_state_dict(model, optimizer, options=_WHOLE)
    return dict(state), dict(of_optimizer)


def load_whole_state(
    model: nn.Module, optimizer: Optimizer, state: Mapping[str, Any], of_optimizer: Mapping[str, Any]
) -> None:
    """Take in what :func:`whole_state` gave in the main process; every process must have all of it."""
    set_state_dict(
        model,
        optimizer,
        model_state_dict=dict(state),
        optim_state_dict=cast("dict[str, Any]", dict(of_optimizer)),
        options=StateDictOptions(full_state_dict=True),
    )


def load_whole_model_state(model: nn.Module, state: Mapping[str, Any]) -> None:
    """Take in what :func:`whole_model_state` gave in the main process; every process must have all of it.

    Raises:
        RuntimeError: The state belongs to another network.
    """
    set_model_state_dict(model, dict(state), options=StateDictOptions(full_state_dict=True))


class PlainCopy:
    """A plain network beside a divided one, for evaluation and for files.

    Args:
        model: Before it is divided.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = copy.deepcopy(model).to("cpu").eval()

    def of(self, model: nn.Module) -> nn.Module:
        """Take the weights of a divided model over: every process must call it, and gets the whole network."""
        device = next(model.parameters()).device
        state = get_model_state_dict(model, options=StateDictOptions(full_state_dict=True))
        self._model.to(device).load_state_dict(state)
        return self._model
