"""Writing files completely or not at all, in formats that are not ours."""

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import safetensors
from safetensors.torch import save
from torch import Tensor

from everest.config import CheckpointInfo
from everest.errors import WeightsError
from everest.links import open_new


def write_file(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Let something write a new file, which appears when it is complete.

    Raises:
        WeightsError: It cannot be written.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open_new(partial) as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())  # before its name is, or a power cut leaves an empty file under it
        partial.replace(path)
    except (OSError, safetensors.SafetensorError) as error:
        raise WeightsError(f"{path}: cannot be written: {error}") from None
    finally:
        with suppress(OSError):  # a disk that is only read says so here again
            partial.unlink(missing_ok=True)


def write_safetensors(path: Path, state: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write tensors as safetensors; see :func:`write_file`."""
    # save_file leaves files that only their owner can read, and parts under other names when it is killed.
    content = save({key: value.detach().to("cpu").contiguous() for key, value in state.items()}, dict(metadata or {}))
    write_file(path, lambda file: file.write(content))


def expect_plain(info: CheckpointInfo, format_name: str) -> None:
    """Refuse what formats without a table of positions cannot say.

    Raises:
        WeightsError: The network or its table of positions is another one than the format's, or it predicts something
            else.
    """
    model = info.model
    if model.arch != "vit":
        raise WeightsError(f"{format_name} is a plain ViT, this model is a {model.arch}: it cannot be written so")
    if info.task == "pretrain" and info.objective.name != "pixels":
        raise WeightsError(f"{format_name} predicts pixels, this model {info.objective.name}: it cannot be written so")
    if model.positions != "sine" or model.positions_grid is not None:
        raise WeightsError(
            f"{format_name} makes its own 1-D sine positions for its clips, and this model has others "
            f"(positions={model.positions}, positions_grid={model.positions_grid}): it cannot be written so"
        )


def tell_kept(info: CheckpointInfo) -> str:
    """Say in a few words how many tokens of a clip are kept."""
    given = info.selection
    if given.method == "rlt":
        return f"what differs by {given.threshold:g} kept"
    if given.method == "adaptive":
        return f"{given.coverage:.0%} of the change kept, {given.min_keep_ratio:.0%} to {given.keep_ratio:.0%} of all"
    return f"{given.keep_ratio:.0%} kept"
