"""Training states: everything that a run needs to go on as if it had not been stopped.

One file per saved step, ``checkpoints/step-00001234.pt``, that ``torch.load`` reads with ``weights_only=True``.
"""

import errno
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from everest.errors import RunError
from everest.models.weights.archives import SIGNS_OF_DAMAGE, damaged_part
from everest.training.files import atomic_write, writing

_NAME = re.compile(r"step-(\d{8,})\.pt")


class DamagedStateError(RunError):
    """A file that is to be a training state is none: it is damaged, or holds something else."""


def save_state(folder: Path, step: int, state: Mapping[str, Any], keep: int) -> Path:
    """Save a training state and drop the old ones.

    The file appears complete or not at all. States of later steps are dropped as well: they are from before the run
    went back to an earlier one.

    Args:
        folder: The folder of the states; it is made where needed.
        step: Number of optimiser steps done, 0 or more.
        state: Tensors, numbers, strings, bools and None in dicts, lists and tuples: state dicts of model and
            optimiser, counters.
        keep: Number of states that stay, at least 1, this one included.

    Returns:
        The file.

    Raises:
        RunError: The state holds something that could not be loaded again, or the file cannot be written.
    """
    _check_plain(state, "state")
    folder.mkdir(parents=True, exist_ok=True)
    path = state_path(folder, step)
    with atomic_write(path) as file:
        try:
            torch.save(dict(state), file)
        except RuntimeError as error:  # torch closes its archive after an interruption, and complains that it is torn
            if isinstance(error.__context__, KeyboardInterrupt):
                raise KeyboardInterrupt from None
            raise
    numbered = _states(folder)
    earlier = [number for number in numbered if number <= step]
    for number in numbered.keys() - set(earlier[-keep:]):
        numbered[number].unlink(missing_ok=True)
    for leftover in folder.glob(".step-*.pt.tmp"):  # of a process that was killed while it saved
        leftover.unlink(missing_ok=True)
    return path


def state_path(folder: Path, step: int) -> Path:
    """Name the file of a step's state."""
    return folder / f"step-{step:08d}.pt"


def latest_state(folder: Path) -> Path | None:
    """Find the state of the latest step, whether it can be loaded or not; None where there is none."""
    states = _states(folder)
    return states[max(states)] if states else None


def load_state(path: Path) -> dict[str, Any]:
    """Load one training state to the CPU.

    Every byte is compared with its check sum first: torch itself would not notice a changed one.

    Args:
        path: A file of :func:`save_state`.

    Raises:
        DamagedStateError: The file is damaged, or holds something else.
        RunError: It is missing, or the disk cannot be read.
    """
    try:
        damaged = damaged_part(path)
        if damaged is not None:
            raise DamagedStateError(f"{path} is damaged (its part {damaged!r} is not what was written)")
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise RunError(f"{path} does not exist: name a file of a run's checkpoints folder") from None
    except SIGNS_OF_DAMAGE as error:
        if isinstance(error, OSError) and error.errno not in {None, errno.EINVAL}:  # these: a place before its start
            raise RunError(
                f"{path} could not be read: {error.strerror}; it may be whole, so it is not passed over: when the disk "
                "can be read, go on with the same command, or move the file away to go on from an earlier one"
            ) from None
        problem = str(error).split("\n", 1)[0]
        raise DamagedStateError(f"{path} is damaged or not a training state: {problem}") from None
    if not isinstance(state, dict):
        raise DamagedStateError(f"{path} is not a training state: it holds a {type(state).__name__}")
    return state


def load_latest(folder: Path) -> tuple[int, dict[str, Any]] | None:
    """Load the latest state that is whole.

    A damaged one is skipped with a warning that names it. Where an earlier one is whole, it is renamed to
    ``NAME.damaged``: it counts no longer, and is not deleted.

    Args:
        folder: The folder of the states.

    Returns:
        The number of optimiser steps done and the state; None where nothing was saved yet.

    Raises:
        RunError: There are states, and all are damaged; or the disk cannot be read or written to.
    """
    states = _states(folder)
    damaged: list[Path] = []
    for step in sorted(states, reverse=True):
        try:
            state = load_state(states[step])
        except DamagedStateError as error:
            warnings.warn(f"{error}; trying an earlier one", stacklevel=2)
            damaged.append(states[step])
            continue
        for path in damaged:
            with writing(path):
                path.rename(path.with_name(f"{path.name}.damaged"))
        return step, state
    if states:
        raise RunError(f"none of the {len(states)} training states in {folder} can be read: start a new run")
    return None


def _states(folder: Path) -> dict[int, Path]:
    """Step to file, in the order of the steps."""
    if not folder.is_dir():
        return {}
    found = {int(match[1]): path for path in folder.iterdir() if (match := _NAME.fullmatch(path.name))}
    return dict(sorted(found.items()))


def _check_plain(value: Any, where: str) -> None:
    """Refuse at saving what ``weights_only`` would refuse at loading, when it is too late."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, str | int):
                raise RunError(f"{where} has the key {key!r}: a training state takes text or whole numbers")
            _check_plain(item, f"{where}[{key!r}]")
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            _check_plain(item, f"{where}[{index}]")
    elif type(value) not in {int, float, bool, str, type(None)} and not isinstance(value, torch.Tensor):
        raise RunError(f"{where} is a {type(value).__name__}: a training state takes tensors and plain values")
