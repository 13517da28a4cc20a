"""The command that draws: every file is there, holds what it says, and nothing else is lost."""

import io
import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from everest.cli import main
from everest.config import CheckpointInfo, ClipConfig, ModelConfig, SelectionConfig
from everest.datasets import load_data
from everest.inspecting import inspect
from everest.models import build_autoencoder, save_weights
from everest.visualize.inspection import say_gmacs

VIDEO = load_data("bundled").records[0].path
SMALL = ["--num-frames", "8", "--size", "64", "--stride", "2"]
Capture = pytest.CaptureFixture[str]


def test_the_command_draws_everything(tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "seen"
    options = ["--mp4", "--frame-selection", "1.5", "--compare", "rero,tube,adaptive", "--json"]
    assert main(["inspect", str(VIDEO), "--out", str(out), *SMALL, *options]) == 0
    values = json.loads(capsys.readouterr().out)
    assert set(values["files"]) == {path.name for path in out.iterdir()}
    pictures = {"concept.png", "scores.png", "selection.png", "compare.png", "frames.png", "tokens_per_slot.png"}
    assert {*values["files"]} == pictures | {"report.html", "selection.gif", "selection.mp4", "inspection.json"}
    for name in pictures:
        Image.open(out / name).verify()
    assert list(values["selections"]) == ["rero", "tube", "adaptive"]
    rero = values["selections"]["rero"]
    assert rero["num_encoded"] + rero["num_predicted"] == sum(rero["kept_per_slot"]) == int(0.3 * 64)
    assert 0 < rero["share_of_full_cost"] < values["selections"]["tube"]["share_of_full_cost"]
    assert values["selections"]["adaptive"]["gmacs"] is None  # other clips keep others
    assert len(values["frames"]["counts"]) == 6
    assert json.loads((out / "inspection.json").read_text())["selections"] == values["selections"]


def test_the_page_says_what_a_newcomer_would_misread(tmp_path: Path, capsys: Capture) -> None:
    assert main(["inspect", "bundled", "--out", str(tmp_path / "seen"), *SMALL]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[0].endswith("scored by a random embedding, seed 0")
    assert told[-1] == f"pictures: {tmp_path}/seen/report.html"
    page = (tmp_path / "seen" / "report.html").read_text()
    assert "No checkpoint was given" in page
    assert "data:image/gif;base64," in page
    assert 'src="http' not in page
    assert "<script" not in page


def test_what_is_encoded_is_told_before_what_is_predicted(tmp_path: Path) -> None:
    report = inspect(VIDEO, tmp_path / "seen", num_frames=8, size=64, compare=("tube", "rlt"))
    _, rero, tube, varying, _ = report.summary().splitlines()
    each = report.values["selections"]["rero"]
    assert each["share_of_change_encoded"] > 2 * report.values["selections"]["tube"]["share_of_change_encoded"]
    assert f"of 64 tokens encoded, {each['share_of_change_encoded']:.0%} of the change; " in rero
    assert rero.endswith(" of the cost of VideoMAE")
    assert "rest" not in rero
    assert tube.endswith(" predicted (all the rest), 100% in both; 100% of the cost of VideoMAE")
    assert varying.endswith("; the cost differs from clip to clip")
    page = (report.out / "report.html").read_text()
    assert page.count("<td>differs from clip to clip</td>") == 1
    assert page.count(", all the rest</td>") == 1
    assert "Who predicts all that is not encoded" in page
    assert [say_gmacs(each) for each in (1234.5, 56.89, 0.00123)] == ["1,234", "56.9", "0.00123"]
    alone = inspect(VIDEO, tmp_path / "alone", num_frames=8, size=64, compare=())
    assert "Who predicts all" not in (alone.out / "report.html").read_text()


def test_a_clip_that_is_longer_than_its_video_says_so(tmp_path: Path, capsys: Capture) -> None:
    seen = tmp_path / "seen"
    command = ["inspect", str(VIDEO), "--out", str(seen), "--size", "32", "--num-frames", "8", "--compare", ""]
    assert main([*command, "--stride", "30"]) == 0
    assert "note: 3 of the 8 frames repeat the one before" in capsys.readouterr().out
    assert "3 of the 8 frames repeat the one before" in (seen / "report.html").read_text()
    assert json.loads((seen / "inspection.json").read_text())["num_repeated_frames"] == 3
    assert main([*command, "--stride", "16"]) == 0
    assert "repeat" not in capsys.readouterr().out + (seen / "report.html").read_text()
    assert main(["inspect", "bundled", "--out", str(seen), "--size", "32", "--compare", "", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["num_repeated_frames"] == 0  # the first command of the documents


def test_a_checkpoint_brings_its_reconstruction(tmp_path: Path) -> None:
    info = CheckpointInfo(
        task="pretrain",
        model=ModelConfig(size="tiny"),
        clip=ClipConfig(num_frames=8, height=64, width=64, stride=2),
        selection=SelectionConfig(keep_ratio=0.5, encode_ratio=0.2),
    )
    torch.manual_seed(0)
    save_weights(build_autoencoder(info.model, info.clip), info, tmp_path / "pre.safetensors")
    report = inspect(VIDEO, tmp_path / "seen", checkpoint=tmp_path / "pre.safetensors", compare=())
    assert "reconstruction.png" in report.files
    assert "compare.png" not in report.files
    page = (tmp_path / "seen" / "report.html").read_text()
    assert "leak" in page
    assert "No checkpoint was given" not in page


def test_names_of_files_are_no_markup(tmp_path: Path) -> None:
    path = tmp_path / "<b>x&y.mp4"
    path.write_bytes(VIDEO.read_bytes())
    inspect(path, tmp_path / "seen", num_frames=4, size=32, compare=())
    page = (tmp_path / "seen" / "report.html").read_text()
    assert "<b>x" not in page
    assert "&lt;b&gt;x&amp;y.mp4" in page


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--compare", "rero,tubes"], "no selection is called tubes; there are rero, adaptive,"),
        (["--keep-ratio", "1.5"], "selection.keep_ratio"),
        (["--encode-ratio", "0.5"], "cannot exceed"),
        (["--size", "50"], "50"),
        (["--frame-selection", "1"], "frame_selection.alpha"),
        (["--start", "99"], "the clip begins at 99 s but the video lasts"),
        (["--start", "-1"], "a span from -1.0 to None s is empty or not in the file; expected 0 <= start < end"),
        (["--start", "nan"], "a span from nan to None s"),
        (["--checkpoint", "nowhere.safetensors"], "nowhere.safetensors"),
    ],
)
def test_what_makes_no_sense_is_said_and_writes_nothing(
    options: list[str], told: str, tmp_path: Path, capsys: Capture
) -> None:
    assert main(["inspect", str(VIDEO), "--out", str(tmp_path / "seen"), *options]) == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "seen").exists()


def test_other_files_are_not_written_over(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "report.html").write_text("mine")
    assert main(["inspect", str(VIDEO), "--out", str(tmp_path), *SMALL]) == 2
    assert "holds other files already" in capsys.readouterr().err
    assert (tmp_path / "report.html").read_text() == "mine"
    for _ in range(2):  # its own pictures are
        assert main(["inspect", str(VIDEO), "--out", str(tmp_path / "seen"), *SMALL, "--compare", ""]) == 0
    assert Image.open(io.BytesIO((tmp_path / "seen" / "selection.png").read_bytes())).width > 200


def test_pictures_of_an_earlier_call_do_not_stay_beside_those_of_another_clip(tmp_path: Path, capsys: Capture) -> None:
    seen = tmp_path / "seen"
    command = ["inspect", str(VIDEO), "--out", str(seen), *SMALL]
    assert main([*command, "--mp4", "--frame-selection", "1.5"]) == 0
    (seen / "my notes.txt").write_text("mine")
    (seen / "reconstruction.png").write_text("mine too")
    before = {path.name for path in seen.iterdir()}
    assert {"compare.png", "frames.png", "selection.mp4"} < before
    assert main([*command, "--compare", ""]) == 0
    assert {path.name for path in seen.iterdir()} == before - {"compare.png", "frames.png", "selection.mp4"}
    listed = json.loads((seen / "inspection.json").read_text())["files"]
    assert {*listed} == {path.name for path in seen.iterdir()} - {"my notes.txt", "reconstruction.png"}
    (seen / "inspection.json").write_text('{"files": ["report.html", "my notes.txt", "../other.txt"]}')
    (tmp_path / "other.txt").write_text("mine")
    assert main([*command, "--compare", ""]) == 0
    assert (seen / "my notes.txt").read_text() == (tmp_path / "other.txt").read_text() == "mine"
    (seen / "inspection.json").write_text("[]")
    assert main([*command, "--compare", ""]) == 0


def test_clips_of_a_checkpoint_are_of_its_size(tmp_path: Path, capsys: Capture) -> None:
    command = ["inspect", str(VIDEO), "--out", str(tmp_path / "seen"), "--checkpoint", "any", "--size", "64"]
    assert main(command) == 2
    assert "are those of the checkpoint's model" in capsys.readouterr().err


def test_other_ways_to_score_are_shown_and_named(tmp_path: Path) -> None:
    given = {"num_frames": 8, "size": 64, "compare": ()}
    plain = inspect(VIDEO, tmp_path / "plain", **given)  # type: ignore[arg-type]
    settings = ["selection.distance=cosine", "selection.camera=moving"]
    report = inspect(VIDEO, tmp_path / "seen", settings=settings, **given)  # type: ignore[arg-type]
    assert report.values["scored_by"] == {"scoring": "auto", "distance": "cosine", "camera": "moving"}
    assert not torch.equal(report.found.scores["embedding"], plain.found.scores["embedding"])
    assert "A camera that pans is followed" in (tmp_path / "seen" / "report.html").read_text()
    assert "A camera that pans is followed" not in (tmp_path / "plain" / "report.html").read_text()


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("model.size=base", "only settings of selection can be given"),
        ("selection.camera=panning", "selection.camera: Input should be 'still' or 'moving'"),
        ("selection.camra=moving", "selection.camera"),
    ],
)
def test_settings_that_are_none_are_refused(setting: str, told: str, tmp_path: Path, capsys: Capture) -> None:
    assert main(["inspect", str(VIDEO), "--out", str(tmp_path / "seen"), *SMALL, "--set", setting]) != 0
    assert told in capsys.readouterr().err
