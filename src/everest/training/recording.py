"""Work on a GPU that is recorded once, as a CUDA graph, and replayed on other numbers.

A graph reads and writes the memory it was recorded on. So inputs are copied there before each replay, gradients are
handed to the parameters again, and what is given back is a copy.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from everest.errors import ConfigError, is_out_of_memory

NUM_WARM_UP = 3
"""How often work is done before it is recorded: kernels are chosen and compiled, tables made, memory found."""
TOLERANCE = 0.05
"""How far a first replay may be off: sums in another order differ by less, what is wrong by more."""
NEXT_TO_NOTHING = 1e-3
"""Length of a gradient beside the largest one, below which it may be off by that much of it: what is left where numbers
cancel is noise."""

Record = Callable[[Callable[[], Sequence[Tensor]]], Callable[[], Sequence[Tensor]]]
"""From work, which returns the tensors that it writes, to what does it again in the same memory and returns them."""


@dataclass(frozen=True, eq=False)
class _Tape:
    """What was recorded for inputs of one shape: the memory it reads, and the parameters that get a gradient."""

    inputs: tuple[Tensor, ...]
    replay: Callable[[], Sequence[Tensor]]
    reached: tuple[nn.Parameter, ...]


class Recording:
    """Forward and backward passes, recorded for every shape and type of their inputs.

    Args:
        parameters: Whose gradients the work makes.
        record: What records; :class:`GpuRecorder`, or in a test something that runs anywhere.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], record: Record) -> None:
        self._parameters, self._record = tuple(parameters), record
        self._tapes: dict[object, _Tape] = {}

    def __call__(self, work: Callable[..., Tensor], inputs: Sequence[Tensor]) -> Tensor:
        """Do some work; its gradients are those of the parameters afterwards, whatever these had before.

        Args:
            work: From the inputs to a result; it leaves gradients behind. It is called while it is recorded only, so
                whatever it takes from elsewhere stays as it was then.
            inputs: On the device.

        Returns:
            The result.

        Raises:
            ConfigError: The work cannot be recorded.
        """
        key = tuple((each.shape, each.dtype) for each in inputs)
        if key not in self._tapes:
            self._tapes[key] = self._make(work, inputs)
        tape = self._tapes[key]
        for own, given in zip(tape.inputs, inputs, strict=True):
            own.copy_(given, non_blocking=True)
        result, *gradients = tape.replay()
        self._forget()
        for parameter, gradient in zip(tape.reached, gradients, strict=True):
            parameter.grad = gradient
        return result.clone()

    def _forget(self) -> None:
        for parameter in self._parameters:
            parameter.grad = None

    def _make(self, work: Callable[..., Tensor], inputs: Sequence[Tensor]) -> _Tape:
        own = tuple(each.clone() for each in inputs)
        reached: tuple[nn.Parameter, ...] = ()

        def whole() -> list[Tensor]:
            nonlocal reached
            self._forget()  # so that gradients are written, not added to what is there
            result = work(*own)
            reached = tuple(parameter for parameter in self._parameters if parameter.grad is not None)
            written = [result, *(parameter.grad for parameter in reached if parameter.grad is not None)]
            self._forget()  # or those of the warm-up would stay beside the recorded ones
            return written

        try:
            replay = self._record(whole)
        except RuntimeError as error:
            first = _first_of(error)
            if is_out_of_memory(first):
                raise first from None
            reason = " ".join(str(first).split())
            raise ConfigError(f"this step cannot be recorded ({reason}): use run.cuda_graphs=false") from error
        return _Tape(own, replay, reached)


def _first_of(error: RuntimeError) -> RuntimeError:
    """What went wrong first: a recording that fails fails once more when it is ended."""
    while isinstance(error.__context__, RuntimeError):
        error = error.__context__
    return error


class GpuRecorder:
    """Records work as CUDA graphs, on a stream of its own as PyTorch asks for; all share the memory of what is between.

    So none may be replayed while another one's numbers, other than what it returns, are still needed.

    Args:
        device: Where the work is done.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream: torch.cuda.Stream | None = None  # one for all: memory is shared on a stream only
        self._pool: Any = None  # a handle, whose type differs between versions of PyTorch

    def __call__(self, work: Callable[[], Sequence[Tensor]]) -> Callable[[], Sequence[Tensor]]:
        """Record some work.

        Args:
            work: Returns the tensors that it writes. It may not wait for the GPU.

        Returns:
            Does it again in the same memory, and returns the same tensors.

        Raises:
            RuntimeError: It cannot be recorded, or what is replayed gives something else.
        """
        with torch.cuda.device(self._device):
            computing = torch.cuda.current_stream()
            beside = self._stream = self._stream or torch.cuda.Stream()  # type: ignore[no-untyped-call, unused-ignore]
            beside.wait_stream(computing)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.stream(beside):  # if recording fails, this thread is back on its own stream afterwards
                for _ in range(NUM_WARM_UP - 1):
                    work()
                expected = _norms(work())
                # Other threads pin the memory of batches meanwhile, which only this mode lets them.
                with torch.cuda.graph(graph, pool=self._pool, stream=beside, capture_error_mode="thread_local"):
                    written = work()
                self._pool = graph.pool()
                graph.replay()
                _expect_alike(_norms(written), expected)
            computing.wait_stream(beside)

        def replay() -> Sequence[Tensor]:
            graph.replay()
            return written

        return replay


def _norms(tensors: Sequence[Tensor]) -> list[float]:
    """The length of each; waits for them."""
    return torch.stack([torch.linalg.vector_norm(each.float()) for each in tensors]).tolist()


def _expect_alike(found: Sequence[float], expected: Sequence[float]) -> None:
    """Compare what was replayed with what was computed: the result, and every gradient."""
    largest = max((each for each in expected[1:] if math.isfinite(each)), default=0.0)
    for number, (one, other) in enumerate(zip(found, expected, strict=True)):
        allowed = TOLERANCE * (max(other, NEXT_TO_NOTHING * largest) if number else other)
        if math.isfinite(other) and not abs(one - other) <= allowed:
            raise RuntimeError(f"what is replayed differs from what was computed: {one:.6g} instead of {other:.6g}")
