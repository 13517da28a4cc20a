"""An exponential moving average of the weights, for evaluation."""

from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from everest.errors import ConfigError, WeightsError
from everest.training.sharding import load_whole_model_state, whole_model_state


class _Averaged(AveragedModel):
    """PyTorch's, with an update that waits for no GPU: theirs takes the number of updates there in each."""

    @torch.no_grad()
    def follow(self, model: nn.Module, decay: float) -> None:
        """Take in weights, with one call for all, and buffers."""
        averages, weights = tuple(self.module.parameters()), tuple(model.parameters())
        if self.n_averaged == 0:  # a number on the CPU
            for average, weight in zip(averages, weights, strict=True):
                average.copy_(weight)
        else:
            torch._foreach_lerp_(averages, weights, 1 - decay)
        for copied, buffer in zip(self.module.buffers(), model.buffers(), strict=True):
            copied.copy_(buffer)
        self.n_averaged += 1


class Ema:
    """A copy of a model whose weights follow it slowly: ``average = decay * average + (1 - decay) * weight``.

    The first update copies the weights; buffers are copied at every update. The copy is in evaluation mode and takes
    no gradients.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        """Copy a model.

        Args:
            model: The network on its device, before it is compiled or wrapped for several devices.
            decay: Share of the average that stays at each update, between 0 and 1.

        Raises:
            ConfigError: The decay is not between 0 and 1.
        """
        if not 0.0 < decay < 1.0:
            raise ConfigError(f"the decay of averaged weights must be between 0 and 1, not {decay}")
        self.decay = decay
        self._averaged = _Averaged(model)
        self._averaged.requires_grad_(False).eval()

    @property
    def model(self) -> nn.Module:
        """The averaged network."""
        return self._averaged.module

    def update(self, model: nn.Module) -> None:
        """Take in the weights after an optimiser step.

        Args:
            model: The network that was copied, wrapped or not.
        """
        self._averaged.follow(model, self.decay)

    def state_dict(self) -> dict[str, Any]:
        """Everything that is needed to go on: the averaged weights and the number of updates."""
        return whole_model_state(self._averaged)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved average.

        Args:
            state: What :meth:`state_dict` gave.

        Raises:
            WeightsError: The state belongs to another network.
        """
        try:
            load_whole_model_state(self._averaged, state)
        except RuntimeError as error:
            problem = " ".join(str(error).split())
            raise WeightsError(f"the averaged weights do not fit the model: {problem}") from None
