"""Laws of the student of Masked Video Distillation.

Shapes: B clips, V visible, M targets, D width, Q values predicted for a target.
"""

from dataclasses import replace

import pytest
import torch
from small_models import PRETRAIN, encoder, jitter, random_patches

from everest.config import ClipConfig, ModelConfig, ObjectiveConfig
from everest.errors import ConfigError
from everest.models import DistillationStudent, build_masked_model
from everest.training.optim import parameter_groups

KEYS = {"norm1.weight", "attn.q_bias", "attn.v_bias", "attn.qkv.weight", "attn.proj.bias", "mlp.fc2.weight"}


def student(image_width: int | None = 7, video_width: int | None = 5, depth: int = 2) -> DistillationStudent:
    torch.manual_seed(0)
    body = encoder(final_norm=True)
    return jitter(
        DistillationStudent(
            body, width=24, num_heads=2, decoder_depth=depth, image_width=image_width, video_width=video_width
        )
    )


def predict(model: DistillationStudent) -> torch.Tensor:
    patches = random_patches()
    generator = torch.Generator().manual_seed(0)
    return model(patches, model.encoder.select(patches, PRETRAIN, "pretrain", generator=generator)).values


@pytest.mark.parametrize(("image", "video", "width"), [(7, 5, 12), (7, None, 7), (None, 5, 5)])
def test_every_target_gets_the_features_of_each_teacher(image: int | None, video: int | None, width: int) -> None:
    assert predict(student(image, video)).shape == (2, 20, width)


def test_the_image_teachers_features_come_first() -> None:
    both = student()
    expected = predict(both)
    for name, part in (("img", slice(0, 7)), ("vid", slice(7, 12))):
        alone = student(7 if name == "img" else None, 5 if name == "vid" else None)
        alone.load_state_dict({key: both.state_dict()[key] for key in alone.state_dict()})
        torch.testing.assert_close(predict(alone), expected[..., part])


def test_the_decoders_do_not_touch_each_other() -> None:
    model = student()
    before = predict(model)
    with torch.no_grad():
        for parameter in model.decoder_vid.parameters():
            parameter.add_(1.0)
    after = predict(model)
    assert torch.equal(before[..., :7], after[..., :7])
    assert not torch.equal(before[..., 7:], after[..., 7:])


def test_predictions_follow_the_order_of_the_targets() -> None:
    model, patches = student().double(), random_patches().double()
    selection = model.encoder.select(patches, PRETRAIN, "pretrain")
    turned = replace(selection, target=selection.target.flip(1))
    expected = model(patches, selection).values.flip(1)
    torch.testing.assert_close(model(patches, turned).values, expected, rtol=0, atol=1e-12)


def test_a_target_knows_its_place_only() -> None:
    model, patches = student().double(), random_patches().double()
    selection = model.encoder.select(patches, PRETRAIN, "pretrain")
    assert len(torch.unique(model(patches, selection).values[0].detach(), dim=0)) == 20
    model.encoder.positions.zero_()
    same = model(patches, selection).values
    torch.testing.assert_close(same, same[:, :1].expand_as(same), rtol=0, atol=1e-12)


def test_every_parameter_takes_part_in_the_loss() -> None:
    model = student()
    predict(model).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_parameters_have_the_names_of_mvd() -> None:
    state = student().state_dict()
    for name, width in (("img", 7), ("vid", 5)):
        assert state[f"mask_token_{name}"].shape == (1, 1, 24)
        assert state[f"down_{name}.weight"].shape == (24, 24)
        assert state[f"down_{name}.bias"].shape == (24,)
        assert state[f"decoder_{name}.norm.weight"].shape == (24,)
        assert state[f"decoder_{name}.head.weight"].shape == (width, 24)
        for block in range(2):
            assert {key for key in KEYS if f"decoder_{name}.blocks.{block}.{key}" in state} == KEYS
    others = [key for key in state if not key.startswith(("mask_token_", "down_", "decoder_"))]
    assert all(key.startswith("encoder.") for key in others)


def test_mask_tokens_do_not_decay() -> None:
    groups = parameter_groups(student(), weight_decay=0.05, layer_decay=1.0, depth=2)
    (no_decay,) = [group for group in groups if group["weight_decay"] == 0.0]
    assert {"mask_token_img", "mask_token_vid", "down_img.bias"} <= set(no_decay["param_names"])


def test_the_zoo_builds_it_as_wide_as_its_encoder_with_two_blocks() -> None:
    objective = ObjectiveConfig(name="mvd", image_width=10, video_width=11)
    clip = ClipConfig(num_frames=4, height=32, width=32)
    model = build_masked_model(ModelConfig(size="tiny"), clip, objective)
    assert isinstance(model, DistillationStudent)
    state = model.state_dict()
    assert state["decoder_img.head.weight"].shape == (10, 192)
    assert state["decoder_vid.head.weight"].shape == (11, 192)
    assert sum(key.startswith("decoder_img.blocks.") and key.endswith("norm1.bias") for key in state) == 2
    deeper = build_masked_model(ModelConfig(size="tiny", decoder_depth=3), clip, objective).state_dict()
    assert "decoder_vid.blocks.2.norm1.bias" in deeper


def test_no_teacher_at_all_is_refused() -> None:
    with pytest.raises(ConfigError, match="without a teacher has nothing to predict"):
        student(None, None)
