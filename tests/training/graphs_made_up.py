"""What a CUDA graph does to whoever uses it, on a CPU: the same memory is read and written again."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def record_anywhere(work: Callable[[], Sequence[Tensor]]) -> Callable[[], Sequence[Tensor]]:
    """Stand in for ``GpuRecorder``: work is done anew, and what it gives is written over what it gave at first."""
    work()  # the warm-up
    written = work()
    kept = [each.detach() for each in written]

    def replay() -> Sequence[Tensor]:
        for own, new in zip(kept, work(), strict=True):
            own.copy_(new)
        return kept

    return replay


def record_never(work: Callable[[], Sequence[Tensor]]) -> Callable[[], Sequence[Tensor]]:
    """Fail as PyTorch does where work waits for the GPU."""
    del work
    raise torch.AcceleratorError("CUDA error: operation not permitted when stream is capturing")
