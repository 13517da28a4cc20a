"""The command that exports: what agrees with PyTorch on real clips is there, what does not is not."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import everest
from everest import exporting
from everest.cli import main
from everest.config import CheckpointInfo, ClipConfig, ModelConfig, SelectionConfig
from everest.datasets import load_data
from everest.errors import ConfigError
from everest.hashing import sha256_of
from everest.inference.exporting.reference import Run
from everest.models import build_autoencoder, build_classifier, save_weights
from everest.models.features import FeatureModel

MODEL, CLIP = ModelConfig(size="tiny"), ClipConfig(num_frames=4, height=32, width=32, stride=2)
RERO = SelectionConfig(method="rero", keep_ratio=0.5, encode_ratio=0.25)
VIDEO = load_data("bundled").records[0].path
Capture = pytest.CaptureFixture[str]


def save_classifier(path: Path, selection: SelectionConfig = RERO) -> Path:
    torch.manual_seed(0)
    info = CheckpointInfo(
        task="finetune", model=MODEL, clip=CLIP, selection=selection, class_names=("fall", "walk", "sit")
    )
    model = build_classifier(MODEL, CLIP, 3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
        model.head.weight.mul_(100)
    save_weights(model, info, path)
    return path


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_classifier(tmp_path_factory.mktemp("weights") / "mine.safetensors")


def test_the_command_writes_what_agrees(checkpoint: Path, tmp_path: Path, capsys: Capture) -> None:
    places = {"onnx": tmp_path / "new" / "a.onnx", "torch": tmp_path / "a.pt2", "hf": tmp_path / "hf"}
    options = [text for name, place in places.items() for text in (f"--{name}", str(place))]
    assert main(["export", str(checkpoint), *options, "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["is_good"] is True
    assert [file["format"] for file in values["files"]] == ["onnx", "torch", "hf"]
    for file in values["files"]:
        found = file["agreement"]
        assert found["problems"] == []
        assert (found["num_clips"], found["batch_sizes"]) == (9, [1, 3, 5])
        assert all(found["differences"][name] <= found["allowed"][name] <= 1e-2 for name in ("logits", "probabilities"))
        assert found["same_tokens"] == (None if file["format"] == "hf" else 9)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.pt2", "hf", "new"]
    assert [path.name for path in places["onnx"].parent.iterdir()] == ["a.onnx"]
    assert {path.name for path in places["hf"].iterdir()} == {*exporting.FILES}
    assert "fc_norm.weight" in load_file(places["hf"] / "model.safetensors")
    assert any("get the same class on all tokens" in note for note in values["files"][2]["notes"])
    told = onnxruntime.InferenceSession(places["onnx"]).get_modelmeta().custom_metadata_map
    assert told["checkpoint_sha256"] == sha256_of(checkpoint)
    assert json.loads(told["class_names"]) == ["fall", "walk", "sit"]


def test_an_encoder_gives_the_features_that_embedding_gives(tmp_path: Path, capsys: Capture) -> None:
    info = CheckpointInfo(task="pretrain", model=MODEL, clip=CLIP, selection=RERO)
    torch.manual_seed(0)
    model = build_autoencoder(MODEL, CLIP)
    save_weights(model, info, tmp_path / "pre.safetensors")
    places = ["--onnx", str(tmp_path / "a.onnx"), "--hf", str(tmp_path / "hf")]
    assert main(["export", str(tmp_path / "pre.safetensors"), *places]) == 0
    told = capsys.readouterr().out
    assert "an encoder, size tiny" in told
    assert told.count("largest difference: features") + told.count("largest difference: tokens") == 2
    clips = torch.randint(256, (2, 3, 4, 32, 32), dtype=torch.uint8)
    session = onnxruntime.InferenceSession(tmp_path / "a.onnx")
    (given,) = session.run(["features"], {"frames": clips.permute(0, 2, 3, 4, 1).contiguous().numpy()})
    wanted = torch.stack([each.values for each in FeatureModel(model, info)(clips)])
    np.testing.assert_allclose(given, wanted.numpy(), rtol=0, atol=2e-5)


def spoilt(open_it: Callable[..., Run]) -> Callable[..., Run]:
    def opened(*given: Any) -> Run:
        run = open_it(*given)

        def wrong(frames: Tensor) -> dict[str, Tensor]:
            outputs = dict(run(frames))
            return outputs | {"logits": outputs["logits"] + (0.01 if len(frames) == 5 else 0.0)}

        return wrong

    return opened


@pytest.fixture
def compiled_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Packages are recorded and not compiled, which takes most of a minute; test_torch_formats.py compiles one."""
    monkeypatch.setattr(exporting, "write_compiled", exporting.write_program)
    monkeypatch.setattr(exporting, "open_compiled", exporting.open_program)


@pytest.mark.usefixtures("compiled_at_once")
def test_the_command_asks_for_a_compiled_package(checkpoint: Path, tmp_path: Path, capsys: Capture) -> None:
    assert main(["export", str(checkpoint), "--aoti", str(tmp_path / "a.pt2"), "--json"]) == 0
    (file,) = json.loads(capsys.readouterr().out)["files"]
    assert (file["format"], file["agreement"]["same_tokens"]) == ("aoti", 9)
    assert [path.name for path in tmp_path.iterdir()] == ["a.pt2"]


@pytest.mark.usefixtures("compiled_at_once")
@pytest.mark.parametrize(
    ("name", "out", "open_it"),
    [
        ("onnx", "a.onnx", "open_onnx"),
        ("torch", "a.pt2", "open_program"),
        ("aoti", "a.pt2", "open_compiled"),
        ("hf", "a", "open_folder"),
    ],
)
def test_what_differs_is_not_written(
    name: str,
    out: str,
    open_it: str,
    checkpoint: Path,
    tmp_path: Path,
    capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(exporting, open_it, spoilt(getattr(exporting, open_it)))
    older = tmp_path / out / "model.safetensors" if name == "hf" else tmp_path / out
    older.parent.mkdir(exist_ok=True)
    older.write_bytes(b"an older one")
    assert main(["export", str(checkpoint), f"--{name}", str(tmp_path / out), "--overwrite"]) == 1
    told = capsys.readouterr().out
    assert f"{tmp_path / out}, NOT WRITTEN: it does not agree" in told
    assert "WRONG: logits differ by 1.0e-02" in told
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [older]
    assert older.read_bytes() == b"an older one"


def test_own_clips_and_ratio_in_python(checkpoint: Path, tmp_path: Path) -> None:
    report = everest.export(checkpoint, torch_program=tmp_path / "a.pt2", clips=[VIDEO], keep_ratio=0.25)
    (file,) = report.files
    assert file.agreement.batch_sizes == (1, 2)
    assert report.info.selection.keep_ratio == 0.25
    assert file.num_bytes == (tmp_path / "a.pt2").stat().st_size
    with pytest.raises(ConfigError, match="nothing to write"):
        everest.export(checkpoint)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ([], "nothing to write: give --onnx, --torch, --aoti or --hf with a place"),
        (["--onnx", "a.bin"], "the name of such a file ends in .onnx"),
        (["--torch", "a.pt2", "--aoti", "a.pt2"], "cannot be written to the same place"),
        (["--onnx", "there.onnx"], "there.onnx exists already: name a new file, or add --overwrite"),
        (["--onnx", "a.onnx", "--keep-ratio", "2"], "a keep ratio lies above 0"),
        (["--onnx", "a.onnx", "--clips", "there.onnx"], "there.onnx"),
    ],
)
def test_what_cannot_be_done_is_said_and_leaves_nothing(
    options: list[str], told: str, checkpoint: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("there.onnx").write_bytes(b"mine")
    assert main(["export", str(checkpoint), *options]) == 2
    assert told in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["there.onnx"]


def test_weights_beside_another_file_stay(checkpoint: Path, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "a.onnx.data").write_bytes(b"mine")
    assert main(["export", str(checkpoint), "--onnx", str(tmp_path / "a.onnx")]) == 2
    assert "a.onnx.data exists already" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["a.onnx.data"]


def test_what_a_graph_cannot_hold_is_refused(tmp_path: Path, capsys: Capture) -> None:
    adaptive = SelectionConfig(method="adaptive", keep_ratio=0.5, encode_ratio=0.25)
    path = save_classifier(tmp_path / "mine.safetensors", adaptive)
    assert main(["export", str(path), "--onnx", str(tmp_path / "a.onnx")]) == 2
    assert "selection.method=adaptive keeps another number of tokens of every clip" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.safetensors"]
