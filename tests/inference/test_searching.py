"""Searching finds what was put in, by the model that put it there."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import everest
from everest.cli import main
from everest.config import CheckpointInfo, ClipConfig, ModelConfig, SelectionConfig
from everest.datasets import load_data
from everest.errors import ConfigError, DataError, WeightsError
from everest.inference.feature_files import write_features
from everest.inference.feature_rows import FeatureRow, Features, read_features
from everest.inference.searching import nearest
from everest.models import build_autoencoder, save_weights

pytest.importorskip("sklearn")
FILES = sorted({record.path for record in load_data("bundled").records})[:5]
INFO = CheckpointInfo(
    task="pretrain",
    model=ModelConfig(size="tiny"),
    clip=ClipConfig(num_frames=4, height=32, width=32, stride=2),
    selection=SelectionConfig(keep_ratio=0.5, encode_ratio=0.25),
)
Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint, and tables of five videos by it."""
    folder = tmp_path_factory.mktemp("made")
    torch.manual_seed(0)
    save_weights(build_autoencoder(INFO.model, INFO.clip), INFO, folder / "model.safetensors")
    everest.embed(folder / "model.safetensors", FILES, folder / "videos.npz", num_workers=0)
    everest.embed(folder / "model.safetensors", FILES[:2], folder / "spans.npz", window_seconds=1.0, num_workers=0)
    everest.embed(folder / "model.safetensors", FILES, folder / "layer.npz", layer=3, views="1x1", num_workers=0)
    return folder


def row(name: str, *values: float) -> FeatureRow:
    return FeatureRow(name, None, None, None, np.array(values, np.float32))


def test_the_smallest_angle_comes_first() -> None:
    table = Features((row("a", 1, 0), row("b", 1, 1), row("c", 0, 1), row("d", -1, 0)), {})
    found = nearest(table, row("q", 10, 1), top=3)
    assert [match.path for match in found] == ["a", "b", "c"]
    expected = [10 / 101**0.5, 11 / (2 * 101) ** 0.5, 1 / 101**0.5]
    assert [match.similarity for match in found] == pytest.approx(expected, abs=1e-6)
    assert len(nearest(table, row("q", 10, 1), top=99)) == 4


@pytest.mark.parametrize("name", ["videos.npz", "layer.npz"])
def test_a_video_of_the_table_is_found_as_itself(made: Path, name: str) -> None:
    for path in FILES[:2]:
        first = everest.search(made / name, path, top=1, same_file=True).matches[0]
        assert first.path == str(path)
        assert first.similarity == pytest.approx(1, abs=1e-5)


def test_a_span_is_found_as_itself(made: Path) -> None:
    wanted = read_features(made / "spans.npz").rows[2]
    report = everest.search(
        made / "spans.npz",
        wanted.path,
        start_seconds=wanted.start_seconds,
        end_seconds=wanted.end_seconds,
        same_file=True,
    )
    assert report.matches[0].start_seconds == wanted.start_seconds
    assert report.matches[0].similarity == pytest.approx(1, abs=1e-5)


def test_the_same_file_is_left_out_unless_asked_for(made: Path) -> None:
    report = everest.search(made / "videos.npz", FILES[0])
    assert report.num_rows == 5
    assert len(report.matches) == 4
    assert str(FILES[0]) not in {match.path for match in report.matches}
    similarities = [match.similarity for match in report.matches]
    assert similarities == sorted(similarities, reverse=True)


def test_a_table_of_relative_paths_is_searched_from_anywhere(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(made)
    for path in FILES[:2]:
        (made / path.name).symlink_to(path)
    everest.embed("model.safetensors", [path.name for path in FILES[:2]], tmp_path / "f.npz", num_workers=0)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    report = everest.search(tmp_path / "f.npz", made / FILES[0].name)
    assert [match.path for match in report.matches] == [str(made / FILES[1].name)]  # and not the video itself


@pytest.mark.parametrize(
    "seconds",
    ["--start 3 --end 1", "--start 1 --end 1", *(f"--start {n}" for n in (-3, "nan", "inf")), "--end 0", "--end inf"],
)
def test_seconds_that_make_no_sense_are_refused(made: Path, seconds: str, capsys: Capture) -> None:
    assert main(["search", str(made / "videos.npz"), str(FILES[0]), *seconds.split()]) == 2
    told = capsys.readouterr().err
    assert seconds in told
    assert "0 or more, and the end after the start" in told


def test_the_command_names_a_line_for_each(made: Path, capsys: Capture) -> None:
    command = ["search", str(made / "videos.npz"), str(FILES[0]), "--top", "2"]
    assert main(command) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert all(Path(line.split("  ")[1]) in FILES for line in lines)
    assert main([*command, "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert [match["path"] for match in values["matches"]] == [line.split("  ")[1] for line in lines]


def test_another_model_is_refused(made: Path, tmp_path: Path) -> None:
    torch.manual_seed(1)
    save_weights(build_autoencoder(INFO.model, INFO.clip), INFO, tmp_path / "other.safetensors")
    with pytest.raises(WeightsError, match="is not the checkpoint that made the table: its hash is"):
        everest.search(made / "videos.npz", FILES[0], checkpoint=tmp_path / "other.safetensors")
    table = read_features(made / "videos.npz")
    moved = Features(table.rows, table.made_by | {"checkpoint": str(tmp_path / "gone.safetensors")})
    write_features(moved, tmp_path / "moved.npz")
    with pytest.raises(WeightsError, match=r"gone\.safetensors, which is not there: say where it is with --checkpoint"):
        everest.search(tmp_path / "moved.npz", FILES[0])
    found = everest.search(tmp_path / "moved.npz", FILES[0], checkpoint=made / "model.safetensors")
    assert found.matches == everest.search(made / "videos.npz", FILES[0]).matches


def test_what_cannot_be_searched_is_said(made: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="top must be 1 or more"):
        everest.search(made / "videos.npz", FILES[0], top=0)
    (tmp_path / "empty.mp4").touch()
    with pytest.raises(DataError, match=r"empty\.mp4"):
        everest.search(made / "videos.npz", tmp_path / "empty.mp4")
    write_features(Features((row(str(FILES[0]), 1, 0),), {}), tmp_path / "bare.npz")
    with pytest.raises(DataError, match="does not say what made it"):
        everest.search(tmp_path / "bare.npz", FILES[0])
    with pytest.raises(DataError, match="add --same-file"):
        nearest(Features((row("q", 1, 0),), {}), row("q", 1, 0))
