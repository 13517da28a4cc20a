"""Parameter groups against the release's, and an optimiser that steps with them."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from everest.config import OptimConfig
from everest.errors import ConfigError
from everest.training.optim import build_optimizer, parameter_groups, set_learning_rate

DATA = Path(__file__).parent / "data"


def block_shapes(prefix: str, width: int) -> dict[str, tuple[int, ...]]:
    """Parameters of one transformer block."""
    return {
        f"{prefix}.{name}": shape
        for name, shape in {
            "norm1.weight": (width,),
            "norm1.bias": (width,),
            "attn.q_bias": (width,),
            "attn.v_bias": (width,),
            "attn.qkv.weight": (3 * width, width),
            "attn.proj.weight": (width, width),
            "attn.proj.bias": (width,),
            "norm2.weight": (width,),
            "norm2.bias": (width,),
            "mlp.fc1.weight": (4 * width, width),
            "mlp.fc1.bias": (4 * width,),
            "mlp.fc2.weight": (width, 4 * width),
            "mlp.fc2.bias": (width,),
        }.items()
    }


def encoder_shapes(depth: int, width: int) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {
        "encoder.patch_embed.proj.weight": (width, 3, 2, 16, 16),
        "encoder.patch_embed.proj.bias": (width,),
    }
    for index in range(depth):
        shapes |= block_shapes(f"encoder.blocks.{index}", width)
    return shapes


def classifier_shapes(depth: int = 12, width: int = 768) -> dict[str, tuple[int, ...]]:
    return encoder_shapes(depth, width) | {
        "fc_norm.weight": (width,),
        "fc_norm.bias": (width,),
        "head.weight": (101, width),
        "head.bias": (101,),
    }


def autoencoder_shapes() -> dict[str, tuple[int, ...]]:
    shapes = encoder_shapes(12, 768) | {"encoder.norm.weight": (768,), "encoder.norm.bias": (768,)}
    shapes |= {"encoder_to_decoder.weight": (384, 768), "mask_token": (1, 1, 384)}
    for index in range(4):
        shapes |= block_shapes(f"decoder.blocks.{index}", 384)
    return shapes | {
        "decoder.norm.weight": (384,),
        "decoder.norm.bias": (384,),
        "decoder.head.weight": (1536, 384),
        "decoder.head.bias": (1536,),
    }


def stub(shapes: dict[str, tuple[int, ...]], device: str = "meta") -> nn.Module:
    """A module that has these parameters and nothing else."""
    root = nn.Module()
    for name, shape in shapes.items():
        *parents, leaf = name.split(".")
        module = root
        for parent in parents:
            if parent not in dict(module.named_children()):
                module.add_module(parent, nn.Module())
            module = module.get_submodule(parent)
        module.register_parameter(leaf, nn.Parameter(torch.ones(shape, device=device)))
    return root


def release_groups(task: str) -> tuple[float, dict]:
    recorded = json.loads((DATA / f"release_groups_{task}.json").read_text())
    return recorded["layer_decay"] or 1.0, recorded["groups"]


def assert_groups_equal(groups: list[dict], release: dict, prefix: str) -> None:
    assert {group["name"] for group in groups} == release.keys()
    for group in groups:
        expected = release[group["name"]]
        assert {name.removeprefix(prefix) for name in group["param_names"]} == set(expected["params"])
        assert len(group["params"]) == len(expected["params"])
        assert group["weight_decay"] == expected["weight_decay"]
        assert group["lr_scale"] == pytest.approx(expected["lr_scale"], rel=1e-12)


def test_finetuning_groups_are_the_release_ones() -> None:
    layer_decay, release = release_groups("finetune")
    groups = parameter_groups(stub(classifier_shapes()), weight_decay=0.05, layer_decay=layer_decay, depth=12)
    assert len(groups) == 28
    assert_groups_equal(groups, release, prefix="encoder.")


def test_pretraining_groups_are_the_release_ones() -> None:
    layer_decay, release = release_groups("pretrain")
    groups = parameter_groups(stub(autoencoder_shapes()), weight_decay=0.05, layer_decay=layer_decay, depth=12)
    assert_groups_equal(groups, release, prefix="")


def test_every_parameter_is_in_one_group_next_to_its_name() -> None:
    model = stub(classifier_shapes(depth=3, width=8), device="cpu")
    groups = parameter_groups(model, weight_decay=0.05, layer_decay=0.5, depth=3)
    grouped = {
        name: parameter
        for group in groups
        for name, parameter in zip(group["param_names"], group["params"], strict=True)
    }
    assert grouped.keys() == dict(model.named_parameters()).keys()
    assert all(grouped[name] is parameter for name, parameter in model.named_parameters())


def test_decoder_blocks_are_not_taken_for_encoder_blocks() -> None:
    groups = parameter_groups(stub(autoencoder_shapes()), weight_decay=0.05, layer_decay=0.5, depth=12)
    scale = {name: group["lr_scale"] for group in groups for name in group["param_names"]}
    assert scale["decoder.blocks.0.mlp.fc1.weight"] == 1.0
    assert scale["encoder.blocks.0.mlp.fc1.weight"] == 0.5**12


def test_frozen_parameters_are_left_out() -> None:
    model = stub(classifier_shapes(depth=2, width=8), device="cpu")
    model.get_submodule("encoder").requires_grad_(False)
    groups = parameter_groups(model, weight_decay=0.05, layer_decay=0.5, depth=2)
    assert {name for group in groups for name in group["param_names"]} == {
        "fc_norm.weight",
        "fc_norm.bias",
        "head.weight",
        "head.bias",
    }
    model.requires_grad_(False)
    with pytest.raises(ConfigError, match="no trainable parameter"):
        parameter_groups(model, weight_decay=0.05, layer_decay=0.5, depth=2)


def test_a_wrong_depth_is_refused() -> None:
    with pytest.raises(ConfigError, match="encoder blocks 0 to 11, but the model has 3"):
        parameter_groups(stub(classifier_shapes(depth=3, width=8)), weight_decay=0.0, layer_decay=0.75, depth=12)


def test_fused_adamw_moves_each_layer_by_its_share() -> None:
    """Adam's first step is the learning rate times the sign of the gradient, whatever its size."""
    model = stub(classifier_shapes(depth=2, width=8), device="cpu")
    config = OptimConfig(base_lr=1e-3, global_batch_size=512, layer_decay=0.5, weight_decay=0.0)
    optimizer = build_optimizer(model, config, depth=2)
    assert all(group["fused"] for group in optimizer.param_groups)
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 0.3)
    optimizer.step()
    moved = {name: 1.0 - float(p.detach().flatten()[0]) for name, p in model.named_parameters()}
    assert moved["head.weight"] == pytest.approx(2e-3, rel=1e-3)
    assert moved["encoder.blocks.1.attn.qkv.weight"] == pytest.approx(1e-3, rel=1e-3)
    assert moved["encoder.patch_embed.proj.weight"] == pytest.approx(2.5e-4, rel=1e-3)


def test_weight_decay_spares_vectors() -> None:
    model = stub({"mask_token": (1, 1, 4), "head.weight": (2, 4), "head.bias": (2,)}, device="cpu")
    optimizer = build_optimizer(model, OptimConfig(base_lr=0.1, global_batch_size=256, weight_decay=0.5), depth=0)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    left = {name: float(p.detach().flatten()[0]) for name, p in model.named_parameters()}
    assert left == {"mask_token": 1.0, "head.weight": pytest.approx(0.95), "head.bias": 1.0}


def test_learning_rate_reaches_every_group() -> None:
    model = stub(classifier_shapes(depth=1, width=8), device="cpu")
    optimizer = build_optimizer(model, OptimConfig(layer_decay=0.5), depth=1)
    set_learning_rate(optimizer, 0.8)
    assert {group["name"]: group["lr"] for group in optimizer.param_groups} == {
        f"layer_{layer}_{kind}": rate
        for layer, rate in ((0, 0.2), (1, 0.4), (2, 0.8))
        for kind in ("decay", "no_decay")
    }


def test_betas_come_from_the_configuration() -> None:
    optimizer = build_optimizer(stub({"head.weight": (2, 4)}, device="cpu"), OptimConfig(betas=(0.9, 0.95)), depth=0)
    assert optimizer.param_groups[0]["betas"] == (0.9, 0.95)
