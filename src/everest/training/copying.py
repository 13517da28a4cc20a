"""Clips on their way to a GPU while it still computes the step before: a stream of their own."""

from functools import lru_cache

import torch
from torch import Tensor


def copy_ahead(clips: Tensor, device: torch.device | str) -> Tensor:
    """Give clips on a device; what computes there from now on waits for them, what was asked for before does not.

    A step asks for its copy as soon as the one before is queued. On the stream that computes it would begin when that
    one ends.

    Args:
        clips: Any tensor, in pinned memory where the copy is to overlap.
        device: Where it is needed.
    """
    device = torch.device(device)
    if device.type != "cuda" or clips.device.type != "cpu":
        return clips.to(device, non_blocking=True)
    beside, computing = _stream_of(device), torch.cuda.current_stream(device)
    with torch.cuda.stream(beside):
        copied = clips.to(device, non_blocking=True)
    computing.wait_stream(beside)
    copied.record_stream(computing)  # its memory belongs to the other stream, which must not take it back too early
    return copied


@lru_cache(maxsize=16)
def _stream_of(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call, unused-ignore]
