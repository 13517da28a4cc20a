"""Fixed numbers on a device: on a GPU one tensor for all, on a CPU a new one each time."""

import torch

from everest.models.constants import _kept, constant

CPU = torch.device("cpu")


def test_rows_of_numbers_are_given_as_they_are() -> None:
    assert torch.equal(constant((0.5, 2.0), CPU), torch.tensor([0.5, 2.0]))
    assert torch.equal(constant(((0.5, 2.0), (1.0, 3.0)), CPU), torch.tensor([[0.5, 2.0], [1.0, 3.0]]))


def test_what_is_kept_is_one_tensor_that_training_can_use_too() -> None:
    with torch.inference_mode():
        first = _kept((0.25, 4.0), CPU)
    assert _kept((0.25, 4.0), CPU) is first
    assert _kept((0.25, 5.0), CPU) is not first
    weight = torch.ones(2, requires_grad=True)
    (weight * first).sum().backward()
    assert torch.equal(weight.grad, first)
