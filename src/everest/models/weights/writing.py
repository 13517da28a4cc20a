"""Writing files completely or not at all, in formats that are not ours."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO

import safetensors
from safetensors.torch import save
from torch import Tensor

from everest.config import CheckpointInfo
from everest.errors import WeightsError


def write_file(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Let something write a new file, which appears when it is complete.

    Raises:
        WeightsError: It cannot be written.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            write(file)
        partial.replace(path)
    except (OSError, safetensors.SafetensorError) as error:
        raise WeightsError(f"{path}: cannot be written: {error}") from None
    finally:
        partial.unlink(missing_ok=True)


def write_safetensors(path: Path, state: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write tensors as safetensors; see :func:`write_file`."""
    # save_file leaves files that only their owner can read, and parts under other names when it is killed.
    content = save({key: value.detach().to("cpu").contiguous() for key, value in state.items()}, dict(metadata or {}))
    write_file(path, lambda file: file.write(content))


def expect_plain(info: CheckpointInfo, format_name: str) -> None:
    """Refuse what formats without a table of positions cannot say.

    Raises:
        WeightsError: The model's table is another one than the format's readers make, or it predicts something else.
    """
    model = info.model
    if info.task == "pretrain" and info.objective.name != "pixels":
        raise WeightsError(f"{format_name} predicts pixels, this model {info.objective.name}: it cannot be written so")
    if model.positions != "sine" or model.positions_grid is not None:
        raise WeightsError(
            f"{format_name} makes its own 1-D sine positions for its clips, and this model has others "
            f"(positions={model.positions}, positions_grid={model.positions_grid}): it cannot be written so"
        )
