"""Recorded work: gradients and results are those of work done anew, in memory that stays the same."""

import math
from collections.abc import Callable

import pytest
import torch
from graphs_made_up import record_anywhere, record_never
from torch import Tensor, nn

from everest.errors import ConfigError
from everest.training.recording import Recording, _expect_alike


def work_of(layer: nn.Linear) -> Callable[[Tensor, Tensor], Tensor]:
    def work(x: Tensor, y: Tensor) -> Tensor:
        loss = (layer(x) - y).square().mean()
        loss.backward()
        return loss.detach()

    return work


def expected(layer: nn.Linear, x: Tensor, y: Tensor) -> tuple[Tensor, list[Tensor]]:
    loss = (layer(x) - y).square().mean()
    return loss.detach(), list(torch.autograd.grad(loss, list(layer.parameters())))


def test_replays_are_as_work_done_anew_while_weights_change() -> None:
    layer = nn.Linear(3, 2)
    work = work_of(layer)
    recording = Recording(layer.parameters(), record_anywhere)
    results = []
    for step in range(4):
        x, y = torch.randn(5, 3), torch.randn(5, 2)
        loss, gradients = expected(layer, x, y)
        results.append((recording(work, (x, y)), loss))
        for parameter, gradient in zip(layer.parameters(), gradients, strict=True):
            torch.testing.assert_close(parameter.grad, gradient)
            with torch.no_grad():
                parameter.sub_(0.1 * gradient)
            parameter.grad = None if step % 2 else torch.full_like(parameter, 7.0)  # neither is added to
    for found, loss in results:  # copies: later replays do not change them
        torch.testing.assert_close(found, loss)


def test_each_shape_is_recorded_once() -> None:
    layer = nn.Linear(3, 2)
    seen: list[int] = []

    def record(work):
        seen.append(0)
        work()
        assert all(parameter.grad is None for parameter in layer.parameters())  # kept by nobody but what is recorded
        return record_anywhere(work)

    work = work_of(layer)
    recording = Recording(layer.parameters(), record)
    for size in (5, 5, 2, 5):
        x, y = torch.randn(size, 3), torch.randn(size, 2)
        loss, gradients = expected(layer, x, y)
        torch.testing.assert_close(recording(work, (x, y)), loss)
        torch.testing.assert_close([p.grad for p in layer.parameters()], gradients)
    assert len(seen) == 2


def test_parameters_that_are_not_reached_have_no_gradient() -> None:
    layer, other = nn.Linear(3, 2), nn.Parameter(torch.ones(2))
    work = work_of(layer)
    recording = Recording([other, *layer.parameters()], record_anywhere)
    other.grad = torch.ones(2)
    for _ in range(2):
        recording(work, (torch.randn(5, 3), torch.randn(5, 2)))
        assert other.grad is None
        assert layer.weight.grad is not None


def test_what_cannot_be_recorded_says_so() -> None:
    layer = nn.Linear(3, 2)
    work = work_of(layer)
    with pytest.raises(ConfigError, match=r"cannot be recorded \(CUDA error.*use run.cuda_graphs=false"):
        Recording(layer.parameters(), record_never)(work, (torch.randn(5, 3), torch.randn(5, 2)))


def test_of_several_errors_the_first_is_the_reason() -> None:
    """PyTorch ends a recording that failed, which fails as well."""

    def record(work):
        del work
        try:
            raise RuntimeError("operation not permitted: .item()")
        finally:
            raise RuntimeError("capture_end: invalidated")

    layer = nn.Linear(3, 2)
    with pytest.raises(ConfigError, match=r"cannot be recorded \(operation not permitted: \.item\(\)\)"):
        Recording(layer.parameters(), record)(work_of(layer), (torch.randn(5, 3), torch.randn(5, 2)))


def test_memory_that_does_not_suffice_is_no_matter_of_recording() -> None:
    def record(work):
        del work
        try:
            raise torch.OutOfMemoryError("out of memory")
        finally:
            raise RuntimeError("capture_end: invalidated")

    layer = nn.Linear(3, 2)
    with pytest.raises(torch.OutOfMemoryError):
        Recording(layer.parameters(), record)(work_of(layer), (torch.randn(5, 3), torch.randn(5, 2)))


def test_a_first_replay_is_compared_with_the_work() -> None:
    expected = [2.0, 0.5, 1e-4]  # a result, and lengths of gradients
    _expect_alike([2.01, 0.51, 1.1e-4], expected)  # the last is nothing beside the other gradient
    _expect_alike([2.0, 7.0, 1e-4], [2.0, math.inf, 1e-4])  # a step that is skipped says nothing
    for wrong in ([2.2, 0.5, 1e-4], [2.0, 0.0, 1e-4], [2.0, 1.0, 1e-4], [2.0, 0.5, 0.5], [math.nan, 0.5, 1e-4]):
        with pytest.raises(RuntimeError, match="differs from what was computed: "):
            _expect_alike(wrong, expected)
    with pytest.raises(RuntimeError, match="differs"):
        _expect_alike([2.0, 0.5, 0.0], [2.0, 0.5, 0.024])  # small, and gone
