"""`everest predict` on long videos, single videos at URLs, and streams."""

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

import everest
from everest.cli import main
from everest.datasets import load_data
from everest.inference import Windows
from everest.video.reader import probe
from live_sources import repack, serving_folder

BUNDLED = load_data("bundled")
CLIP = BUNDLED.records[0].path


def run(capsys: pytest.CaptureFixture[str], *command: object) -> tuple[int, str, str]:
    code = main(["predict", *map(str, command)])
    out, err = capsys.readouterr()
    return code, out, err


def test_a_long_video_gets_a_timeline(small_weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, small_weights, CLIP, "--window", 1, "--hop", 0.5, "--json", "--top", 2)
    (row,) = json.loads(out)
    known = everest.load(small_weights).timeline(CLIP, Windows(1.0, 0.5), top=2)
    assert code == 0
    assert row["video"] == str(CLIP)
    assert (row["start"], row["end"]) == (0.0, pytest.approx(probe(CLIP).duration_seconds, abs=0.1))
    assert [part["start"] for part in row["windows"]][:3] == [0.0, 0.5, 1.0]
    assert row == json.loads(json.dumps(known.to_row()))
    code, out, _ = run(capsys, small_weights, CLIP, "--window", 1, "--hop", 0.5)
    lines = out.splitlines()
    assert lines[0].startswith(f"{CLIP}: {len(row['windows'])} windows from 0:00.0 to 0:0")
    assert len(lines) == 1 + len(row["segments"])
    assert all(part["name"] in line for part, line in zip(row["segments"], lines[1:], strict=True))


def test_pictures_and_videos_are_written_for_each_video(
    small_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    twin, torn = tmp_path / "in" / CLIP.name, tmp_path / "in" / "torn.mp4"
    twin.parent.mkdir()
    shutil.copy(CLIP, twin)
    torn.write_bytes(CLIP.read_bytes()[:900])
    out = tmp_path / "out"
    code, told, err = run(capsys, small_weights, CLIP, twin.parent, "--timelines", out, "--annotate")
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
    small_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "windows.jsonl"
    command = (small_weights, CLIP, "--window", 0.5, "--out", out, "--json")
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


def test_a_video_at_a_url_is_told_as_the_file(small_weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with serving_folder(CLIP.parent) as url:
        far, lost = f"{url}/{CLIP.name}", f"{url}/none.mp4"
        code, out, err = run(capsys, small_weights, far, lost, CLIP, "--json")
        assert code == 1
        there, gone, near = json.loads(out)
        assert there == near | {"video": far}
        assert gone["video"] == lost
        assert "404" in gone["error"]
        assert f"error: {lost}: cannot be fetched: 404" in err
        code, out, _ = run(capsys, small_weights, far.replace("://", "://me:secret@"), "--window", 1, "--json")
        assert code == 0
        assert "secret" not in out
        known = everest.load(small_weights).timeline(CLIP, Windows(1.0))
        assert json.loads(out)[0]["windows"] == json.loads(json.dumps(known.to_row()))["windows"]
        assert run(capsys, small_weights, lost)[0] == 2


def test_nothing_readable_is_an_error(small_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.mp4").write_text("no video")
    code, out, err = run(capsys, small_weights, tmp_path / "a.mp4", "--window", 1, "--timelines", tmp_path / "t")
    assert (code, out) == (2, "")
    assert "a.mp4" in err
    assert not list((tmp_path / "t").iterdir())


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    """A video whose index is whole, and whose pictures end in the middle."""
    (tmp_path / "in").mkdir()
    path = tmp_path / "in" / "damaged.mp4"
    repack(CLIP, path, options={"movflags": "faststart"})
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 7 // 10])
    return path


def test_a_damaged_video_is_not_annotated_and_the_others_are(
    small_weights: Path, damaged: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(CLIP, damaged.with_name("good.mp4"))
    out = tmp_path / "out"
    code, told, err = run(
        capsys, small_weights, damaged.parent, "--window", 0.5, "--json", "--timelines", out, "--annotate"
    )
    assert code == 1
    torn, good = json.loads(told)
    assert torn["failures"]
    assert torn["end"] == good["end"] == pytest.approx(probe(CLIP).duration_seconds, abs=0.1)
    assert len(good["windows"]) > len(torn["windows"]) > 1
    assert [line for line in err.splitlines() if line.startswith(f"error: {damaged}: not annotated: ")]
    assert sorted(path.name for path in out.iterdir()) == sorted(
        ["damaged.json", "damaged.png", "good.json", "good.png", "good.mp4"]
    )


def test_what_was_found_is_told_although_it_cannot_be_drawn(
    small_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / f"{CLIP.stem}.json").mkdir()
    twin = Path(shutil.copy(CLIP, tmp_path / "twin.mp4"))
    code, told, err = run(capsys, small_weights, CLIP, twin, "--window", 2, "--json", "--timelines", tmp_path)
    assert code == 1
    assert [row["video"] for row in json.loads(told)] == [str(CLIP), str(twin)]
    assert f"error: {tmp_path}: cannot be written: Is a directory; name another folder" in err
    assert (tmp_path / "twin.png").exists()


def test_a_part_of_a_video_is_told_with_its_span(
    small_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spans = tmp_path / "list.csv"
    spans.write_text(f"path,label,start,end\n{CLIP},0,2.0,3.5\n{CLIP},0,,1.0\n")
    command = (small_weights, spans, "--window", 0.5, "--timelines", tmp_path / "out")
    code, told, _ = run(capsys, *command)
    assert code == 0
    heads = [line for line in told.splitlines() if line.startswith(str(CLIP))]
    assert heads == [f"{CLIP}: 3 windows from 0:02.0 to 0:03.5", f"{CLIP}: 2 windows from 0:00.0 to 0:01.0"]
    rows = [json.loads((tmp_path / "out" / f"{CLIP.stem}{end}.json").read_text()) for end in ("", "-2")]
    assert [(row["start"], row["end"]) for row in rows] == [(2.0, 3.5), (0.0, 1.0)]
