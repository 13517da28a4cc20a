"""Averaged weights follow their definition and go on after a stop."""

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from everest.errors import ConfigError, WeightsError
from everest.training.ema import Ema


class CountCopies(TorchDispatchMode):
    """Names what is done to tensors, but for looking at the number of updates, which lies on the CPU."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        name = func.overloadpacket.__name__
        self.names += [name] * (name not in {"eq", "is_nonzero", "_local_scalar_dense", "item"})
        return func(*args, **(kwargs or {}))


def model_with(value: float) -> nn.Linear:
    model = nn.Linear(3, 2)
    nn.init.constant_(model.weight, value)
    nn.init.constant_(model.bias, -value)
    return model


def test_average_follows_the_definition() -> None:
    model = model_with(0.0)
    ema = Ema(model, decay=0.9)
    expected = None
    for value in (1.0, 2.0, 4.0):
        nn.init.constant_(model.weight, value)
        ema.update(model)
        expected = value if expected is None else 0.9 * expected + 0.1 * value
    assert torch.allclose(ema.model.get_parameter("weight"), torch.full((2, 3), expected))
    assert torch.equal(model.weight, torch.full((2, 3), 4.0))


def test_no_number_is_taken_to_the_device_at_an_update() -> None:
    """PyTorch's own update copies the count to it, for which a GPU has to come to rest."""
    model = model_with(1.0)
    ema = Ema(model, decay=0.5)
    with CountCopies() as copies:
        for _ in range(3):
            ema.update(model)
    assert copies.names == [
        "copy_", "copy_", "add_", "_foreach_lerp_", "add_", "_foreach_lerp_", "add_",
    ]  # fmt: skip


def test_the_copy_is_for_evaluation() -> None:
    ema = Ema(nn.Sequential(nn.Linear(3, 2), nn.Dropout(0.5)).train(), decay=0.9)
    assert not any(module.training for module in ema.model.modules())
    assert not any(parameter.requires_grad for parameter in ema.model.parameters())


def test_buffers_are_copied() -> None:
    model = nn.BatchNorm1d(2)
    ema = Ema(model, decay=0.9)
    model(torch.randn(8, 2) + 5.0)
    ema.update(model)
    assert torch.equal(ema.model.get_buffer("running_mean"), model.running_mean)


def test_a_loaded_average_goes_on_alike() -> None:
    model = model_with(1.0)
    ema = Ema(model, decay=0.5)
    ema.update(model)
    continued = Ema(model_with(7.0), decay=0.5)
    continued.load_state_dict(ema.state_dict())
    nn.init.constant_(model.weight, 3.0)
    for average in (ema, continued):
        average.update(model)
    assert torch.equal(ema.model.get_parameter("weight"), torch.full((2, 3), 2.0))
    assert torch.equal(continued.model.get_parameter("weight"), ema.model.get_parameter("weight"))


def test_the_state_of_another_model_is_refused() -> None:
    with pytest.raises(WeightsError, match="do not fit") as caught:
        Ema(nn.Linear(4, 2), decay=0.5).load_state_dict(Ema(nn.Linear(3, 2), decay=0.5).state_dict())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("decay", [0.0, 1.0, -0.1])
def test_decay_is_a_share(decay: float) -> None:
    with pytest.raises(ConfigError, match="between 0 and 1"):
        Ema(nn.Linear(1, 1), decay)
