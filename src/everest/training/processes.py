"""What the processes of a run tell each other. Alone, each function gives back what it was given.

Every process must call them, in the same order. Nothing is pickled: numbers travel as tensors, text as bytes.

Shapes: n rows of this process, ... what a row holds.
"""

import json
from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist


def this_process() -> tuple[int, int]:
    """Number of this process, from 0, and the number of all."""
    if not (dist.is_available() and dist.is_initialized()):
        return 0, 1
    return dist.get_rank(), dist.get_world_size()


def leave() -> None:
    """Close the connections to the other processes, if there are any."""
    if this_process()[1] > 1:
        dist.destroy_process_group()


def gather_rows(rows: Tensor) -> Tensor:
    """Collect the rows of all processes, in the order of their numbers: [n, ...] to [sum of n, ...].

    Args:
        rows: As many as there are; rows of all processes have the same shape and dtype.

    Returns:
        On the device of the rows.
    """
    rank, size = this_process()
    if size == 1:
        return rows
    place = _meeting_place()
    numbers = [torch.zeros((), dtype=torch.int64, device=place) for _ in range(size)]
    dist.all_gather(numbers, torch.tensor(len(rows), device=place))
    counts = [int(number) for number in numbers]
    padded = torch.zeros(max(counts), *rows.shape[1:], dtype=rows.dtype, device=place)
    padded[: counts[rank]] = rows
    parts = [torch.empty_like(padded) for _ in range(size)]
    dist.all_gather(parts, padded)
    found = [part[:count] for part, count in zip(parts, counts, strict=True)]
    return torch.cat(found).to(rows.device)


def gather_values(value: Any) -> list[Any]:
    """Collect one value of each process, in the order of their numbers.

    Args:
        value: What JSON can hold.
    """
    if this_process()[1] == 1:
        return [value]
    text = torch.frombuffer(bytearray(json.dumps(value).encode() + b"\n"), dtype=torch.uint8)
    return [json.loads(line) for line in gather_rows(text).numpy().tobytes().splitlines()]


def _meeting_place() -> torch.device:
    """Where tensors have to be to be exchanged: NCCL takes those of a GPU only."""
    if "nccl" in dist.get_backend():
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")
