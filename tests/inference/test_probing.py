"""Probes tell features that hold the classes from those that do not, and never look at the test rows to choose."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from everest.cli import main
from everest.errors import ConfigError, DataError
from everest.inference.feature_files import write_features
from everest.inference.feature_rows import FeatureRow, Features
from everest.inference.probing import probe

pytest.importorskip("sklearn")
MADE_BY = {"sha256": "0" * 64, "layer": None, "per_token": False, "selection": {"method": "all"}, "views": [3, 1]}
NAMES = ("bend", "fall", "sit")


def table(part: str, num_files: int, noise: float, seed: int) -> Features:
    """Three rows of each file, around a direction for each class; with much noise they say nothing."""
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(0).normal(size=(3, 16))
    rows = []
    for number in range(num_files):
        label = number % 3
        for clip in range(3):
            values = (centres[label] + noise * random.normal(size=16)).astype(np.float32)
            rows.append(FeatureRow(f"{part}/{number}.mp4", float(clip), clip + 1.0, NAMES[label], values))
    return Features(tuple(rows), dict(MADE_BY))


def test_features_that_hold_the_classes_are_worth_something() -> None:
    report = probe(table("train", 12, 0.3, 1), table("test", 9, 0.3, 2), num_neighbors=(1, 5, 1000))
    assert [result.name for result in report.results] == [
        "1 nearest neighbour",
        "5 nearest neighbours",
        "36 nearest neighbours",  # all there are
        "linear",
    ]
    assert all(result.top1 > 0.95 for result in report.results)
    assert report.class_names == NAMES
    assert (report.num_train, report.num_test, report.num_train_files, report.num_test_files) == (36, 27, 12, 9)
    assert report.majority == pytest.approx(1 / 3)
    assert "chosen on 4 folds" in report.results[-1].setting


def test_rows_that_are_right_are_known_one_by_one() -> None:
    report = probe(table("train", 12, 2.0, 1), table("test", 9, 2.0, 2))
    for result in report.results:
        assert len(result.right) == 27
        assert sum(result.right) / 27 == result.top1
    assert 0 < sum(report.results[0].right) < 27
    assert all("right" not in result for result in report.to_dict()["results"])


def test_rows_of_one_scene_stay_together_where_scenes_are_known() -> None:
    train, test = table("train", 12, 2.0, 1), table("test", 9, 2.0, 2)
    scenes = [f"scene {int(Path(row.path).stem) // 6}" for row in train.rows]  # two, each with all classes
    assert "chosen on 2 folds" in probe(train, test, groups=scenes).results[-1].setting
    with pytest.raises(ConfigError, match="36 training rows need a group each, given: 35"):
        probe(train, test, groups=scenes[1:])


def test_noise_is_worth_what_chance_is() -> None:
    report = probe(table("train", 30, 1000.0, 1), table("test", 60, 1000.0, 2))
    for result in report.results:
        assert result.top1_interval[0] < 1 / 3 < result.top1_interval[1]


def test_the_strength_is_not_chosen_by_the_test_rows() -> None:
    train, test = table("train", 12, 2.0, 1), table("test", 9, 2.0, 2)
    setting = probe(train, test).results[-1].setting
    labels = [NAMES[(NAMES.index(str(row.label)) + 1) % 3] for row in test.rows]
    wrong = Features(tuple(replace(row, label=label) for row, label in zip(test.rows, labels, strict=True)), MADE_BY)
    assert probe(train, wrong).results[-1].setting == setting


def test_rows_of_one_file_stay_together_in_cross_validation() -> None:
    """Each file is a class's only one: nothing can be held out, and it is said."""
    report = probe(table("train", 3, 0.3, 1), table("test", 3, 0.3, 2))
    assert report.results[-1].setting == "C = 1: a class of one file cannot be divided to choose it"


def test_what_cannot_be_probed_is_said() -> None:
    train, test = table("train", 6, 0.3, 1), table("test", 3, 0.3, 2)
    with pytest.raises(DataError, match=r"9 test rows show seconds .* the first: test/0\.mp4 from 0 s"):
        probe(Features(train.rows + test.rows, MADE_BY), test)
    with pytest.raises(ConfigError, match="differ in layer, views"):
        probe(train, Features(test.rows, MADE_BY | {"layer": 3, "views": [1, 1]}))
    bare = Features(tuple(replace(row, label=None) for row in test.rows), MADE_BY)
    with pytest.raises(DataError, match=r"every test row needs a label, and 9 have none, the first: test/0\.mp4"):
        probe(train, bare)
    with pytest.raises(DataError, match="have one class only, bend"):
        probe(Features(train.rows[:3], MADE_BY), test)
    other = Features(tuple(replace(row, label="fly") for row in test.rows), MADE_BY)
    with pytest.raises(DataError, match="that no training row has: fly"):
        probe(train, other)


@pytest.mark.parametrize(
    ("known", "asked", "is_refused"),
    [
        ((None, None), (2.0, 3.0), True),
        ((2.0, 3.0), (None, None), True),
        ((0.0, 2.0), (1.5, 3.5), True),
        ((2.0, None), (2.5, 3.0), True),
        ((2.0, None), (None, 2.0), False),
        ((0.0, 2.0), (1.9999999, 4.0), False),  # they follow each other, but for rounding
        ((3.0, 4.0), (1.0, 2.0), False),
    ],
)
def test_no_second_of_a_file_is_learnt_and_asked(
    known: tuple[float | None, float | None], asked: tuple[float | None, float | None], is_refused: bool, tmp_path: Path
) -> None:
    train, test = table("train", 6, 0.3, 1), table("test", 3, 0.3, 2)
    (tmp_path / "a folder").mkdir()
    taught = replace(train.rows[0], path=f"{tmp_path}/a.mp4", start_seconds=known[0], end_seconds=known[1])
    wanted = replace(test.rows[0], path=f"{tmp_path}/a folder/../a.mp4", start_seconds=asked[0], end_seconds=asked[1])
    train, test = (Features((*each.rows, row), MADE_BY) for each, row in ((train, taught), (test, wanted)))
    if is_refused:
        with pytest.raises(DataError, match=r"1 test rows show seconds of a video that training rows show too"):
            probe(train, test)
    else:
        assert probe(train, test).num_test == 10


def test_spans_and_whole_videos_are_not_compared() -> None:
    train, test = table("train", 6, 0.3, 1), table("test", 3, 0.3, 2)
    windows = {"window_seconds": 1.0, "hop_seconds": None}
    with pytest.raises(ConfigError, match="differ in windows"):
        probe(train, Features(test.rows, MADE_BY | {"windows": windows}))
    assert probe(*(Features(each.rows, MADE_BY | {"windows": windows}) for each in (train, test))).num_test == 9


def test_the_command_prints_and_gives_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = [str(tmp_path / name) for name in ("train.npz", "test.npz")]
    for name, features in zip(names, (table("train", 12, 0.3, 1), table("test", 9, 0.3, 2)), strict=True):
        write_features(features, Path(name))
    assert main(["probe", *names, "--neighbors", "3"]) == 0
    told = capsys.readouterr().out
    assert "27 rows of 9 files, 3 classes; learnt from 36 rows of 12 files" in told
    assert "3 nearest neighbours" in told
    assert "always the class that is most frequent in training: 33.3%" in told
    assert main(["probe", *names, "--json"]) == 0
    assert [each["name"] for each in json.loads(capsys.readouterr().out)["results"]][-1] == "linear"
    for wrong in ("0", "x"):
        assert main(["probe", *names, "--neighbors", wrong]) == 2
        assert "neighbo" in capsys.readouterr().err
