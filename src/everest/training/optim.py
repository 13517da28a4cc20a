"""AdamW with no decay for vectors and, in fine-tuning, a smaller learning rate for earlier layers."""

import re
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.optim import AdamW, Optimizer

from everest.config import OptimConfig
from everest.errors import ConfigError
from everest.training.schedule import scaled_lr

NO_DECAY_NAMES = frozenset(
    {"mask_token", "mask_token_img", "mask_token_vid"}
)  # vectors in meaning, though not in shape

_PLACES = re.compile(r"(encoder\.)?places\.")  # learned positions and class tokens: vectors too
_FIRST = re.compile(r"(encoder\.)?(patch_embed|stem|places)\.")
_BLOCK = re.compile(r"(encoder\.)?blocks\.(\d+)\.")


def parameter_groups(model: nn.Module, *, weight_decay: float, layer_decay: float, depth: int) -> list[dict[str, Any]]:
    """Sort the trainable parameters by weight decay and learning rate.

    Weight decay acts on matrices and kernels; biases, norms, learned positions and special tokens have none. With
    ``layer_decay`` d below 1 the rate of layer i of ``depth + 2`` is scaled by d^(depth + 1 - i): the embedding with
    what places it is layer 0, block i is layer i + 1, and everything else (last norm, head, decoder) is the last
    layer with scale 1.

    Args:
        model: The network before it is compiled or wrapped for several devices.
        weight_decay: Decay of matrices.
        layer_decay: Factor from one layer to the one before, above 0 and at most 1.
        depth: Number of encoder blocks.

    Returns:
        Groups for an optimiser, in the order in which their first parameter appears. Each has ``name``, ``params``,
        ``param_names``, ``weight_decay`` and ``lr_scale``.

    Raises:
        ConfigError: Nothing is trainable, or the encoder does not have ``depth`` blocks.
    """
    if layer_decay < 1.0:
        _check_depth((name for name, _ in model.named_parameters()), depth)
    groups: dict[str, dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        decays = parameter.ndim > 1 and name not in NO_DECAY_NAMES and not _PLACES.match(name)
        key, scale = "decay" if decays else "no_decay", 1.0
        if layer_decay < 1.0:
            layer = _layer_of(name, depth)
            key, scale = f"layer_{layer}_{key}", layer_decay ** (depth + 1 - layer)
        group = groups.setdefault(
            key,
            {
                "name": key,
                "params": [],
                "param_names": [],
                "weight_decay": weight_decay if decays else 0.0,
                "lr_scale": scale,
            },
        )
        group["params"].append(parameter)
        group["param_names"].append(name)
    if not groups:
        raise ConfigError("the model has no trainable parameter: unfreeze some before building the optimiser")
    return list(groups.values())


def build_optimizer(model: nn.Module, config: OptimConfig, depth: int) -> AdamW:
    """Build the optimiser of a run, its learning rate set to the peak.

    Args:
        model: The network before it is compiled or wrapped for several devices.
        config: Rates, decay and betas.
        depth: Number of encoder blocks.

    Raises:
        ConfigError: See :func:`parameter_groups`.
    """
    groups = parameter_groups(model, weight_decay=config.weight_decay, layer_decay=config.layer_decay, depth=depth)
    devices = {parameter.device.type for group in groups for parameter in group["params"]}
    peak_lr = scaled_lr(config.base_lr, config.global_batch_size)
    # Elsewhere None leaves torch to choose between its implementations.
    fused = True if devices <= {"cpu", "cuda"} else None
    optimizer = AdamW(groups, lr=peak_lr, betas=config.betas, fused=fused)
    set_learning_rate(optimizer, peak_lr)
    return optimizer


def set_learning_rate(optimizer: Optimizer, lr: float) -> None:
    """Set the rate of the next step, times each group's ``lr_scale``.

    Args:
        optimizer: Made by :func:`build_optimizer`, prepared for several devices or not.
        lr: Rate of the last layer.
    """
    for group in optimizer.param_groups:
        rate = lr * group["lr_scale"]
        if isinstance(group["lr"], torch.Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


def _layer_of(name: str, depth: int) -> int:
    if _FIRST.match(name):
        return 0
    block = _BLOCK.match(name)
    return int(block[2]) + 1 if block else depth + 1


def _check_depth(names: Iterable[str], depth: int) -> None:
    """Refuse a model whose block names do not fit, since its layers would silently all get the full rate."""
    blocks = {int(block[2]) for name in names if (block := _BLOCK.match(name))}
    if blocks != set(range(depth)):
        raise ConfigError(
            f"layer decay needs encoder blocks 0 to {depth - 1}, but the model has {len(blocks)} "
            f"({', '.join(map(str, sorted(blocks))) or 'none'}): give the depth of the model before it is wrapped"
        )
