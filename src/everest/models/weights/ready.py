"""Weights that come with the program, by name: a start for videos like the bundled ones, or to try things with.

``docs/ready-made.md`` is their card: data, licence, recipe, accuracy, limits. ``experiments/ready_made.py`` makes them.
"""

from importlib.resources import files
from pathlib import Path
from types import MappingProxyType

READY_MADE = MappingProxyType({"bundled": "nano.safetensors", "bundled-falls": "nano-falls.safetensors"})
"""Name -> file: pre-trained without labels; and the classifier of what people do at home, fine-tuned from it."""


def locate(checkpoint: Path) -> Path:
    """Give where a checkpoint lies: that of a name of :data:`READY_MADE` unless a file or folder is called so."""
    if str(checkpoint) not in READY_MADE or checkpoint.exists():
        return checkpoint
    return Path(str(files("everest").joinpath("assets", "weights", READY_MADE[str(checkpoint)])))
