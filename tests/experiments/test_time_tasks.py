"""Tasks of time: every class shows the same moment, and only order and distance of the frames differ."""

import csv
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

sys.path.append(str(Path(__file__).parents[2] / "experiments"))
import time_tasks

import everest
from everest.video import read_clip

SCRIPT = Path(time_tasks.__file__)


def render(task: str, out: Path, *more: str) -> list[dict[str, str]]:
    bundled = everest.load_data("bundled")
    records = [next(r for r in bundled.records if r.split == split) for split in ("train", "test")]
    lines = [f"{r.path},x,{r.split}" for r in records]
    footage = out.parent / f"{out.name}.csv"
    footage.write_text("\n".join(["path,label,split", *lines]))
    command = [sys.executable, str(SCRIPT), task, str(footage), "--out", str(out), "--side", "32", "--most", "2", *more]
    subprocess.run(command, check=True, capture_output=True)
    with (out / "manifest.csv").open() as file:
        return list(csv.DictReader(file))


def frames(out: Path, row: dict[str, str]) -> torch.Tensor:
    return read_clip(out / row["path"], range(8)).frames.float()


@pytest.mark.parametrize(("task", "classes"), [("direction", ["forwards", "backwards"]), ("speed", ["1x", "2x", "4x"])])
def test_classes_are_balanced_and_share_their_middle(task: str, classes: list[str], tmp_path: Path) -> None:
    rows = render(task, tmp_path / "clips")
    assert rows
    assert len(rows) % len(classes) == 0
    for start in range(0, len(rows), len(classes)):
        window = rows[start : start + len(classes)]
        assert [row["label"] for row in window] == classes
        assert len({row["split"] for row in window}) == 1
        assert len({Path(row["path"]).name for row in window}) == 1
        clips = [frames(tmp_path / "clips", row) for row in window]
        assert all(clip.shape == clips[0].shape == (8, 32, 56, 3) for clip in clips)
        for clip, label in zip(clips, classes, strict=True):
            assert (
                clip[3 if label == "backwards" else 4] - clips[0][4]
            ).abs().mean() < 1  # without loss but for rounding of colours
    assert everest.load_data(tmp_path / "clips" / "manifest.csv").splits == ("train", "test")


def test_backwards_is_the_other_way_round_and_speed_takes_every_second_frame(tmp_path: Path) -> None:
    forwards, backwards = (frames(tmp_path / "d", row) for row in render("direction", tmp_path / "d")[:2])
    assert (forwards - backwards.flip(0)).abs().mean() < 1
    assert (forwards - backwards).abs().mean() > 1
    slow, fast, _ = (frames(tmp_path / "s", row) for row in render("speed", tmp_path / "s")[:3])
    assert (slow[0::2] - fast[2:6]).abs().mean() < 1  # frames -4 -2 0 2 of both


def test_the_control_shows_one_picture_in_all_classes(tmp_path: Path) -> None:
    clips = [frames(tmp_path / "still", row) for row in render("direction", tmp_path / "still", "--still")[:2]]
    assert (clips[0] - clips[1]).abs().max() == 0
    assert (clips[0] - clips[0][:1]).abs().mean() < 1


def test_a_folder_that_is_used_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    command = [sys.executable, str(SCRIPT), "speed", "bundled", "--out", str(tmp_path / "out")]
    found = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (found.returncode, found.stderr) == (2, f"error: {tmp_path / 'out'}: holds files; give a new folder\n")


def test_footage_without_splits_is_split_by_group(tmp_path: Path) -> None:
    record = replace(everest.load_data("bundled").records[0], split=None)
    videos = [replace(record, path=tmp_path / f"{number}.mp4") for number in range(500)]
    alone = [time_tasks.split_of(video, time_tasks.group_of(video, {}, "own")) for video in videos]
    assert 70 < alone.count("test") < 130
    assert alone.count("train") == 500 - alone.count("test")
    scenes = {f"{number}.mp4": f"scene {number // 10}" for number in range(500)}
    together = [time_tasks.split_of(video, time_tasks.group_of(video, scenes, "own")) for video in videos]
    assert all(len(set(together[first : first + 10])) == 1 for first in range(0, 500, 10))
    assert set(together) == {"train", "test"}
    assert time_tasks.split_of(replace(record, split="val"), "own/00000000") == "test"
