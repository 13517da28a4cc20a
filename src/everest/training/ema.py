"""An exponential moving average of the weights, for evaluation."""

from typing import Any

from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from everest.errors import ConfigError, WeightsError
from everest.training.sharding import load_whole_model_state, whole_model_state


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
        lerp = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
        self._averaged = AveragedModel(model, multi_avg_fn=lerp)
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
        self._averaged.update_parameters(model)

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
