"""Products by oneDNN are those of PyTorch, and are taken where they should be."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch._dynamo.utils import counters
from torch.utils.flop_counter import FlopCounterMode

from everest.bench.described import describe_task
from everest.bench.tasks import build_step
from everest.errors import ConfigError
from everest.models import heads, mixing, products
from everest.models.heads import attend_by_heads
from everest.models.layers import Block
from everest.models.products import Linear, gradient_of_weight, linear, multiply, products_by

pytestmark = pytest.mark.skipif(not products._by_onednn_works(), reason="this PyTorch has no such operation")

SHAPES = [  # of x, and how many outputs
    ((8,), 3),
    ((5, 8), 3),
    ((2, 7, 8), 20),
    ((2, 3, 4, 6), 6),
    ((products.MANY_ROWS + 1, 4), 9),
]


def given(shape: tuple[int, ...], outputs: int, dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    sizes = (shape, (outputs, shape[-1]), (outputs,))
    return [torch.randn(size, generator=generator).to(dtype).requires_grad_() for size in sizes]


@pytest.mark.parametrize(("shape", "outputs"), SHAPES)
@pytest.mark.parametrize("has_bias", [False, True])
def test_values_and_gradients(shape: tuple[int, ...], outputs: int, has_bias: bool) -> None:
    ours, exact = given(shape, outputs), given(shape, outputs, torch.float64)
    ours, exact = (each if has_bias else each[:2] for each in (ours, exact))
    with products_by("onednn"):
        out = linear(*ours)
        out.square().sum().backward()
    truth = F.linear(*exact)
    truth.square().sum().backward()
    pairs = zip([out, *(x.grad for x in ours)], [truth, *(x.grad for x in exact)], strict=True)
    for found, expected in pairs:
        off = (found.double() - expected).abs().max()
        assert off <= 1e-5 * expected.abs().max()


def test_what_lies_oddly_in_memory_is_the_same_and_copied_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows with gaps between them are computed a thousand times as slowly otherwise."""
    asked = []
    product = products._product
    monkeypatch.setattr(products, "_product", lambda x, w, b: asked.extend([x, w]) or product(x, w, b))
    wide = torch.randn(6, 3, 8)
    x, weight = wide[:, 1], wide.flatten(1)[:, ::3]  # gaps between rows; between columns
    pull = torch.ones(()).expand(6, 5)
    with products_by("onednn"):
        torch.testing.assert_close(linear(x, weight), F.linear(x, weight))
        torch.testing.assert_close(multiply(x, weight[:5].T[:8]), x @ weight[:5].T[:8])
        torch.testing.assert_close(gradient_of_weight(pull, x), pull.T @ x)
    assert len(asked) == 6
    assert all(matrix.is_contiguous() or matrix.mT.is_contiguous() for matrix in asked)


def test_gradients_of_gradients_are_right_or_refused() -> None:
    def second_order(dtype: torch.dtype) -> list[torch.Tensor]:
        ours = given((2, 7, 8), 5, dtype)
        (by_x,) = torch.autograd.grad(linear(*ours).square().sum(), ours[0], create_graph=True)
        return list(torch.autograd.grad(by_x.square().sum(), ours))

    with products_by("onednn"):
        for found, expected in zip(second_order(torch.float32), second_order(torch.float64), strict=True):
            torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-3)
        block, x = Block(8, 2), torch.randn(2, 5, 8, requires_grad=True)
        (by_x,) = torch.autograd.grad(block(x).square().sum(), x, create_graph=True)
        with pytest.raises(RuntimeError, match="differentiate twice"):  # by what keeps less for the backward pass
            by_x.square().sum().backward()


def test_functions_of_functions_are_pytorchs() -> None:
    x, weight, bias = (each.detach() for each in given((4, 8), 3))
    with products_by("onednn"):
        grads = torch.func.vmap(torch.func.grad(lambda x, w: linear(x, w, bias).sum()), (0, None))(x, weight)
        _, tangent = torch.func.jvp(lambda x: linear(x, weight, bias), (x,), (torch.ones_like(x),))
    torch.testing.assert_close(grads, weight.sum(0).expand(4, 8))
    torch.testing.assert_close(tangent, weight.sum(1).expand(4, 3))


@pytest.mark.parametrize("frozen", ["x", "weight"])
def test_what_needs_no_gradient_lets_the_other_go(frozen: str) -> None:
    kept: list[torch.Tensor] = []
    x, weight, bias = given((6, 8), 3)
    (x if frozen == "x" else weight).requires_grad_(False)
    with products_by("onednn"), torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        linear(x, weight, bias).sum().backward()
    assert [each.shape for each in kept] == [x.shape if frozen == "x" else weight.shape]


def test_peers_linear_layers_may_be_computed_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    product = products._product
    monkeypatch.setattr(products, "_product", lambda x, w, b: asked.append(x.shape) or product(x, w, b))
    monkeypatch.setitem(F.__dict__, "linear", F.linear)  # put back afterwards
    layer, x = torch.nn.Linear(8, 3), torch.randn(2, 8)
    expected = layer(x)
    products.take_all_linear_layers()
    with products_by("onednn"):
        torch.testing.assert_close(layer(x), expected)
    with products_by("pytorch"):
        torch.testing.assert_close(layer(x), expected)
    assert asked == [(2, 8)]


@pytest.mark.parametrize(("asked", "expected"), [("pytorch", "pytorch"), ("onednn", "onednn"), ("", "pytorch")])
def test_the_environment_may_choose(asked: str, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "has_faster_products", lambda: False)
    monkeypatch.setenv(products.VARIABLE, asked)
    assert products._chosen() == expected
    monkeypatch.setenv(products.VARIABLE, "mkl")
    with pytest.raises(ConfigError, match="EVEREST_PRODUCTS=mkl in the environment; it takes onednn or pytorch"):
        products._chosen()


@pytest.mark.parametrize("library", ["onednn", "pytorch"])
def test_nothing_that_stands_still_is_scored(library: products.Library) -> None:
    with products_by(library):
        assert not multiply(torch.zeros(7, 8), torch.randn(8, 5)).any()


@pytest.mark.parametrize("task", ["pretrain", "finetune"])
def test_a_step_of_training_is_the_same(task: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With attention head by head, of as few tokens as there are; and where blocks compute again what they gave."""
    heads_asked = []
    monkeypatch.setattr(heads, "WORTH_IT", 1)
    monkeypatch.setattr(mixing, "attend_by_heads", lambda *x: heads_asked.append(1) or attend_by_heads(*x))
    losses = {}
    for library in ("onednn", "pytorch"):
        info = describe_task("tiny", task, "rero", num_frames=4, height=64, width=64)
        with products_by(library):
            step = build_step(info, 2, device="cpu", precision="float32")
            losses[library] = [step.run() for _ in range(3)]
            assert bool(heads_asked) == (library == "onednn")
            again = build_step(info, 2, device="cpu", precision="float32", activation_checkpointing=True)
            assert [again.run() for _ in range(3)] == pytest.approx(losses[library], rel=1e-6)
        heads_asked.clear()
    assert losses["onednn"] == pytest.approx(losses["pytorch"], rel=1e-4)
    assert len(set(losses["onednn"])) == 3


def test_it_is_asked_in_float32_and_outside_of_autocast_only(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    product = products._product
    monkeypatch.setattr(products, "_product", lambda x, w, b: asked.append(x.dtype) or product(x, w, b))
    layer, x = Linear(8, 3), torch.randn(2, 8)
    with products_by("onednn"):
        layer(x)
        assert asked == [torch.float32]
        with torch.autocast("cpu", torch.bfloat16):
            assert layer(x).dtype == torch.bfloat16
        layer.double()(x.double())
        assert layer(torch.empty(0, 8, dtype=torch.float64)).shape == (0, 3)
        assert layer.float()(torch.empty(0, 8)).shape == (0, 3)
        assert layer.to("meta")(x.to("meta")).shape == (2, 3)
    with products_by("pytorch"):
        Linear(8, 3)(x)
    assert asked == [torch.float32]


def test_compiled_blocks_have_it_without_a_graph_break(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heads, "WORTH_IT", 1)  # attention head by head too
    torch.compiler.reset()
    counters.clear()
    block, x = Block(8, 2), torch.randn(2, 5, 8)
    with products_by("onednn"):
        plain = block(x)
        plain.sum().backward()
        grads = [p.grad.clone() for p in block.parameters() if p.grad is not None]
        block.zero_grad()
        compiled = torch.compile(block, backend="aot_eager", fullgraph=True)(x)
        compiled.sum().backward()
    torch.testing.assert_close(compiled, plain)
    torch.testing.assert_close([p.grad for p in block.parameters()], grads)
    assert not counters["graph_break"]


def test_what_is_exported_has_operations_of_pytorch_only() -> None:
    with products_by("onednn"):
        graph = torch.export.export(Linear(8, 3), (torch.randn(2, 8),)).graph
    names = {str(node.target) for node in graph.nodes if node.op == "call_function"}
    assert names
    assert all(name.startswith("aten.") for name in names)


def test_multiply_adds_are_counted_alike() -> None:
    counts = []
    for library in ("onednn", "pytorch"):
        with products_by(library), FlopCounterMode(display=False) as counter:
            linear(*given((2, 7, 8), 20)).sum().backward()
        counts.append(counter.get_total_flops())
    assert counts[0] == counts[1] == 3 * 2 * 2 * 7 * 8 * 20


@pytest.mark.parametrize(
    ("capability", "about", "expected"),
    [
        ("AVX512", "vendor_id : AuthenticAMD", True),
        ("AVX2", "vendor_id : AuthenticAMD", False),
        ("AVX512", "vendor_id : GenuineIntel", False),
        ("DEFAULT", "CPU implementer : 0x41", False),
    ],
)
def test_which_processors_gain(
    capability: str, about: str, expected: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "cpuinfo").write_text(about)
    monkeypatch.setattr(products, "CPUINFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(products.platform, "processor", lambda: "")
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    assert products.has_faster_products() == expected
    (tmp_path / "cpuinfo").unlink()  # other systems name the maker elsewhere
    monkeypatch.setattr(products.platform, "processor", lambda: about)
    assert products.has_faster_products() == expected


def test_a_pytorch_without_the_operation_computes_as_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object) -> torch.Tensor:
        raise RuntimeError("no such operation")

    monkeypatch.setattr(products, "_product", missing)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    monkeypatch.setattr(products, "_is_of_intel", lambda: False)
    assert not products.has_faster_products()
