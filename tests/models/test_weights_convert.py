"""Showing and converting: from any format to any other and back, every bit, or one clear line."""

import json
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from safetensors.torch import load_file
from small_models import jitter, tiny_info
from torch import Tensor

from everest.cli import main
from everest.config import Arch, CheckpointInfo, ModelConfig
from everest.errors import WeightsError
from everest.models import build_autoencoder, build_classifier, initialize_from, load_model, save_weights
from everest.models.weights import convert_weights, read_info, read_weights, show_weights

OPTIONS = ["--num-frames=4", "--height=32", "--width=32", "--stride=2"]


def made(task: str, path: Path) -> tuple[dict[str, Tensor], CheckpointInfo]:
    """Write a tiny model of ours."""
    torch.manual_seed(4)
    info = tiny_info(task)
    build: Any = build_autoencoder if task == "pretrain" else build_classifier
    model = jitter(build(info.model, info.clip, *((3,) if task == "finetune" else ())))
    save_weights(model, info, path)
    return model.state_dict(), info


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("target", ["release.pth", "videomae.safetensors", "hf"])
@pytest.mark.parametrize("task", ["pretrain", "finetune"])
def test_there_and_back_is_every_bit(task: str, target: str, tmp_path: Path) -> None:
    source, out, back = tmp_path / "ours.safetensors", tmp_path / target, tmp_path / "back.safetensors"
    state, info = made(task, source)
    name = target.partition(".")[0]
    convert_weights(source, out, name)  # type: ignore[arg-type]
    names = tmp_path / "names.txt"
    names.write_text("\n".join(info.class_names) + "\n")
    classes = [f"--classes={names}"] if task == "finetune" else []
    clip = OPTIONS[-1:] if name == "hf" else OPTIONS  # transformers says all but the stride
    assert main(["weights", "convert", str(out), str(back), "--to=everest", *clip, *classes]) == 0
    assert same(load_file(back), state)
    converted = read_info(back)
    assert converted.class_names == info.class_names
    assert converted.clip == info.clip.model_copy(update={"stride": 2})
    assert same(load_model(back)[0].state_dict(), state)


def test_a_file_for_the_release_has_its_names(tmp_path: Path) -> None:
    state, _ = made("finetune", tmp_path / "ours.safetensors")
    convert_weights(tmp_path / "ours.safetensors", tmp_path / "out.pth", "release")
    written = torch.load(tmp_path / "out.pth", weights_only=True)["model"]
    assert same(written, {key.removeprefix("encoder."): value for key, value in state.items()})


def test_what_a_checkpoint_holds_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state, _ = made("finetune", tmp_path / "ours.safetensors")
    convert_weights(tmp_path / "ours.safetensors", tmp_path / "out.pth", "videomae")
    assert main(["weights", "show", str(tmp_path / "out.pth")]) == 0
    text = capsys.readouterr().out
    for words in ("EVEREST's release", "a classifier", "size tiny", "16x224x224", "assumed    names of the classes"):
        assert words in text
    assert main(["weights", "show", str(tmp_path / "out.pth"), "--json", *OPTIONS]) == 0
    values = json.loads(capsys.readouterr().out)
    assert (values["format"], values["holds"], values["num_tensors"]) == ("videomae", "finetune", len(state))
    assert values["num_parameters"] == sum(value.numel() for value in state.values())
    assert values["info"]["clip"]["num_frames"] == 4
    assert values["assumed"] == [
        "names of the classes, numbers here: give --classes FILE",
        "selection of tokens: all",
    ]
    shown = show_weights(tmp_path / "ours.safetensors")
    assert "rero, 50% kept" in str(shown)
    assert shown.to_dict()["assumed"] == []
    assert f"matched    all {len(state)} tensors of the model" in str(shown).splitlines()


def spoil(kind: str, state: dict[str, Tensor]) -> tuple[str, str, str]:
    """Take a tensor out, add one, or bend one; return its row, its key by our names, and what fine-tuning does."""
    if kind == "missing":
        del state["blocks.3.mlp.fc1.bias"]
        return "missing", "encoder.blocks.3.mlp.fc1.bias", "refuses it too"
    if kind == "unexpected":
        state["blocks.2.gamma_1"] = torch.zeros(192)
        return "unexpected", "encoder.blocks.2.gamma_1", "refuses it too"
    if kind == "left over":
        state["cls_token"] = torch.zeros(1, 1, 192)
        return "unexpected", "cls_token", "takes its encoder"
    state["head.bias"] = torch.zeros(7)
    return "misshapen", "head.bias", "takes its encoder"


@pytest.mark.parametrize("kind", ["missing", "unexpected", "left over", "misshapen"])
def test_what_a_file_lacks_or_has_too_much_is_shown_as_it_is_refused(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A VideoMAE file: `show` says what `convert` and fine-tuning will, and its exit code is 1."""
    made("finetune", tmp_path / "ours.safetensors")
    convert_weights(tmp_path / "ours.safetensors", tmp_path / "whole.pth", "videomae")
    state = torch.load(tmp_path / "whole.pth", weights_only=True)["model"]
    row, key, tuning = spoil(kind, state)
    path = tmp_path / "spoilt.pth"
    torch.save({"model": state}, path)
    assert main(["weights", "show", str(path), *OPTIONS]) == 1
    rows = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert rows[row].startswith(f"1 ({key}")
    assert rows["refused"] == f"by convert, evaluate and predict; fine-tuning (--init) {tuning}"
    assert main(["weights", "show", str(path), "--json", *OPTIONS]) == 1
    values = json.loads(capsys.readouterr().out)
    assert not values["is_complete"]
    assert {name: list(values[name]) for name in ("missing", "unexpected", "misshapen") if values[name]} == {row: [key]}
    assert all(values[row].values())
    assert main(["weights", "convert", str(path), str(tmp_path / "x.safetensors"), "--to=everest", *OPTIONS]) == 2
    assert key in capsys.readouterr().err
    info = tiny_info("finetune")
    classifier = build_classifier(info.model, info.clip, 3)
    if tuning == "takes its encoder":
        initialize_from(classifier, path)
    else:
        with pytest.raises(WeightsError, match=key):
            initialize_from(classifier, path)


def test_a_description_without_a_model_is_shown_and_why_there_is_none(tmp_path: Path) -> None:
    info = tiny_info("finetune")
    model = build_classifier(info.model, info.clip, 3)
    save_weights(model, info.model_copy(update={"class_names": ()}), tmp_path / "a.safetensors")
    shown = show_weights(tmp_path / "a.safetensors")
    assert not shown.is_complete
    assert "names no class" in shown.to_dict()["problem"]
    assert "refused    " in str(shown)


@pytest.mark.parametrize("arch", get_args(Arch))
def test_models_of_every_network_are_shown_as_complete(arch: Arch, tmp_path: Path) -> None:
    info = tiny_info("finetune")
    selection = info.selection.model_copy(update={"method": "all"})
    info = info.model_copy(update={"model": ModelConfig(size="tiny", arch=arch, drop_path=0.2), "selection": selection})
    save_weights(build_classifier(info.model, info.clip, 3), info, tmp_path / "a.safetensors")
    before = torch.get_rng_state()
    assert show_weights(tmp_path / "a.safetensors").is_complete
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("target", ["everest", "hf", "videomae"])
def test_nothing_is_overwritten(target: Any, tmp_path: Path) -> None:
    made("finetune", tmp_path / "ours.safetensors")
    taken = tmp_path / "taken.safetensors"
    taken.write_text("something")
    with pytest.raises(WeightsError, match="exists already"):
        convert_weights(tmp_path / "ours.safetensors", taken, target)
    with pytest.raises(WeightsError, match="exists already"):
        convert_weights(tmp_path / "ours.safetensors", tmp_path, target)
    assert taken.read_text() == "something"


def test_one_line_says_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made("finetune", tmp_path / "ours.safetensors")
    names = tmp_path / "names.txt"
    names.write_text("jump\n\nsit\n")
    torch.save({"blocks.0.x": torch.zeros(1)}, tmp_path / "other.pth")
    for words, told in (
        (["show", tmp_path / "nothing"], "expected a run folder or a weights file"),
        (["show", tmp_path / "other.pth"], "nor in a format that is known"),
        (["convert", tmp_path / "ours.safetensors", tmp_path / "x.pth", "--to=everest"], "ends in .safetensors"),
        (["show", tmp_path / "ours.safetensors", f"--classes={names}"], "name of a class in every line"),
    ):
        assert main(["weights", *map(str, words)]) == 2
        error = capsys.readouterr().err
        assert told in error
        assert error.count("\n") == 1


def test_what_contradicts_a_file_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made("finetune", tmp_path / "ours.safetensors")
    assert main(["weights", "show", str(tmp_path / "ours.safetensors"), *OPTIONS]) == 2
    assert "written by EVEREST, which says its clips and classes" in capsys.readouterr().err
    convert_weights(tmp_path / "ours.safetensors", tmp_path / "hf", "hf")
    assert main(["weights", "show", str(tmp_path / "hf"), "--height=64"]) == 2
    assert "its clips have 32 pixels of height, given: 64; leave --height out" in capsys.readouterr().err


def test_a_file_of_ours_is_read_as_it_is(tmp_path: Path) -> None:
    state, info = made("pretrain", tmp_path / "ours.safetensors")
    reading = read_weights(tmp_path / "ours.safetensors")
    assert (reading.info, reading.part, reading.format_name) == (info, "pretrain", "everest")
    assert same(reading.state, state)


@pytest.mark.parametrize(
    ("method", "told"),
    [
        ("rero", "rero, 50% kept"),
        ("rlt", "rlt, what differs by 0.1 kept"),
        ("adaptive", "adaptive, 80% of the change kept, 5% to 50% of all"),
        ("all", "all"),
    ],
)
def test_what_is_shown_says_how_many_tokens_are_kept(method: str, told: str, tmp_path: Path) -> None:
    info = tiny_info("finetune")
    info = info.model_copy(update={"selection": info.selection.model_copy(update={"method": method})})
    save_weights(build_classifier(info.model, info.clip, len(info.class_names)), info, tmp_path / "w.safetensors")
    rows = str(show_weights(tmp_path / "w.safetensors")).splitlines()
    assert [row.split(maxsplit=1)[1] for row in rows if row.startswith("tokens")] == [told]


@pytest.mark.parametrize("target", ["videomae.pth", "release.safetensors", "hf"])
@pytest.mark.parametrize("arch", ["xvit", "mvit_s"])
def test_another_network_is_not_written_as_videomae(arch: str, target: str, tmp_path: Path) -> None:
    info = tiny_info("finetune")
    network = ModelConfig(size="tiny", arch=arch)  # type: ignore[arg-type]
    selection = info.selection.model_copy(update={"method": "all"})
    info = info.model_copy(update={"model": network, "selection": selection})
    source = tmp_path / "ours.safetensors"
    save_weights(build_classifier(info.model, info.clip, len(info.class_names)), info, source)
    kind: Any = target.split(".", maxsplit=1)[0]
    with pytest.raises(WeightsError, match=f"is a plain ViT, this model is a {arch}"):
        convert_weights(source, tmp_path / target, kind)
    assert not (tmp_path / target).exists()
    assert f"{arch}, size tiny" in str(show_weights(source))
