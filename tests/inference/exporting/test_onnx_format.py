"""ONNX files: any number of clips, the same tokens as PyTorch down to the ties, and all that somebody has to know."""

import json
from pathlib import Path

import onnx
import onnxruntime
import pytest
import torch
from small_graphs import classifier_with, encoder_with, mostly_still, moving, selection
from torch import Tensor

from everest.errors import ConfigError
from everest.inference.exporting import onnx_format
from everest.inference.exporting.describing import describe
from everest.inference.exporting.graph import ClipGraph
from everest.inference.exporting.onnx_format import open_onnx, require_onnx, write_onnx
from everest.inference.exporting.reference import Reference
from everest.inference.exporting.torch_formats import record


def write(graph: ClipGraph, folder: Path) -> tuple[str, ...]:
    folder.mkdir()
    return write_onnx(record(graph), graph, folder / "model.onnx", describe(graph, "ab" * 32))


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("onnx") / "rero"
    assert write(ClipGraph(*classifier_with(selection())), folder) == ("model.onnx",)
    return folder / "model.onnx"


@pytest.mark.parametrize(
    "frames", [moving(1), moving(3), moving(7), mostly_still(), moving(2)[:, :1].expand(-1, 8, -1, -1, -1)]
)
def test_any_number_of_clips_and_every_tie_is_as_in_pytorch(file: Path, frames: Tensor) -> None:
    given = open_onnx(file)(frames.contiguous())
    wanted = Reference(*classifier_with(selection()))(frames)
    assert torch.equal(given["visible"], wanted["visible"])
    for name in ("logits", "probabilities", "features"):
        torch.testing.assert_close(given[name], wanted[name], rtol=0, atol=2e-5)


@pytest.mark.parametrize(
    "graph",
    [
        ClipGraph(*classifier_with(selection(), alpha=1.5)),
        ClipGraph(*classifier_with(selection("tube"))),
        ClipGraph(*classifier_with(selection(scoring="pixels"))),
        ClipGraph(*encoder_with(selection(scoring="projection"))),
    ],
    ids=["frames", "tube", "pixels", "encoder"],
)
def test_every_kind_of_graph_can_be_written(graph: ClipGraph, tmp_path: Path) -> None:
    write(graph, tmp_path / "made")
    run = open_onnx(tmp_path / "made" / "model.onnx")
    for frames in (moving(1, graph.input_shape[0]), mostly_still(3, graph.input_shape[0])):
        with torch.no_grad():
            wanted = dict(zip(graph.outputs, graph(frames), strict=True))
        given = run(frames)
        assert set(given) == set(graph.outputs)
        for name, values in wanted.items():
            torch.testing.assert_close(given[name], values, rtol=0, atol=2e-5)


def test_the_file_says_what_somebody_needs(file: Path) -> None:
    session = onnxruntime.InferenceSession(file)
    told = session.get_modelmeta().custom_metadata_map
    assert json.loads(told["class_names"]) == ["jump", "run", "sit"]
    assert [int(told[name]) for name in ("num_frames", "height", "width", "num_tokens", "num_kept_tokens")] == [
        *(8, 16, 16, 64, 32)
    ]
    assert (told["task"], told["sampling"], json.loads(told["stride"])) == ("classification", "dense", 3)
    assert (told["selection"], json.loads(told["keep_ratio"])) == ("rero", 0.5)
    assert told["checkpoint_sha256"] == "ab" * 32
    assert told["program"].startswith("everest-video ")
    assert len(json.loads(told["mean"])) == len(json.loads(told["std"])) == 3
    assert set(json.loads(told["outputs"])) == {output.name for output in session.get_outputs()}
    (given,) = session.get_inputs()
    assert (given.name, given.type, given.shape) == ("frames", "tensor(uint8)", ["batch", 8, 16, 16, 3])
    assert {output.name: output.shape for output in session.get_outputs()} == {
        "logits": ["batch", 3],
        "probabilities": ["batch", 3],
        "features": ["batch", 24],
        "visible": ["batch", 32],
    }


def test_candidates_of_frame_selection_come_in_smaller_steps() -> None:
    told = describe(ClipGraph(*classifier_with(selection(), alpha=1.5)), "")
    assert (told["num_frames"], told["frame_selection"], told["stride"]) == ("12", "true", "2.0")
    assert "chosen_frames" in json.loads(told["outputs"])


def test_the_file_is_valid_and_tells_nothing_of_this_machine(file: Path) -> None:
    onnx.checker.check_model(file, full_check=True)
    model = onnx.load(file)
    assert {each.domain: each.version for each in model.opset_import}[""] == onnx_format.OPSET
    content = file.read_bytes()
    for word in (b"site-packages", b"/src/everest", b"stack_trace", str(Path.home()).encode() + b"/"):
        assert word not in content


def test_large_weights_lie_beside_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_format, "MAX_INLINE_BYTES", 1000)
    model, info = classifier_with(selection())
    assert write(ClipGraph(model, info), tmp_path / "made") == ("model.onnx", "model.onnx.data")
    moved = (tmp_path / "made").rename(tmp_path / "moved")
    given = open_onnx(moved / "model.onnx")(moving(2))
    torch.testing.assert_close(given["logits"], Reference(model, info)(moving(2))["logits"], rtol=0, atol=2e-5)


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_format, "_NEEDED", ("onnx", "onnx_that_is_not_there"))
    with pytest.raises(ConfigError, match=r"needs onnx_that_is_not_there: pip install 'everest-video\[export\]'"):
        require_onnx()
