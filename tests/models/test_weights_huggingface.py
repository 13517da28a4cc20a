"""VideoMAE of transformers with random weights gives the same numbers here, and ours the same there."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from small_models import jitter
from torch import Tensor, nn
from transformers import VideoMAEConfig, VideoMAEForPreTraining, VideoMAEForVideoClassification, VideoMAEModel

from everest.config import CheckpointInfo, ClipConfig, ModelConfig, SelectionConfig
from everest.datasets import load_data
from everest.errors import WeightsError
from everest.models import (
    Classifier,
    MaskedModel,
    build_autoencoder,
    build_classifier,
    grid_of,
    initialize_from,
    load_model,
    save_weights,
)
from everest.models.weights import convert_weights, read_weights
from everest.tokens import TokenSelection, patchify

NAMES = ("jump", "run", "sit")
TINY = {
    "image_size": 32,
    "num_frames": 4,
    "hidden_size": 192,
    "num_hidden_layers": 6,
    "num_attention_heads": 3,
    "intermediate_size": 768,
    "decoder_hidden_size": 96,
    "decoder_num_hidden_layers": 2,
    "decoder_num_attention_heads": 3,
    "decoder_intermediate_size": 384,
}
ALL = SelectionConfig(method="all", keep_ratio=1.0, encode_ratio=1.0)


def theirs(kind: Any, spread: float = 0.05, **settings: Any) -> Any:
    """A small model of the library, with weights none of which is 0 or 1 unless the spread is."""
    torch.manual_seed(0)
    labels = dict(enumerate(NAMES))
    model = kind(VideoMAEConfig(**{**TINY, "id2label": labels, **settings}))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(spread * torch.randn_like(parameter))
    return model.eval()


def clips(height: int = 32, width: int = 32) -> Tensor:
    return torch.randn(2, 3, 4, height, width, generator=torch.Generator().manual_seed(1))


def masks(num_tokens: int) -> Tensor:
    """Half of the tokens, others for each clip."""
    order = torch.rand(2, num_tokens, generator=torch.Generator().manual_seed(2)).argsort(dim=1)
    return torch.zeros(2, num_tokens, dtype=torch.bool).scatter_(1, order[:, : num_tokens // 2], True)


@torch.no_grad()
def answer_of_theirs(model: Any, frames: Tensor) -> Tensor:
    given = frames.transpose(1, 2)  # [B, T, 3, H, W]
    if isinstance(model, VideoMAEForVideoClassification):
        return model(given).logits
    return model(given, bool_masked_pos=masks(model.videomae.embeddings.num_patches)).logits


@torch.no_grad()
def answer_of_ours(model: MaskedModel | Classifier, frames: Tensor) -> Tensor:
    grid = model.grid
    patches = patchify(frames, grid)
    if isinstance(model, Classifier):
        everything = torch.arange(grid.num_tokens).expand(2, -1)
        return model(patches, TokenSelection(everything, everything[:, :0], grid))
    masked = masks(grid.num_tokens)
    visible, target = ((masked == value).nonzero()[:, 1].reshape(2, -1) for value in (False, True))
    return model(patches, TokenSelection(visible, target, grid)).values


def ours(task: str, **model: Any) -> tuple[nn.Module, CheckpointInfo]:
    torch.manual_seed(3)
    config, clip = ModelConfig(size="tiny", decoder_depth=2, **model), ClipConfig(num_frames=4, height=32, width=32)
    info = CheckpointInfo(task=task, model=config, clip=clip, selection=ALL)  # type: ignore[arg-type]
    if task == "finetune":
        return jitter(build_classifier(config, clip, 3)).eval(), info.model_copy(update={"class_names": NAMES})
    tube = SelectionConfig(method="tube", keep_ratio=1.0, encode_ratio=0.1)
    return jitter(build_autoencoder(config, clip)).eval(), info.model_copy(update={"selection": tube})


MODELS = {
    "pre-training, as on the hub": (VideoMAEForPreTraining, {"use_mean_pooling": False}),
    "pre-training, by default": (VideoMAEForPreTraining, {}),
    "classification": (VideoMAEForVideoClassification, {}),
    "classification, not square": (VideoMAEForVideoClassification, {"image_size": [32, 48]}),
    "classification, other epsilon": (VideoMAEForVideoClassification, {"layer_norm_eps": 1e-3}),
    "classification, no biases": (VideoMAEForVideoClassification, {"qv_bias": False}),
}


class TestFromTransformers:
    @pytest.mark.parametrize("spread", [0.0, 0.05])
    @pytest.mark.parametrize("name", MODELS)
    def test_the_same_numbers_come_out(self, name: str, spread: float, tmp_path: Path) -> None:
        kind, settings = MODELS[name]
        model = theirs(kind, spread, **settings)
        model.save_pretrained(tmp_path)
        converted, info = load_model(tmp_path)
        frames = clips(info.clip.height, info.clip.width)
        expected = answer_of_theirs(model, frames)
        torch.testing.assert_close(answer_of_ours(converted, frames), expected, rtol=0, atol=1e-5)
        assert info.class_names == (NAMES if info.task == "finetune" else ())
        assert (info.clip.num_frames, info.clip.height) == (4, 32)

    @pytest.mark.parametrize("name", ["pre-training, as on the hub", "pre-training, by default", "classification"])
    def test_there_and_back_is_every_bit(self, name: str, tmp_path: Path) -> None:
        kind, settings = MODELS[name]
        model = theirs(kind, **settings)
        model.save_pretrained(tmp_path / "theirs")
        convert_weights(tmp_path / "theirs", tmp_path / "ours.safetensors", "everest")
        convert_weights(tmp_path / "ours.safetensors", tmp_path / "back", "hf")
        back = kind.from_pretrained(tmp_path / "back")
        assert same(back.state_dict(), model.state_dict())
        one, other = (vars(m.config) for m in (model, back))
        used = {key for key in TINY if kind is VideoMAEForPreTraining or not key.startswith("decoder_")}
        used |= {"layer_norm_eps", "use_mean_pooling", "patch_size", "tubelet_size", "qv_bias"}
        assert {key for key in used if one[key] != other[key]} == set()

    def test_older_files_and_pickles(self, tmp_path: Path) -> None:
        model = theirs(VideoMAEForVideoClassification)
        model.save_pretrained(tmp_path)
        (tmp_path / "model.safetensors").unlink()
        torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")  # biases by the names that they have in memory
        converted, _ = load_model(tmp_path)
        expected = answer_of_theirs(model, clips())
        torch.testing.assert_close(answer_of_ours(converted, clips()), expected, rtol=0, atol=1e-5)

    def test_a_bias_of_the_keys_changes_nothing_and_is_reported(self, tmp_path: Path) -> None:
        model = theirs(VideoMAEForVideoClassification)
        expected = answer_of_theirs(model, clips())
        state = dict(model.state_dict())
        for layer in range(6):
            key = f"videomae.encoder.layer.{layer}.attention.attention.key"
            state[f"{key}.bias"] = torch.randn(192)
            module = model.get_submodule(key)
            module.bias = nn.Parameter(state[f"{key}.bias"])
        torch.testing.assert_close(answer_of_theirs(model, clips()), expected, rtol=0, atol=1e-5)
        model.save_pretrained(tmp_path)
        (tmp_path / "model.safetensors").unlink()
        torch.save(state, tmp_path / "pytorch_model.bin")
        reading = read_weights(tmp_path)
        assert any("key biases of 6 blocks left out" in note for note in reading.notes)
        converted, _ = load_model(tmp_path)
        torch.testing.assert_close(answer_of_ours(converted, clips()), expected, rtol=0, atol=1e-5)

    def test_an_encoder_alone_starts_fine_tuning(self, tmp_path: Path) -> None:
        model = theirs(VideoMAEModel, use_mean_pooling=False)
        model.save_pretrained(tmp_path)
        reading = read_weights(tmp_path)
        assert reading.part == "encoder"
        classifier = build_classifier(reading.info.model, reading.info.clip, 3)
        report = initialize_from(classifier, reading)
        assert report.missing == ("head.weight", "head.bias")
        assert torch.equal(classifier.fc_norm.weight, model.layernorm.weight)

    def test_a_head_for_the_first_token_is_left_out(self, tmp_path: Path) -> None:
        theirs(VideoMAEForVideoClassification, use_mean_pooling=False).save_pretrained(tmp_path)
        reading = read_weights(tmp_path)
        assert reading.part == "encoder"
        assert all("first token" in reason for reason in reading.unused.values())
        report = initialize_from(build_classifier(reading.info.model, reading.info.clip, 3), reading, NAMES)
        assert report.missing == ("head.weight", "head.bias")

    def test_labels_that_nobody_filled_in_are_no_names(self, tmp_path: Path) -> None:
        theirs(VideoMAEForVideoClassification, id2label={i: f"LABEL_{i}" for i in range(3)}).save_pretrained(tmp_path)
        reading = read_weights(tmp_path)
        assert not reading.names_known
        assert reading.info.class_names == ("class 0", "class 1", "class 2")

    @pytest.mark.parametrize(
        ("change", "told"),
        [
            ({"hidden_act": "relu"}, "hidden_act='relu' instead of 'gelu'"),
            ({"num_attention_heads": 6}, "size tiny with 6 heads instead of 3"),
            ({"intermediate_size": 384}, "intermediate_size=384 instead of 4 x hidden_size"),
            ({"model_type": "vivit"}, "weights of model type 'vivit'"),
        ],
    )
    def test_other_models_are_refused(self, change: dict[str, Any], told: str, tmp_path: Path) -> None:
        theirs(VideoMAEForVideoClassification).save_pretrained(tmp_path)
        path = tmp_path / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | change))
        with pytest.raises(WeightsError, match=told) as caught:
            load_model(tmp_path)
        assert "\n" not in str(caught.value)

    def test_the_preprocessor_says_how_pixels_are_normalised(self, tmp_path: Path) -> None:
        theirs(VideoMAEForVideoClassification).save_pretrained(tmp_path)
        assert read_weights(tmp_path).info.mean == (0.485, 0.456, 0.406)
        path = tmp_path / "preprocessor_config.json"
        path.write_text('{"image_mean": [0.1, 0.2, 0.3]}')
        info = read_weights(tmp_path).info
        assert (info.mean, info.std) == ((0.1, 0.2, 0.3), (0.5, 0.5, 0.5))
        path.write_text('{"image_mean": "imagenet"}')
        with pytest.raises(WeightsError, match=r"image_mean .+ must be three numbers"):
            read_weights(tmp_path)


class TestToTransformers:
    @pytest.mark.parametrize("task", ["pretrain", "finetune"])
    def test_the_same_numbers_come_out(self, task: str, tmp_path: Path) -> None:
        model, info = ours(task, head_norm_epsilon=1e-5)
        save_weights(model, info, tmp_path / "ours.safetensors")
        converted = convert_weights(tmp_path / "ours.safetensors", tmp_path / "theirs", "hf")
        kind = VideoMAEForVideoClassification if task == "finetune" else VideoMAEForPreTraining
        loaded = kind.from_pretrained(tmp_path / "theirs").eval()
        expected = answer_of_ours(model, clips())
        torch.testing.assert_close(answer_of_theirs(loaded, clips()), expected, rtol=0, atol=1e-5)
        assert converted.notes == ()
        assert loaded.config.layer_norm_eps == 1e-6

    @pytest.mark.parametrize("task", ["pretrain", "finetune"])
    def test_the_epsilon_that_cannot_be_written_is_said_and_small(self, task: str, tmp_path: Path) -> None:
        model, info = ours(task)
        save_weights(model, info, tmp_path / "ours.safetensors")
        converted = convert_weights(tmp_path / "ours.safetensors", tmp_path / "theirs", "hf")
        assert "1e-05 to the variance in the norm before the head, this model 1e-06" in converted.notes[0]
        kind = VideoMAEForVideoClassification if task == "finetune" else VideoMAEForPreTraining
        loaded = kind.from_pretrained(tmp_path / "theirs").eval()
        expected = answer_of_ours(model, clips())
        torch.testing.assert_close(answer_of_theirs(loaded, clips()), expected, rtol=2e-5, atol=1e-5)

    def test_the_pipeline_names_classes(self, tmp_path: Path) -> None:
        model, info = ours("finetune")
        save_weights(model, info, tmp_path / "ours.safetensors")
        convert_weights(tmp_path / "ours.safetensors", tmp_path / "theirs", "hf")
        pipeline = transformers.pipeline("video-classification", model=str(tmp_path / "theirs"), device="cpu")
        answers = pipeline(str(load_data("bundled").records[0].path))
        assert {answer["label"] for answer in answers} == set(NAMES)
        assert sum(answer["score"] for answer in answers) == pytest.approx(1.0)
        processor = pipeline.image_processor
        assert tuple(processor.image_mean) == info.mean
        assert (processor.crop_size["height"], processor.crop_size["width"]) == (32, 32)

    def test_tokens_that_were_selected_are_mentioned(self, tmp_path: Path) -> None:
        model, info = ours("finetune", head_norm_epsilon=1e-5)
        rero = SelectionConfig(method="rero", keep_ratio=0.6, encode_ratio=0.6)
        save_weights(model, info.model_copy(update={"selection": rero}), tmp_path / "ours.safetensors")
        (note,) = convert_weights(tmp_path / "ours.safetensors", tmp_path / "theirs", "hf").notes
        assert note == "transformers computes all tokens, this model was trained on some (rero, 60% kept)"

    @pytest.mark.parametrize("change", [{"positions": "sine_3d"}, {"positions_grid": (2, 4, 4)}])
    def test_positions_that_they_do_not_have_are_refused(self, change: dict[str, Any], tmp_path: Path) -> None:
        model, info = ours("finetune", **change)
        assert grid_of(info.model, info.clip).shape == (2, 2, 2)
        save_weights(model, info, tmp_path / "ours.safetensors")
        for target, out in (("hf", "theirs"), ("videomae", "theirs.pth")):
            with pytest.raises(WeightsError, match="this model has others"):
                convert_weights(tmp_path / "ours.safetensors", tmp_path / out, target)  # type: ignore[arg-type]
            assert not (tmp_path / out).exists()


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)
