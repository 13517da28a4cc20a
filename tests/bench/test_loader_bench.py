"""The benchmark of the loader measures what it says, on the same clips for every way."""

import json
import os
import signal
import threading
import time
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import torch
from torch.utils.data import Dataset

from everest.bench import loader
from everest.bench.arms import Arm, build_arms
from everest.bench.decord_clips import DecordClips, has_decord
from everest.bench.loader import STAGES, bench_loader, format_loader, waiting_share
from everest.config import ClipConfig, EvaluationConfig
from everest.datasets import ClipRecord, Manifest, load_data
from everest.datasets.clips import SampleKey
from everest.errors import ConfigError, DataError

BUNDLED = load_data("bundled").split("train")
SMALL = ClipConfig(num_frames=8, height=64, width=64, stride=2)
VIEWS = EvaluationConfig(num_segments=2, num_crops=3)


def few(num: int = 4) -> Manifest:
    return Manifest(BUNDLED.records[:num], BUNDLED.class_names, BUNDLED.source)


def test_every_way_is_measured() -> None:
    values = bench_loader(
        few(), packed=few(), clip=SMALL, clips_per_video=2, views=VIEWS, rounds=2, train_step=0.01, batch=2
    )
    rows = {row["name"]: row for row in values["arms"]}
    assert {
        "pyav",
        "pyav, 2 clips per video",
        "packed shards",
        "6 views, decoded once",
        "6 views, view by view",
    } <= set(rows)
    assert values["num_items"] == 4
    for row in rows.values():
        assert 0 < row["lowest"] <= row["clips_per_second"] <= row["highest"]
        assert row["ms_per_clip"] == pytest.approx(1000 / row["clips_per_second"])
        assert row["workers_needed"] >= 1
        assert 0 <= row["waiting_share"] <= 1
    stages = rows["pyav"]["stages_ms"]
    assert set(stages) == set(STAGES)
    assert min(stages["open"], stages["decode"], stages["transform"], stages["transfer"]) > 0
    assert json.loads(json.dumps(values)) == values
    told = format_loader(values)
    assert "needs" in told
    assert "packed shards" in told


@pytest.mark.parametrize(("train_step", "expected"), [(0.02, 0.75), (0.04, 0.5), (0.06, 0.25), (0.12, 0.0)])
def test_the_share_of_waiting_is_what_the_speeds_say(train_step: float, expected: float) -> None:
    seconds = []

    def take() -> None:
        started = time.perf_counter()
        time.sleep(0.01)  # 0.08 s for the eight items of a step
        seconds.append(time.perf_counter() - started)

    share = waiting_share(take, lambda _: None, items_per_step=8, train_step=train_step, num_steps=8)
    slowness = fmean(seconds) / 0.01  # of this machine now
    assert share == pytest.approx(max(0.0, 1 - (1 - expected) / slowness if expected else 0.0), abs=0.1)


def test_what_is_left_of_an_item_goes_into_the_next_step() -> None:
    taken = []
    waiting_share(lambda: None, taken.append, items_per_step=2.5, train_step=0.0, num_steps=3)
    assert len(taken) == 10  # for four steps


def test_waiting_is_known_where_a_step_takes_more_clips_than_there_are() -> None:
    values = bench_loader(few(3), clip=SMALL, rounds=1, train_step=0.4, batch=8)
    assert {row["name"]: row["waiting_share"] for row in values["arms"]}["pyav"] < 0.5


def test_errors_of_the_files_end_the_measurement() -> None:
    def take() -> None:
        raise DataError("gone")

    with pytest.raises(DataError, match="gone"):
        waiting_share(take, lambda _: None, items_per_step=8, train_step=0.01, num_steps=6)


def test_views_decoded_once_are_those_decoded_one_by_one() -> None:
    arms = {arm.name: arm for arm in build_arms(few(), None, SMALL, 1, VIEWS)}
    once, one_by_one = arms["6 views, decoded once"], arms["6 views, view by view"]
    for index in range(3):
        key = (0, index, index)
        a, b = once.read(key), one_by_one.read(key)
        assert a is not None
        assert b is not None
        assert torch.equal(once.finish(a, torch.device("cpu")), one_by_one.finish(b, torch.device("cpu")))


def test_our_stages_give_the_clips_of_training() -> None:
    arm = next(arm for arm in build_arms(few(), None, SMALL, 3, None) if "3 clips" in arm.name)
    assert arm.read_by_stage is not None
    item, seconds = arm.read_by_stage((0, 1, 1))
    whole = arm.read((0, 1, 1))
    assert isinstance(whole, torch.Tensor)
    assert torch.equal(item, whole)
    assert seconds["decode"] > 0


@pytest.mark.skipif(not has_decord(), reason="decord is not installed")
def test_the_baseline_takes_the_frames_and_boxes_that_ours_takes() -> None:
    arms = {arm.name: arm for arm in build_arms(few(), None, SMALL, 1, None)}
    ours, theirs = arms["pyav"], arms["decord + Pillow per frame"]
    for index in range(4):
        a, b = ours.read((0, index, index)), theirs.read((0, index, index))
        assert isinstance(a, torch.Tensor)
        assert isinstance(b, torch.Tensor)
        assert b.dtype == torch.float32
        mine = ours.finish(a, torch.device("cpu"))[0]
        assert (mine - b).abs().mean() < 0.05  # in standard deviations: two ways to scale a picture


@pytest.mark.skipif(not has_decord(), reason="decord is not installed")
def test_the_baseline_says_what_it_cannot_read(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("text" * 500)
    paths = (tmp_path / "nowhere.mp4", tmp_path / "text.mp4")
    clips = DecordClips(tuple(ClipRecord(path) for path in paths), SMALL)
    assert len(clips) == 2
    assert clips[0, 0, 0] is None
    assert clips[0, 0, 1] is None


def test_files_that_cannot_be_read_are_left_out_and_listed() -> None:
    nowhere = ClipRecord(BUNDLED.records[0].path.with_name("nowhere.mp4"))
    values = bench_loader(
        Manifest((*few(3).records, nowhere), BUNDLED.class_names, BUNDLED.source), clip=SMALL, rounds=1
    )
    assert values["num_items"] == 3
    assert len(values["left_out"]) == 1
    assert "nowhere.mp4" in values["left_out"][0]
    with pytest.raises(DataError, match="none of 1 videos can be read"):
        bench_loader(Manifest((nowhere,), (), BUNDLED.source), clip=SMALL)


def test_what_cannot_be_measured_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least 1"):
        bench_loader(few(), rounds=0)
    with pytest.raises(DataError, match="2 packed clips, but 4"):
        bench_loader(few(4), packed=few(2))


class Odd(Dataset[Any]):
    """Hangs at the first item, dies at the second, cannot read the third, and reads the others."""

    records = BUNDLED.records

    def __getitem__(self, key: SampleKey) -> torch.Tensor | None:
        if key[2] == 0:
            threading.Event().wait()
        if key[2] == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return None if key[2] == 2 else torch.zeros(1)


def test_files_that_stop_their_reader_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader, "TIME_LIMIT_SECONDS", 0.5)
    keys, left_out = loader._readable([Arm("odd", Odd())], 5, 5)
    assert keys == [(0, 3, 3), (0, 4, 4)]
    assert len(left_out) == 3
    assert "longer than 0.5 s" in left_out[0]
