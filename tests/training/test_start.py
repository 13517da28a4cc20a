"""Fine-tuning from the weights of others: one recipe, one flag, and positions that fit."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import everest
from everest.config import ClipConfig, FinetuneConfig, ModelConfig, RunConfig, SelectionConfig
from everest.datasets import Manifest, load_data
from everest.errors import WeightsError
from everest.models import Classifier, build_autoencoder, build_classifier, load_model, save_weights
from everest.models.positions import position_table
from everest.models.weights import convert_weights, read_weights
from everest.recipes import get_recipe
from everest.settings import override
from everest.training import run_finetuning
from everest.training.runs import describe_checkpoint

SETTINGS = (
    *("model.size=tiny", "clip.num_frames=4", "clip.height=32", "clip.width=32", "optim.epochs=1"),
    *("optim.warmup_epochs=0", "optim.global_batch_size=4", "data.num_workers=0"),
    *("run.tensorboard=false", "run.device=cpu"),
)
ALL = "selection.method=all"


@pytest.fixture(scope="module")
def data() -> Manifest:
    """Four labelled clips of two classes."""
    bundled = load_data("bundled").split("train")
    chosen = [next(i for i, r in enumerate(bundled.records) if r.label == label) for label in (0, 1)]
    return replace(bundled, records=tuple(bundled.records[i + j] for i in chosen for j in (0, 1)))


def config(*settings: str) -> FinetuneConfig:
    recipe = get_recipe("k400-base").finetune
    assert recipe is not None
    return override(recipe, [*SETTINGS, *settings])


def mvd_state(side: int = 2) -> dict[str, torch.Tensor]:
    """The tensors of an MVD encoder for clips of 2 slots of ``side`` x ``side`` tokens."""
    clip = ClipConfig(num_frames=4, height=32, width=32)
    state = build_autoencoder(ModelConfig(size="tiny"), clip).state_dict()
    encoder = {k.removeprefix("encoder."): v for k, v in state.items() if k.startswith("encoder.")}
    marks = {"mask_token_vid": torch.zeros(1, 1, 192)}
    return encoder | marks | {"pos_embed": position_table("sine_3d", (8, side, side), 192)}


def checkpoint(name: str, tmp_path: Path) -> Path:
    """A pre-trained tiny model in one of the formats, for clips of 4 x 32 x 32."""
    torch.manual_seed(0)
    clip = ClipConfig(num_frames=4, height=32, width=32)
    model = build_autoencoder(ModelConfig(size="tiny"), clip)
    recipe = get_recipe("k400-base").pretrain
    assert recipe is not None
    info = describe_checkpoint(recipe).model_copy(update={"model": ModelConfig(size="tiny"), "clip": clip})
    ours = tmp_path / "ours.safetensors"
    save_weights(model, info, ours)
    if name == "everest":
        return ours
    if name in {"videomae", "hf"}:
        out = tmp_path / ("theirs" if name == "hf" else "theirs.pth")
        return convert_weights(ours, out, name).path  # type: ignore[arg-type]
    state = model.state_dict()
    if name == "mme":
        state["encoder_to_decoder.0.weight"] = state.pop("encoder_to_decoder.weight")
    content = {"model": state if name == "mme" else mvd_state()}
    torch.save(content, tmp_path / "theirs.pth")
    return tmp_path / "theirs.pth"


@pytest.mark.parametrize("setting", [(), (ALL,)], ids=["everest", "all tokens"])
@pytest.mark.parametrize("name", ["everest", "videomae", "hf", "mme", "mvd"])
def test_one_recipe_takes_the_weights_of_everybody(
    name: str, setting: tuple[str, ...], data: Manifest, tmp_path: Path
) -> None:
    said: list[str] = []
    path = checkpoint(name, tmp_path)
    run = run_finetuning(config(*setting), data, tmp_path / "run", init=path, say=said.append)
    assert isinstance(run.model, Classifier)
    assert run.info.selection.method == ("all" if setting else "rero")
    line = next(line for line in said if line.startswith("encoder from"))
    assert "2 (head.weight, head.bias) fresh: the file has none" in line
    assert "the decoder is not needed for fine-tuning" in line
    start = json.loads((run.folder.path / "data.json").read_text())["start"]
    assert start["format"] == name
    assert len(start["matched"]) == 82
    assert start["missing"] == dict.fromkeys(("head.weight", "head.bias"), "the file has none")
    assert all(start["unexpected"].values())
    assert run.info.model.positions == ("sine_3d" if name == "mvd" else "sine")
    assert (run.info.model.positions_grid is None) is (name in {"everest", "hf"})  # the others do not say their clips


def test_positions_of_another_grid_are_stretched_kept_and_told(data: Manifest, tmp_path: Path) -> None:
    path = checkpoint("everest", tmp_path)
    said: list[str] = []
    larger = config("clip.height=48", "clip.num_frames=8", ALL)
    run = run_finetuning(larger, data, tmp_path / "run", init=path, say=said.append)
    assert "positions: those of 2x2x2 tokens, stretched to 4x3x2" in said
    assert run.folder.config().model.positions_grid == (2, 2, 2)
    model, info = load_model(run.folder.path)
    assert info.model.positions_grid == (2, 2, 2)
    expected = position_table("sine", (4, 3, 2), 192, made_for=(2, 2, 2))
    assert torch.equal(model.encoder.positions, expected)
    resumed = run_finetuning(larger, data, tmp_path / "run", init=path, say=said.append)
    assert resumed.num_steps == run.num_steps
    back = run_finetuning(config(ALL), data, tmp_path / "back", init=run.folder.path, say=said.append)
    assert back.info.model.positions_grid is None  # made for this grid in the first place


def test_positions_that_were_set_are_kept(data: Manifest, tmp_path: Path) -> None:
    path = checkpoint("everest", tmp_path)
    setting = ("clip.height=48", "model.positions_grid=[2,3,3]", ALL)
    run = run_finetuning(config(*setting), data, tmp_path / "run", init=path, say=lambda _: None)
    assert run.info.model.positions_grid == (2, 3, 3)


def test_what_was_assumed_is_told(data: Manifest, tmp_path: Path) -> None:
    said: list[str] = []
    path = checkpoint("videomae", tmp_path)
    assert read_weights(path).info.clip.num_frames == 16
    run_finetuning(config(ALL), data, tmp_path / "run", init=path, say=said.append)
    assert "positions: those of 8x14x14 tokens (assumed, the file does not say), stretched to 2x2x2" in said


@pytest.mark.parametrize("setting", ["model.size=small", "model.patch_size=8", "model.tubelet_size=1"])
def test_a_wrong_model_is_refused_and_leaves_no_folder(setting: str, data: Manifest, tmp_path: Path) -> None:
    path = checkpoint("videomae", tmp_path)
    with pytest.raises(WeightsError, match=r"size tiny, tubelets of 2x16x16\) does not fit the model"):
        run_finetuning(config(setting), data, tmp_path / "run", init=path, say=lambda _: None)
    assert not (tmp_path / "run").exists()


def test_the_classes_of_a_finetuned_file_are_compared(data: Manifest, tmp_path: Path) -> None:
    clip = ClipConfig(num_frames=4, height=32, width=32)
    model = build_classifier(ModelConfig(size="tiny"), clip, data.num_classes)
    info: Any = describe_checkpoint(config(ALL), data.class_names)
    save_weights(model, info, tmp_path / "ours.safetensors")
    convert_weights(tmp_path / "ours.safetensors", tmp_path / "theirs", "hf")
    assert info.selection == SelectionConfig(method="all", keep_ratio=0.6, encode_ratio=0.1)
    said: list[str] = []
    run_finetuning(config(ALL), data, tmp_path / "run", init=tmp_path / "theirs", say=said.append)
    assert any("0 fresh, 0 not used" in line for line in said)


def test_a_folder_of_transformers_is_evaluated_and_predicts_as_it_is(data: Manifest, tmp_path: Path) -> None:
    run = run_finetuning(config(ALL), data, tmp_path / "run", say=lambda _: None)
    theirs = convert_weights(run.folder.path, tmp_path / "theirs", "hf").path
    video = data.records[0].path
    answers = [everest.load(path, device="cpu").predict(video).classes for path in (run.folder.path, theirs)]
    assert [name for name, _ in answers[0]] == [name for name, _ in answers[1]]
    for (_, one), (_, other) in zip(*answers, strict=True):
        assert one == pytest.approx(other, abs=1e-5)
    result = everest.evaluate(theirs, "bundled", views="1x1", run=RunConfig(device="cpu"), num_workers=0)
    assert result.class_names == data.class_names
