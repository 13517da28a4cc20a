"""Tasks of time: every class shows the same moment, and only order and distance of the frames differ."""

import csv
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

sys.path.append(str(Path(__file__).parents[2] / "experiments"))
import time_tasks

import everest
from everest.datasets import ClipRecord
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


def test_the_control_fills_each_clip_with_one_of_its_own_frames(tmp_path: Path) -> None:
    moving = render("speed", tmp_path / "moving")
    places = set()
    for row, same in zip(moving, render("speed", tmp_path / "still", "--still"), strict=True):
        clip, still = frames(tmp_path / "moving", row), frames(tmp_path / "still", same)
        assert row == same
        assert (still - still[0]).abs().max() < 3  # but for rounding of colours
        distances = (clip - still[0]).abs().mean(dim=(1, 2, 3))
        assert distances.min() < 1
        places.add(int(distances.argmin()))
    assert len(places) > 1


def windows(fps: float, num_frames: int, most: int, name: str, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    monkeypatch.setattr(time_tasks, "probe", lambda _: SimpleNamespace(fps=fps, num_frames=num_frames))
    return time_tasks.windows_of(ClipRecord(Path(name)), 28, most)


@pytest.mark.parametrize(("fps", "step"), [(15.0, 1), (18.0, 1), (23.976, 2), (25.0, 2), (29.97, 2), (60.0, 4)])
def test_steps_are_whole_frames_and_equal_and_no_window_leaves_its_video(
    fps: float, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    length = 28 * step + 1
    found = windows(fps, 3 * length + 10, 6, "a.mp4", monkeypatch)
    assert len(found) == 3
    shown = []
    for window in found:
        assert window.step == step
        for way in ((1, 1), (2, 1), (4, 1), (1, -1)):
            places = time_tasks.places(window, way, 8, fastest=4)
            steps = [second - first for first, second in pairwise(places)]
            assert steps == [way[0] * way[1] * step] * 7
            assert min(places) >= window.first
            assert max(places) < window.first + length
        assert {time_tasks.places(window, (speed, 1), 8, fastest=4)[4] for speed in (1, 2, 4)} == {
            time_tasks.places(window, (1, -1), 8, fastest=4)[3]
        }
        shown.append(range(window.first, window.first + length))
    assert all(one.stop <= two.start for one, two in pairwise(shown))
    assert shown[0].start >= 0
    assert shown[-1].stop <= 3 * length + 10


def test_where_a_window_lies_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    first = [windows(30.0, 57 + 19, 1, f"{number}.mp4", monkeypatch)[0].first for number in range(400)]
    assert set(first) == set(range(20))
    assert windows(30.0, 57, 1, "a.mp4", monkeypatch)[0].first == 0
    assert windows(30.0, 56, 1, "a.mp4", monkeypatch) == []
    assert len(windows(30.0, 57 * 9, 4, "a.mp4", monkeypatch)) == 4


@pytest.mark.parametrize("fps", [10.0, 11.5, 20.0, 22.0])
def test_footage_of_other_rates_is_left_out(fps: float, monkeypatch: pytest.MonkeyPatch) -> None:
    assert windows(fps, 1000, 4, "a.mp4", monkeypatch) == []


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
