"""Work on a GPU that is recorded once, as a CUDA graph, and replayed on other numbers.

A graph reads and writes the memory it was recorded on. So inputs are copied there before each replay, gradients are
handed to the parameters again, and what is given back is a copy.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from everest.errors import ConfigError, is_out_of_memory

NUM_WARM_UP = 3
"""How often work is done before it is recorded: kernels are chosen and compiled, tables made, memory found."""

Record = Callable[[Callable[[], Sequence[Tensor]]], Callable[[], Sequence[Tensor]]]
"""From work, which returns the tensors that it writes, to what does it again in the same memory and returns them."""


@dataclass(frozen=True, eq=False)
class _Tape:
    """What was recorded for inputs of one shape: the memory it reads, and the parameters that get a gradient."""

    inputs: tuple[Tensor, ...]
    replay: Callable[[], Sequence[Tensor]]
    reached: tuple[nn.Parameter, ...]


class Recording:
    """Forward and backward passes, recorded for every shape of their inputs.

    Args:
        parameters: Whose gradients the work makes.
        record: What records; :func:`record_on_gpu`, or in a test something that runs anywhere.
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
            return [result, *(parameter.grad for parameter in reached if parameter.grad is not None)]

        try:
            replay = self._record(whole)
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise
            reason = " ".join(str(error).split())
            raise ConfigError(f"this step cannot be recorded ({reason}): use run.cuda_graphs=false") from error
        return _Tape(own, replay, reached)


def record_on_gpu(work: Callable[[], Sequence[Tensor]]) -> Callable[[], Sequence[Tensor]]:
    """Record work as a CUDA graph, on a stream of its own as PyTorch asks for.

    Args:
        work: Returns the tensors that it writes. It may not wait for the GPU.

    Returns:
        Does it again in the same memory, and returns the same tensors.
    """
    beside = torch.cuda.Stream()  # type: ignore[no-untyped-call, unused-ignore]
    beside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(beside):
        for _ in range(NUM_WARM_UP):
            work()
    torch.cuda.current_stream().wait_stream(beside)
    graph = torch.cuda.CUDAGraph()
    # Other threads pin the memory of batches meanwhile, which only this mode lets them.
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        written = work()

    def replay() -> Sequence[Tensor]:
        graph.replay()
        return written

    return replay
