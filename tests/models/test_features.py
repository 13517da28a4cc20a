"""Features of clips against the model run by hand."""

import pytest
import torch
from torch import Tensor

from everest.config import CheckpointInfo, ClipConfig, ModelConfig, SelectionConfig
from everest.errors import ConfigError
from everest.models import build_autoencoder, build_classifier
from everest.models.features import FeatureModel
from everest.models.pipeline import choose_to_use
from everest.models.tubelets import cut
from everest.tokens import TokenSelection

CLIP = ClipConfig(num_frames=4, height=32, width=32)
MODEL = ModelConfig(size="tiny")
RERO = SelectionConfig(method="rero", keep_ratio=0.6, encode_ratio=0.2)


def clips(count: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, (count, 3, 4, 32, 32), generator=generator).to(torch.uint8)


def classifier(selection: SelectionConfig = RERO) -> tuple[torch.nn.Module, CheckpointInfo]:
    torch.manual_seed(0)
    info = CheckpointInfo(task="finetune", model=MODEL, clip=CLIP, selection=selection, class_names=("a", "b"))
    return build_classifier(MODEL, CLIP, 2).eval(), info


def test_the_last_features_are_those_that_the_head_sees() -> None:
    model, info = classifier()
    found = FeatureModel(model, info)(clips())
    expected = model.features(*choose_to_use(model.encoder, clips(), info))
    torch.testing.assert_close(torch.stack([each.values for each in found]), expected)
    assert all(each.tokens is None for each in found)


@pytest.mark.parametrize("layer", [1, 4, 6])
def test_a_layer_is_what_its_block_gives(layer: int) -> None:
    model, info = classifier()
    given: list[Tensor] = []
    hook = model.encoder.blocks[layer - 1].register_forward_hook(lambda *passed: given.append(passed[2]))
    selection = choose_to_use(model.encoder, clips(), info)[1]
    model(*choose_to_use(model.encoder, clips(), info))
    hook.remove()
    tokens = FeatureModel(model, info, layer=layer, per_token=True)(clips())
    torch.testing.assert_close(torch.stack([each.values for each in tokens]), given[0])
    assert torch.equal(torch.stack([each.tokens for each in tokens]), selection.visible)
    pooled = FeatureModel(model, info, layer=layer)(clips())
    torch.testing.assert_close(torch.stack([each.values for each in pooled]), given[0].mean(dim=1))
    assert len(model.encoder.blocks) == 6  # the model itself is as it was


def test_a_pre_trained_encoder_sees_every_token_and_draws_nothing() -> None:
    torch.manual_seed(0)
    model = build_autoencoder(MODEL, CLIP).eval()
    info = CheckpointInfo(task="pretrain", model=MODEL, clip=CLIP, selection=RERO)
    found, again = (FeatureModel(model, info, per_token=True)(clips()) for _ in range(2))
    everything = torch.arange(model.grid.num_tokens).expand(3, -1)
    selection = TokenSelection(everything.clone(), torch.empty(3, 0, dtype=torch.int64), model.grid)
    expected = model.encoder(cut(clips(), model.grid, info.mean, info.std), selection)
    torch.testing.assert_close(torch.stack([each.values for each in found]), expected)
    assert all(torch.equal(one.values, other.values) for one, other in zip(found, again, strict=True))


@pytest.mark.parametrize("layer", [None, 3])
def test_clips_that_keep_different_numbers_of_tokens_are_described_apart(layer: int | None) -> None:
    moving = clips()
    moving[1, :, 2:] = moving[1, :, :2]  # half of it stands still
    adaptive = SelectionConfig(method="adaptive", keep_ratio=1.0, encode_ratio=0.2, coverage=0.9)
    model, info = classifier(adaptive)
    together = FeatureModel(model, info, layer=layer, per_token=True)(moving)
    assert len({len(each.values) for each in together}) > 1
    for number, each in enumerate(together):
        alone = FeatureModel(model, info, layer=layer, per_token=True)(moving[number : number + 1])[0]
        torch.testing.assert_close(each.values, alone.values, rtol=1e-4, atol=1e-5)
        assert torch.equal(each.tokens, alone.tokens)
        assert int(each.tokens.max()) < model.grid.num_tokens
    pooled = FeatureModel(model, info, layer=layer)(moving)
    assert [list(each.values.shape) for each in pooled] == [[192]] * 3


@pytest.mark.parametrize("layer", [0, 7])
def test_a_layer_that_is_not_there_is_refused(layer: int) -> None:
    with pytest.raises(ConfigError, match=f"6 blocks: give a layer from 1 to 6, not {layer}"):
        FeatureModel(*classifier(), layer=layer)


def test_other_networks_have_one_vector_only() -> None:
    network = ModelConfig(arch="mvit_s", size="small")
    whole = SelectionConfig(method="all", keep_ratio=1.0, encode_ratio=1.0)
    info = CheckpointInfo(task="finetune", model=network, clip=CLIP, selection=whole, class_names=("a", "b"))
    model = build_classifier(network, CLIP, 2)
    with pytest.raises(ConfigError, match=r"model\.arch=mvit_s gives one vector"):
        FeatureModel(model, info, layer=1)
    assert FeatureModel(model, info)(clips(1))[0].values.ndim == 1
