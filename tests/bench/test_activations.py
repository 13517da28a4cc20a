"""What autograd keeps is counted once, and without parameters."""

import torch
from torch import nn

from everest.bench.activations import activation_bytes
from everest.bench.described import describe_task
from everest.bench.tasks import build_step


def test_a_linear_layer_keeps_its_input() -> None:
    layer, x = nn.Linear(8, 4), torch.rand(3, 8, requires_grad=True)

    def step() -> None:
        layer(x).sum().backward()

    assert activation_bytes(step, layer) == 3 * 8 * 4


def test_what_is_kept_twice_counts_once() -> None:
    layers = nn.ModuleList([nn.Linear(8, 4), nn.Linear(8, 4)])
    x = torch.rand(3, 8)

    def step() -> None:
        (layers[0](x) + layers[1](x)).sum().backward()

    assert activation_bytes(step, layers) == 3 * 8 * 4


def test_fewer_tokens_keep_less() -> None:
    kept = {}
    for method in ("rero", "tube"):
        info = describe_task("tiny", "pretrain", method, num_frames=8, height=64, width=64)
        step = build_step(info, 2, device="cpu")
        kept[method] = activation_bytes(step.run, step.model)
        assert activation_bytes(step.run, step.model) == kept[method]
    assert 0 < kept["rero"] < 0.6 * kept["tube"]
