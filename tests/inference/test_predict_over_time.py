"""`everest predict` on long videos, single videos at URLs, and streams."""

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image
from small_predictors import INFO, a_predictor

import everest
from everest.cli import main
from everest.config import ClipConfig
from everest.datasets import load_data
from everest.inference import Windows
from everest.models import save_weights
from everest.video.reader import probe
from live_sources import as_transport_stream, sending, serving_folder

BUNDLED = load_data("bundled")
CLIP = BUNDLED.records[0].path


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    clip = ClipConfig(num_frames=4, height=32, width=32, stride=2)
    info = INFO.model_copy(update={"clip": clip})
    path = tmp_path_factory.mktemp("weights") / "w.safetensors"
    save_weights(a_predictor(info).model, info, path)
    return path


def run(capsys: pytest.CaptureFixture[str], *command: object) -> tuple[int, str, str]:
    code = main(["predict", *map(str, command)])
    out, err = capsys.readouterr()
    return code, out, err


def test_a_long_video_gets_a_timeline(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, weights, CLIP, "--window", 1, "--hop", 0.5, "--json", "--top", 2)
    (row,) = json.loads(out)
    known = everest.load(weights).timeline(CLIP, Windows(1.0, 0.5), top=2)
    assert code == 0
    assert row["video"] == str(CLIP)
    assert row["seconds"] == pytest.approx(probe(CLIP).duration_seconds, abs=0.1)
    assert [part["start"] for part in row["windows"]][:3] == [0.0, 0.5, 1.0]
    assert row == json.loads(json.dumps(known.to_row()))
    code, out, _ = run(capsys, weights, CLIP, "--window", 1, "--hop", 0.5)
    lines = out.splitlines()
    assert lines[0].startswith(f"{CLIP}: {len(row['windows'])} windows in 0:0")
    assert len(lines) == 1 + len(row["segments"])
    assert all(part["name"] in line for part, line in zip(row["segments"], lines[1:], strict=True))


def test_pictures_and_videos_are_written_for_each_video(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    twin, torn = tmp_path / "in" / CLIP.name, tmp_path / "in" / "torn.mp4"
    twin.parent.mkdir()
    shutil.copy(CLIP, twin)
    torn.write_bytes(CLIP.read_bytes()[:900])
    out = tmp_path / "out"
    code, told, err = run(capsys, weights, CLIP, twin.parent, "--timelines", out, "--annotate")
    assert code == 1  # one cannot be read, the others are there
    assert "torn.mp4: not a readable video" in err
    names = {CLIP.stem, f"{CLIP.stem}-2"}
    assert {path.name for path in out.iterdir()} == {
        f"{name}.{ending}" for name in names for ending in ("json", "png", "mp4")
    }
    assert f"{CLIP}: " in told
    one, other = (json.loads((out / f"{name}.json").read_text()) for name in sorted(names))
    assert one["windows"] == other["windows"]
    given, annotated = probe(CLIP), probe(out / f"{CLIP.stem}.mp4")
    assert (annotated.num_frames, annotated.fps) == (given.num_frames, pytest.approx(given.fps, rel=1e-3))
    assert annotated.height >= given.height + 48
    assert Image.open(out / f"{CLIP.stem}.png").width > 800


def test_predictions_of_windows_go_on_where_they_stopped(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "windows.jsonl"
    command = (weights, CLIP, "--window", 0.5, "--out", out, "--json")
    code, first, _ = run(capsys, *command)
    lines = out.read_text().splitlines(keepends=True)
    assert (code, len(lines)) == (0, 1 + len(json.loads(first)[0]["windows"]))
    kept = [*lines[:2], lines[2].replace('"probability": 0.', '"probability": 9.')]
    out.write_text("".join(kept))
    code, second, err = run(capsys, *command)
    changed = json.loads(second)[0]["windows"]
    assert code == 0
    assert changed[1]["classes"][0]["probability"] > 9  # as the file says: it was not predicted again
    assert changed[2:] == json.loads(first)[0]["windows"][2:]
    assert f"{len(lines) - 1}/{len(lines) - 1}" in err


def test_a_video_at_a_url_is_told_as_the_file(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with serving_folder(CLIP.parent) as url:
        far, lost = f"{url}/{CLIP.name}", f"{url}/none.mp4"
        code, out, err = run(capsys, weights, far, lost, CLIP, "--json")
        assert code == 1
        there, gone, near = json.loads(out)
        assert there == near | {"video": far}
        assert gone["video"] == lost
        assert "404" in gone["error"]
        assert f"error: {lost}: cannot be fetched: 404" in err
        code, out, _ = run(capsys, weights, far.replace("://", "://me:secret@"), "--window", 1, "--json")
        assert code == 0
        assert "secret" not in out
        known = everest.load(weights).timeline(CLIP, Windows(1.0))
        assert json.loads(out)[0]["windows"] == json.loads(json.dumps(known.to_row()))["windows"]
        assert run(capsys, weights, lost)[0] == 2


def test_a_stream_is_told_line_by_line(weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = as_transport_stream(CLIP)
    with sending(content) as address:
        code, out, err = run(
            capsys,
            weights,
            address,
            "--window",
            0.8,
            "--json",
            "--out",
            tmp_path / "l.jsonl",
            "--timelines",
            tmp_path / "t",
        )
    rows = [json.loads(line) for line in out.splitlines()]
    assert (code, err) == (0, "")
    assert rows
    assert (tmp_path / "l.jsonl").read_text() == out
    assert json.loads((tmp_path / "t" / "stream.json").read_text())["windows"][0]["classes"] == rows[0]["classes"]
    assert (tmp_path / "t" / "stream.png").stat().st_size > 5000
    with sending(content) as address:
        code, out, _ = run(capsys, weights, address, "--window", 0.5, "--seconds", 1.2)
    assert code == 0
    assert out.splitlines()[0].startswith("0:00.0 - 0:00.5  ")
    assert len(out.splitlines()) <= 2


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["--annotate"], "--annotate writes into the folder of --timelines"),
        (["--seconds", "3"], "no VIDEO is one"),
        (["--window", "0"], "window_seconds must be 0.001 seconds or more"),
    ],
)
def test_what_makes_no_sense_is_refused(
    weights: Path, given: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(capsys, weights, CLIP, *given)
    assert (code, out) == (2, "")
    assert told in err


def test_a_stream_stands_alone(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, weights, CLIP, "udp://127.0.0.1:9")
    assert (code, out) == (2, "")
    assert "a stream has to be the only VIDEO" in err
    code, out, err = run(capsys, weights, "http://127.0.0.1:9/camera", "--live")
    assert (code, out) == (2, "")
    assert "http://127.0.0.1:9/camera: cannot be opened: connection refused" in err


def test_nothing_readable_is_an_error(weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.mp4").write_text("no video")
    code, out, err = run(capsys, weights, tmp_path / "a.mp4", "--window", 1, "--timelines", tmp_path / "t")
    assert (code, out) == (2, "")
    assert "a.mp4" in err
    assert not (tmp_path / "t").exists()
