"""Where evaluation and inference compute."""

import torch

from everest.errors import ConfigError, nearest

DEVICES = ("auto", "cpu", "cuda", "mps")


def choose_device(name: str = "auto") -> torch.device:
    """Find the device that a name means.

    Args:
        name: ``auto`` takes an accelerator where there is one; or ``cpu``, ``cuda``, ``mps``.

    Raises:
        ConfigError: The name is not one of these, or the machine has no such device.
    """
    if name not in DEVICES:
        raise ConfigError(f"unknown device {name!r}: {nearest(name, DEVICES)}")
    has = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(device for device, available in has.items() if available))
    if not has[name]:
        raise ConfigError(f"device {name} is not available with torch {torch.__version__} here: use auto or cpu")
    return torch.device(name)
