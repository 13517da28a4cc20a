import pytest
import torch
from torch import Tensor, nn

from everest.models.layers import Block
from everest.models.lean import gelu_linear, norm_linear


def values(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, dtype=dtype, requires_grad=True)


def test_gradients_are_those_of_the_function() -> None:
    torch.manual_seed(0)
    norm = nn.LayerNorm(5).double()
    nn.init.normal_(norm.weight)
    x, weight, bias = values(2, 3, 5), values(4, 5), values(4)

    def through_norm(x: Tensor, scale: Tensor, shift: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        object.__setattr__(norm, "_parameters", {"weight": scale, "bias": shift})
        return norm_linear(x, norm, weight, bias)

    assert torch.autograd.gradcheck(through_norm, (x, values(5), values(5), weight, bias))
    assert torch.autograd.gradcheck(gelu_linear, (x, weight, bias))


@pytest.mark.parametrize("precision", [None, torch.bfloat16])
def test_values_and_gradients_are_those_of_plain_layers(precision: torch.dtype | None) -> None:
    torch.manual_seed(0)
    norm, fc1, fc2 = nn.LayerNorm(8), nn.Linear(8, 32), nn.Linear(32, 8)
    parameters = [*norm.parameters(), *fc1.parameters(), *fc2.parameters()]
    x = torch.randn(2, 5, 8)
    results = []
    for lean in (True, False):
        given = x.clone().requires_grad_()
        with torch.autocast("cpu", dtype=precision, enabled=precision is not None):
            if lean:
                out = gelu_linear(norm_linear(given, norm, fc1.weight, fc1.bias), fc2.weight, fc2.bias)
            else:
                out = fc2(nn.functional.gelu(fc1(norm(given))))
        gradients = torch.autograd.grad(out.float().square().sum(), [given, *parameters])
        results.append([out, *gradients])
    for ours, plain in zip(*results, strict=True):
        assert ours.dtype == plain.dtype
        torch.testing.assert_close(ours, plain, rtol=1e-2 if precision else 1e-5, atol=2e-2 if precision else 1e-5)


def test_a_block_keeps_less() -> None:
    block, x = Block(16, 2), torch.randn(2, 10, 16, requires_grad=True)
    parameters = {parameter.data_ptr() for parameter in block.parameters()}
    kept: dict[int, int] = {}

    def count(tensor: Tensor) -> Tensor:
        if tensor.untyped_storage().data_ptr() not in parameters:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes() // 4
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        out = block(x)
    assert out.requires_grad
    num_tokens = 2 * 10
    # Input, queries, keys and values, mixed values, input of the MLP, inside the MLP; some numbers per token and head.
    assert sum(kept.values()) <= num_tokens * (16 * (1 + 3 + 1 + 1 + 4) + 2 * 3 + 2)


def test_without_gradients_nothing_is_kept() -> None:
    block, x = Block(16, 2), torch.randn(2, 10, 16)
    with torch.no_grad():
        assert block(x).grad_fn is None
    torch.testing.assert_close(block(x).detach(), block.eval()(x).detach())
