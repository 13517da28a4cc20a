"""The model of MME: names and shapes of its weights, the values it gives, and what it refuses."""

import pytest
import torch

from everest.config import CheckpointInfo, ClipConfig, ModelConfig, ObjectiveConfig, SelectionConfig
from everest.errors import ConfigError
from everest.models import MotionAutoencoder, build_classifier, build_masked_model, initialize_from, load_model
from everest.models import save_weights as save
from everest.models.motion import num_motion_values
from everest.models.weights import from_release, load_state
from everest.settings import parse

MME = ObjectiveConfig(name="mme")
CLIP = ClipConfig(num_frames=4, height=32, width=48)
BLOCK = (
    *("norm1.weight", "norm1.bias", "attn.q_bias", "attn.v_bias", "attn.qkv.weight", "attn.proj.weight"),
    *("attn.proj.bias", "norm2.weight", "norm2.bias", "mlp.fc1.weight", "mlp.fc1.bias"),
    *("mlp.fc2.weight", "mlp.fc2.bias"),
)


def built(clip: ClipConfig = CLIP, **settings: object) -> MotionAutoencoder:
    model = build_masked_model(ModelConfig.model_validate({"size": "tiny"} | settings), clip, MME)
    assert isinstance(model, MotionAutoencoder)
    return model


def test_the_weights_have_the_names_and_shapes_of_mme() -> None:
    with torch.device("meta"):
        state = built(ClipConfig(), size="base").state_dict()
    shapes = {key: list(value.shape) for key, value in state.items() if not key.startswith("encoder.")}
    heads = {"0.0": (512, 192), "0.2": (108, 512), "1.0": (512, 192), "1.2": (32, 512)}
    expected = {f"decoder.0.blocks.0.{key}" for key in BLOCK} | {"mask_token", "encoder_to_decoder.0.weight"}
    expected |= {"decoder.0.norm.weight", "decoder.0.norm.bias"}
    expected |= {f"decoder.0.head.{name}.{kind}" for name in heads for kind in ("weight", "bias")}
    assert set(shapes) == expected
    assert shapes["encoder_to_decoder.0.weight"] == [192, 768]
    assert shapes["mask_token"] == [1, 1, 192]
    assert shapes["decoder.0.blocks.0.attn.qkv.weight"] == [576, 192]
    assert {name: tuple(shapes[f"decoder.0.head.{name}.weight"]) for name in heads} == heads
    assert {"encoder.patch_embed.proj.weight", "encoder.blocks.11.mlp.fc2.bias", "encoder.norm.bias"} <= set(state)


@pytest.mark.parametrize(("patch_size", "sizes"), [(8, (27, 8)), (16, (108, 32)), (32, (432, 128))])
def test_every_cell_of_a_token_has_27_values_of_shape_and_8_of_motion(patch_size: int, sizes: tuple[int, int]) -> None:
    assert num_motion_values(patch_size) == sizes
    clip = ClipConfig(num_frames=4, height=64, width=64)
    model = built(clip, patch_size=patch_size)
    patches = torch.randn(2, model.grid.num_tokens, model.grid.num_pixels)
    config = SelectionConfig(method="tube", keep_ratio=1.0, encode_ratio=0.3)
    values = model(patches, model.encoder.select(patches, config, "pretrain")).values.detach()
    shape, motion = values.split(list(sizes), dim=-1)
    assert 0 < float(shape.min()) < 0.5 < float(shape.max()) < 1
    assert -1 < float(motion.min()) < 0 < float(motion.max()) < 1


def test_patches_without_whole_cells_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"model.patch_size \(12\) is no multiple of 8: use one, such as 16"):
        built(ClipConfig(num_frames=4, height=24, width=24), patch_size=12)


def test_every_weight_learns() -> None:
    model = built()
    patches = torch.randn(2, model.grid.num_tokens, model.grid.num_pixels)
    chosen = model.encoder.select(patches, SelectionConfig(keep_ratio=0.9, encode_ratio=0.3), "pretrain")
    model(patches, chosen).values.square().mean().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_the_order_of_the_targets_is_kept() -> None:
    model = built().eval()
    patches = torch.randn(1, model.grid.num_tokens, model.grid.num_pixels)
    config = SelectionConfig(method="random", keep_ratio=1.0, encode_ratio=0.5)
    chosen = model.encoder.select(patches, config, "pretrain")
    values = model(patches, chosen).values
    swapped = type(chosen)(chosen.visible, chosen.target.flip(1), chosen.grid)
    torch.testing.assert_close(model(patches, swapped).values, values.flip(1), rtol=0, atol=1e-5)


def test_weights_files_are_loaded_again_and_start_a_classifier(tmp_path) -> None:  # type: ignore[no-untyped-def]
    config, model = ModelConfig(size="tiny"), built()
    rero = SelectionConfig(keep_ratio=0.3, encode_ratio=0.1)
    info = CheckpointInfo(task="pretrain", model=config, clip=CLIP, selection=rero, objective=MME)
    save(model, info, tmp_path / "weights.safetensors")
    loaded, found = load_model(tmp_path)
    assert isinstance(loaded, MotionAutoencoder)
    assert found == info
    assert all(torch.equal(value, loaded.state_dict()[key]) for key, value in model.state_dict().items())
    classifier = build_classifier(config, CLIP, 3)
    report = initialize_from(classifier, tmp_path)
    assert torch.equal(classifier.encoder.blocks[5].mlp.fc2.weight, model.encoder.blocks[5].mlp.fc2.weight)
    assert set(report.missing) == {"head.weight", "head.bias"}


def test_a_checkpoint_with_the_names_of_mme_loads_as_it_is() -> None:
    given = {key: torch.randn_like(value) for key, value in built().state_dict().items()}
    model = built()
    report = load_state(model, from_release(given), source="MME", strict=True)
    assert set(report.matched) == set(given)
    assert all(torch.equal(value, given[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize("objective", [{}, {"objective": {"name": "pixels"}}, {"objective": {"name": "mme"}}])
def test_descriptions_of_older_checkpoints_are_read(objective: dict[str, object]) -> None:
    before = {"task": "pretrain", "model": {}, "clip": {}, "selection": {"keep_ratio": 0.3, "encode_ratio": 0.1}}
    info = parse(CheckpointInfo, before | objective)
    assert info.objective.flow is None
    assert info.objective.name == ("mme" if "mme" in str(objective) else "pixels")


def test_the_decoder_can_be_deeper() -> None:
    assert len(built(decoder_depth=3).decoder[0].blocks) == 3
    assert len(built().decoder[0].blocks) == 1
