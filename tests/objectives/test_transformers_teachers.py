"""Features of models of transformers against the model run by itself, and what is refused.

Shapes: B clips, T frames, H height, W width, N tokens, L patches of a picture, D width.
"""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor

from everest.config import CheckpointInfo
from everest.errors import ConfigError, EverestError, WeightsError
from everest.objectives import Teacher
from everest.objectives.transformers_teachers import is_of_transformers, load_transformers_teacher
from everest.tokens import TokenGrid

GRID = TokenGrid(num_slots=3, num_rows=2, num_columns=4, tubelet_size=2, patch_size=8)
SIZES = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
SHAPE: dict[str, Any] = {"image_size": (16, 32), "patch_size": 8}
IMAGENET = CheckpointInfo.model_fields["mean"].default, CheckpointInfo.model_fields["std"].default


def save(path: Path, name: str, **changes: Any) -> Any:
    """Write a random model as transformers does, and give it."""
    torch.manual_seed(0)
    family = next(family for family in ("VideoMAE", "ViTMAE", "ViT") if name.startswith(family))
    more: dict[str, Any] = {}
    if family == "VideoMAE":
        more = {"num_frames": 6, "tubelet_size": 2, "use_mean_pooling": False}
    if "PreTraining" in name:
        decoder = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
        more |= {f"decoder_{key}": value for key, value in decoder.items()}
    if family == "ViTMAE" and "image_size" not in changes:
        more["image_size"] = 16  # its fixed positions are those of a square
    config = getattr(transformers, f"{family}Config")
    model = getattr(transformers, name)(config(**{**SIZES, **SHAPE, **more, **changes})).eval()
    with torch.no_grad():  # norms and biases that matter
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05 * torch.randn_like(parameter))
    model.save_pretrained(path)
    return model


def clips_of(grid: TokenGrid) -> Tensor:
    """Values 0 to 1, shape [B, 3, T, H, W]."""
    return torch.rand(2, 3, *grid.clip_shape, generator=torch.Generator().manual_seed(0))


def normal(clips: Tensor, mean: tuple[float, ...] = IMAGENET[0], std: tuple[float, ...] = IMAGENET[1]) -> Tensor:
    return (clips - torch.tensor(mean).view(3, 1, 1, 1)) / torch.tensor(std).view(3, 1, 1, 1)


@torch.no_grad()
def last_state(model: Any, pixels: Tensor) -> Tensor:
    """What the last block of a model says, run by itself."""
    return model(pixels, output_hidden_states=True).hidden_states[-1]


@pytest.mark.parametrize("name", ["VideoMAEModel", "VideoMAEForPreTraining", "VideoMAEForVideoClassification"])
def test_videomae_speaks_before_its_last_norm(name: str, tmp_path: Path) -> None:
    model = save(tmp_path, name, **({"use_mean_pooling": True} if "Class" in name else {}))
    teacher = load_transformers_teacher(str(tmp_path), "video", GRID)
    clips = clips_of(GRID)
    features = teacher(clips)
    body = model if name == "VideoMAEModel" else model.videomae
    expected = last_state(body, normal(clips).transpose(1, 2))
    assert features.shape == (2, GRID.num_tokens, teacher.width) == (2, 24, 24)
    torch.testing.assert_close(features, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["ViTModel", "ViTForImageClassification"])
def test_vit_is_asked_about_the_first_frame_of_each_tubelet(name: str, tmp_path: Path) -> None:
    model = save(tmp_path, name)
    teacher = load_transformers_teacher(str(tmp_path), "image", GRID)
    clips = clips_of(GRID)
    features = teacher(clips)
    assert features.shape == (2, 24, 24)
    for slot in range(3):
        expected = last_state(getattr(model, "vit", model), normal(clips)[:, :, 2 * slot])[:, 1:]  # no class token
        torch.testing.assert_close(features[:, 8 * slot : 8 * slot + 8], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["ViTMAEModel", "ViTMAEForPreTraining"])
def test_vit_mae_sees_all_patches_in_their_order(name: str, tmp_path: Path) -> None:
    """By itself it shuffles them: they are put back in their order here."""
    grid = TokenGrid(num_slots=3, num_rows=2, num_columns=2, tubelet_size=2, patch_size=8)
    model = save(tmp_path, name, mask_ratio=0.75)
    teacher = load_transformers_teacher(str(tmp_path), "image", grid)
    clips = clips_of(grid)
    features = teacher(clips)
    assert torch.equal(teacher(clips), features)  # nothing is drawn
    body = getattr(model, "vit", model)
    body.config.mask_ratio = 0.0
    for slot in range(3):
        with torch.no_grad():
            found = body(normal(clips)[:, :, 2 * slot], output_hidden_states=True)
        order = found.ids_restore.unsqueeze(-1).expand(-1, -1, 24)
        expected = found.hidden_states[-1][:, 1:].gather(1, order)
        torch.testing.assert_close(features[:, 4 * slot : 4 * slot + 4], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("values", "mean", "std"),
    [
        ({"image_mean": [0.5, 0.4, 0.3], "image_std": [0.5, 0.25, 0.2]}, (0.5, 0.4, 0.3), (0.5, 0.25, 0.2)),
        ({"do_normalize": False, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}, (0.0,) * 3, (1.0,) * 3),
        ({"rescale_factor": 0.00392156862745098, "do_normalize": False}, (0.0,) * 3, (1.0,) * 3),
    ],
)
@pytest.mark.parametrize("file", ["preprocessor_config.json", "video_preprocessor_config.json"])
def test_the_normalisation_is_the_models_own(
    file: str, values: dict[str, Any], mean: tuple[float, ...], std: tuple[float, ...], tmp_path: Path
) -> None:
    model = save(tmp_path, "ViTModel")
    (tmp_path / file).write_text(json.dumps(values))
    teacher = load_transformers_teacher(str(tmp_path), "image", GRID)
    assert (teacher.mean, teacher.std) == (mean, std)
    clips = clips_of(GRID)
    expected = last_state(model, normal(clips, mean, std)[:, :, 0])[:, 1:]
    torch.testing.assert_close(teacher(clips)[:, :8], expected, rtol=1e-5, atol=1e-5)


def test_a_teacher_is_frozen_float32_and_leaves_the_random_state(tmp_path: Path) -> None:
    saved = save(tmp_path, "ViTModel")
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"dtype": "bfloat16"}))
    before = torch.get_rng_state()
    teacher = load_transformers_teacher(str(tmp_path), "image", GRID)
    assert torch.equal(torch.get_rng_state(), before)
    assert isinstance(teacher, Teacher)
    assert not teacher.network.training
    assert {(p.dtype, p.requires_grad) for p in teacher.parameters()} == {(torch.float32, False)}
    assert torch.equal(teacher.state_dict()["network.model.embeddings.cls_token"], saved.embeddings.cls_token)


def test_what_is_of_transformers(tmp_path: Path) -> None:
    assert is_of_transformers("hf:MCG-NJU/videomae-base")
    assert not is_of_transformers("MCG-NJU/videomae-base")
    assert not is_of_transformers(str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps({"task": "pretrain"}))  # a run folder of ours
    assert not is_of_transformers(str(tmp_path))
    save(tmp_path, "ViTModel")
    assert is_of_transformers(str(tmp_path))


@pytest.mark.parametrize(
    ("name", "kind", "changes", "message"),
    [
        ("ViTModel", "video", {}, r"objective\.video_teacher: .* is a model of type 'vit'; accepted: videomae"),
        ("VideoMAEModel", "image", {}, r"is a model of type 'videomae'; accepted: vit, vit_mae"),
        ("VideoMAEModel", "video", {"num_frames": 4}, r"describes TokenGrid\(2x2x4.*needs TokenGrid\(3x2x4"),
        ("VideoMAEModel", "video", {"tubelet_size": 3}, r"describes TokenGrid\(2x2x4 tokens of 3x8x8"),
        ("ViTModel", "image", {"image_size": 32}, r"describes TokenGrid\(3x4x4 tokens"),
        ("ViTModel", "image", {"patch_size": 16}, r"describes TokenGrid\(3x1x2 tokens of 2x16x16"),
        ("ViTModel", "image", {"patch_size": (8, 16)}, r"patches of 8x16 pixels"),
    ],
)
def test_a_model_that_does_not_fit_is_refused(
    name: str, kind: Any, changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    save(tmp_path, name, **changes)
    with pytest.raises(WeightsError, match=message):
        load_transformers_teacher(str(tmp_path), kind, GRID)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ("{", "preprocessor_config.json: not readable as JSON"),
        ('{"do_normalize": true}', "does not say image_mean and image_std"),
        ('{"rescale_factor": 0.00784}', "scales pixels by 0.00784"),
        ('{"do_rescale": false}', "scales pixels by 1;"),
    ],
)
def test_pixels_that_cannot_be_prepared_are_refused(values: str, message: str, tmp_path: Path) -> None:
    save(tmp_path, "ViTModel")
    (tmp_path / "preprocessor_config.json").write_text(values)
    with pytest.raises(WeightsError, match=message):
        load_transformers_teacher(str(tmp_path), "image", GRID)


def test_weights_that_are_not_all_there_are_refused(tmp_path: Path) -> None:
    save(tmp_path, "ViTModel")
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 3}))
    with pytest.raises(WeightsError, match="lacks 16 weights of its own description, such as"):
        load_transformers_teacher(str(tmp_path), "image", GRID)
    (tmp_path / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(EverestError, match="cannot be loaded"):
        load_transformers_teacher(str(tmp_path), "image", GRID)


def test_a_folder_that_is_no_model_and_a_missing_library_are_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "of my own"}))
    with pytest.raises(WeightsError, match="cannot be read as a model of transformers"):
        load_transformers_teacher(str(tmp_path), "image", GRID)
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ConfigError, match=r"pip install 'transformers>=4\.50'"):
        load_transformers_teacher(str(tmp_path), "image", GRID)
