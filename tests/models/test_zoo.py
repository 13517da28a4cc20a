"""Contracts of every named model: its parameters, and that it runs forward and backward at odd sizes."""

import pytest
import torch

from everest.config import ClipConfig, ModelConfig, ModelSize, SelectionConfig, SelectionMethod, Task
from everest.errors import SelectionError
from everest.models import SIZES, Classifier, MaskedAutoencoder, build_autoencoder, build_classifier, grid_of
from everest.objectives import pixel_loss, pixel_targets
from everest.tokens import TokenSelection

PAPER_CLIP = ClipConfig(num_frames=16, height=224, width=224)
UCF101_CLASSES = 101

PARAMETERS = {  # of the release: pre-training with decoder depth 4, and fine-tuning with 101 classes
    "small": (24_029_376, 21_918_821),
    "base": (94_210_944, 86_304_869),
    "large": (317_782_016, 303_964_261),
    "huge": (653_104_256, 631_736_421),
}
DEPTHS = {"small": 12, "base": 12, "large": 24, "huge": 32}
BLOCK_KEYS = (
    *("norm1.weight", "norm1.bias", "attn.q_bias", "attn.v_bias", "attn.qkv.weight", "attn.proj.weight"),
    *("attn.proj.bias", "norm2.weight", "norm2.bias", "mlp.fc1.weight", "mlp.fc1.bias"),
    *("mlp.fc2.weight", "mlp.fc2.bias"),
)
CLIPS = {  # frames, height, width, tubelet, patch
    "8 frames, tubelet 1": (8, 32, 48, 1, 16),
    "24 frames, tubelet 2": (24, 48, 32, 2, 16),
    "tubelet 4, patch 8": (8, 24, 40, 4, 8),
    "96x128, patch 32": (4, 96, 128, 2, 32),
}


def built(size: ModelSize, clip: ClipConfig = PAPER_CLIP) -> tuple[MaskedAutoencoder, Classifier]:
    """Both models without memory for their weights."""
    with torch.device("meta"):
        model = ModelConfig(size=size)
        return build_autoencoder(model, clip), build_classifier(model, clip, UCF101_CLASSES)


def block_keys(prefix: str, depth: int) -> set[str]:
    return {f"{prefix}blocks.{index}.{key}" for index in range(depth) for key in BLOCK_KEYS}


@pytest.mark.parametrize("size", PARAMETERS)
def test_sizes_have_the_parameters_of_the_release(size: ModelSize) -> None:
    counts = tuple(sum(parameter.numel() for parameter in model.parameters()) for model in built(size))
    assert counts == PARAMETERS[size]


@pytest.mark.parametrize("size", PARAMETERS)
def test_state_dicts_have_the_keys_of_the_release(size: ModelSize) -> None:
    autoencoder, classifier = built(size)
    embed = {"patch_embed.proj.weight", "patch_embed.proj.bias"}
    encoder = {f"encoder.{key}" for key in embed} | block_keys("encoder.", DEPTHS[size])
    decoder = block_keys("decoder.", 4) | {
        f"decoder.{layer}.{kind}" for layer in ("norm", "head") for kind in ("weight", "bias")
    }
    between = {"encoder_to_decoder.weight", "mask_token", "encoder.norm.weight", "encoder.norm.bias"}
    assert set(autoencoder.state_dict()) == encoder | decoder | between
    release = embed | block_keys("", DEPTHS[size])
    head = {"fc_norm.weight", "fc_norm.bias", "head.weight", "head.bias"}
    assert {key.removeprefix("encoder.") for key in classifier.state_dict()} == release | head
    assert set(classifier.state_dict()) == encoder | head


def test_the_decoder_is_half_as_wide() -> None:
    widths = {size: (table.width, table.decoder_width) for size, table in SIZES.items()}
    assert widths == {
        "nano": (96, 48),
        "tiny": (192, 96),
        "small": (384, 192),
        "base": (768, 384),
        "large": (1024, 512),
        "huge": (1280, 640),
    }


@pytest.mark.parametrize("task", ["pretrain", "finetune"])
@pytest.mark.parametrize("sizes", CLIPS.values(), ids=CLIPS)
@pytest.mark.parametrize("size", ["tiny", "small"])
def test_a_model_learns_from_clips_of_any_size(size: ModelSize, sizes: tuple[int, ...], task: Task) -> None:
    assert bool(torch.isfinite(step(size, sizes, task)))


@pytest.mark.parametrize("task", ["pretrain", "finetune"])
@pytest.mark.parametrize("size", ["base", "large", "huge"])
def test_shapes_fit_in_large_models(size: ModelSize, task: Task) -> None:
    with torch.device("meta"):  # shapes without memory; there are no scores to choose by
        assert step(size, (16, 224, 224, 2, 16), task, "random_equal").shape == ()


def step(size: ModelSize, sizes: tuple[int, ...], task: Task, method: SelectionMethod = "rero") -> torch.Tensor:
    """Build a model, run it forward and backward, check shapes and gradients, and return the loss."""
    frames, height, width, tubelet_size, patch_size = sizes
    model_config = ModelConfig(size=size, tubelet_size=tubelet_size, patch_size=patch_size, decoder_depth=1)
    clip = ClipConfig(num_frames=frames, height=height, width=width)
    torch.manual_seed(0)
    grid = grid_of(model_config, clip)
    assert grid.clip_shape == (frames, height, width)
    patches = torch.randn(2, grid.num_tokens, grid.num_pixels)
    if task == "pretrain":
        autoencoder = build_autoencoder(model_config, clip)
        model: MaskedAutoencoder | Classifier = autoencoder
        selection = choose(autoencoder, patches, task, method)
        prediction = autoencoder(patches, selection)
        assert prediction.values.shape == (*selection.target.shape, grid.num_pixels)
        targets = pixel_targets(patches, selection.target, grid, torch.zeros(3), torch.ones(3))
        loss = pixel_loss(prediction, targets)
    else:
        model = build_classifier(model_config, clip, 5)
        logits = model(patches, choose(model, patches, task, method))
        assert logits.shape == (2, 5)
        loss = torch.nn.functional.cross_entropy(logits, torch.tensor([0, 4]))
    loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    return loss


def choose(
    model: MaskedAutoencoder | Classifier, patches: torch.Tensor, task: Task, method: SelectionMethod
) -> TokenSelection:
    keep, encode = (0.3, 0.1) if task == "pretrain" else (0.6, 0.6)
    return model.encoder.select(patches, SelectionConfig(method=method, keep_ratio=keep, encode_ratio=encode), task)


def test_a_clip_that_cannot_be_cut_has_no_model() -> None:
    with pytest.raises(SelectionError, match="100 pixels of width"):
        build_classifier(ModelConfig(size="tiny"), ClipConfig(num_frames=4, height=32, width=100), 5)


def test_drop_path_and_dropout_reach_the_model() -> None:
    model = build_classifier(
        ModelConfig(size="tiny", drop_path=0.1, head_dropout=0.3), ClipConfig(num_frames=4, height=32, width=32), 5
    )
    assert [block.skip1.rate for block in model.encoder.blocks] == pytest.approx([0, 0.02, 0.04, 0.06, 0.08, 0.1])
    assert model.dropout.rate == 0.3


def test_weights_follow_from_the_seed() -> None:
    states = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        model = build_autoencoder(ModelConfig(size="tiny"), ClipConfig(num_frames=4, height=32, width=32))
        states.append(model.state_dict()["encoder.blocks.0.attn.qkv.weight"])
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])
