"""Packages of PyTorch give what the graph gives, for any number of clips."""

import json
import tempfile
from pathlib import Path

import pytest
import torch
import torch._inductor
import torch._inductor.config
from small_graphs import classifier_with, mostly_still, moving, selection

from everest.errors import ConfigError
from everest.exporting import _Maker
from everest.inference.exporting import torch_formats
from everest.inference.exporting.describing import describe
from everest.inference.exporting.graph import ClipGraph
from everest.inference.exporting.reference import Reference, Run


def assert_same(run: Run, reference: Reference) -> None:
    for frames in (moving(1), moving(3), mostly_still(4)):
        given, wanted = run(frames), reference(frames)
        assert torch.equal(given["visible"], wanted["visible"])
        torch.testing.assert_close(given["logits"], wanted["logits"], rtol=0, atol=2e-5)


def test_a_recorded_program_comes_back(tmp_path: Path) -> None:
    model, info = classifier_with(selection())
    graph, path = ClipGraph(model, info), tmp_path / "model.pt2"
    torch_formats.write_program(torch_formats.record(graph), path, describe(graph, "ab"))
    assert_same(torch_formats.open_program(path, graph), Reference(model, info))
    told = {torch_formats.ABOUT_NAME: ""}
    torch.export.load(path, extra_files=told)
    assert json.loads(told[torch_formats.ABOUT_NAME])["checkpoint_sha256"] == "ab"


def test_a_compiled_package_comes_back_and_leaves_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As everest export makes it, compared with PyTorch and published."""
    for name in ("temporary", "made"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "")  # so that what torch sets it to is undone as well
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR")
    model, info = classifier_with(selection())
    graph, path = ClipGraph(model, info), tmp_path / "made" / "model.pt2"
    torch_formats.require_compiler()
    made = _Maker(model, info, info, "ab").make("aoti", path, moving(8).permute(0, 4, 1, 2, 3))
    assert (made.format, made.files, made.num_bytes) == ("aoti", ("model.pt2",), path.stat().st_size)
    assert (made.agreement.problems, made.agreement.same_tokens) == ((), 8)
    assert [place.name for place in path.parent.iterdir()] == ["model.pt2"]
    assert [place for place in (tmp_path / "temporary").rglob("*") if place.is_file()] == []
    assert_same(torch_formats.open_compiled(path, graph), Reference(model, info))
    metadata = torch._inductor.aoti_load_package(str(path)).get_metadata()
    assert json.loads(metadata["class_names"]) == ["jump", "run", "sit"]


def test_a_compiler_that_does_not_work_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    graph = ClipGraph(*classifier_with(selection()))
    with (
        torch._inductor.config.patch({"cpp.cxx": (None, "no-such-compiler")}),  # leaves no trace in other tests
        pytest.raises(ConfigError, match=r"the C\+\+ compiler does not work .*everest doctor"),
    ):
        torch_formats.write_compiled(torch_formats.record(graph), tmp_path / "model.pt2", {})


def test_a_missing_compiler_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CXX", "")
    with pytest.raises(ConfigError, match=r"no C\+\+ compiler: install g\+\+ or clang\+\+"):
        torch_formats.require_compiler()
