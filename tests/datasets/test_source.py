from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from everest.datasets import ClipRecord, Manifest, hold_out, load_data
from everest.errors import ConfigError, DataError

ROOT = Path("/data")


def manifest_of(files: list[list[int]], num_classes: int = 6, root: Path = ROOT) -> Manifest:
    """One clip for every label of every file."""
    records = tuple(ClipRecord(root / f"v{i}.mp4", label) for i, labels in enumerate(files) for label in labels)
    return Manifest(records, tuple(f"c{i}" for i in range(num_classes)), root / "list.csv")


def test_the_bundled_clips_load() -> None:
    manifest = load_data("bundled", holdout=0.2)
    assert manifest.class_names == ("bend", "fall", "lie", "sit", "stand_or_walk")
    assert {name: sum(counts.values()) for name, counts in manifest.counts().items()} == {"train": 52, "test": 33}
    assert manifest.note == ""  # its own splits are kept
    assert all(record.path.is_file() for record in manifest.records)
    by_split = {split: {r.path for r in manifest.split(split).records} for split in ("train", "test")}
    assert not by_split["train"] & by_split["test"]


def test_files_folders_and_folders_with_a_manifest(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "a.mp4").touch()
    assert load_data(tmp_path).class_names == ("run",)
    (tmp_path / "windows.csv").write_text("path,label\nrun/a.mp4,other\n")
    assert load_data(tmp_path).class_names == ("run",)
    (tmp_path / "manifest.csv").write_text("path,label\nrun/a.mp4,jog\n")
    assert load_data(tmp_path).class_names == ("jog",)
    assert load_data(str(tmp_path / "windows.csv")).class_names == ("other",)


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere: no such file or folder; expected a manifest.*'bundled'"):
        load_data(tmp_path / "nowhere")
    (tmp_path / "a.mp4").touch()
    with pytest.raises(DataError, match="one video"):
        load_data(tmp_path / "a.mp4")


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=60), st.floats(0.05, 0.95))
def test_every_class_of_two_or_more_files_is_on_both_sides(labels: list[int], share: float) -> None:
    split = hold_out(manifest_of([[label] for label in labels]), share)
    for label in set(labels):
        sides = [r.split for r in split.records if r.label == label]
        num_test = sides.count("test")
        if len(sides) == 1:
            assert sides == ["train"]
        else:
            assert 1 <= num_test <= len(sides) - 1
            assert abs(num_test - share * len(sides)) <= 1


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.integers(0, 4), min_size=1, max_size=4), min_size=1, max_size=30), st.floats(0.1, 0.9))
def test_clips_of_a_file_stay_together_and_one_sided_classes_are_named(files: list[list[int]], share: float) -> None:
    split = hold_out(manifest_of(files), share)
    sides: dict[Path, set[str | None]] = {}
    for record in split.records:
        sides.setdefault(record.path, set()).add(record.split)
    assert all(len(s) == 1 for s in sides.values())
    for label in {r.label for r in split.records if r.label is not None}:  # five at most, so none is only counted
        if "test" not in {r.split for r in split.records if r.label == label}:
            assert f"c{label}" in split.note.partition("no test clip of ")[2]


def test_the_held_out_files_depend_on_names_only() -> None:
    files = [[i % 3] for i in range(30)]
    here = hold_out(manifest_of(files), 0.2)
    there = hold_out(manifest_of(files, root=Path("/mnt/other")), 0.2)
    shuffled = hold_out(Manifest(here.records[::-1], here.class_names, here.source), 0.2)
    assert [r.split for r in here.records] == [r.split for r in there.records]
    assert [r.split for r in here.records] == [r.split for r in shuffled.records][::-1]
    assert here.note == "no splits given: 20 % of the videos of each class held out as test, chosen by file name"
    assert [r.split for r in here.records].count("test") == 6


def test_a_hold_out_is_made_only_where_it_can_and_must(tmp_path: Path) -> None:
    listed = tmp_path / "list.csv"
    listed.write_text("a.mp4\nb.mp4\n")
    assert load_data(listed, holdout=0.5).splits == ()  # no labels
    listed.write_text("path,label\na.mp4,x\nb.mp4,x\n")
    assert load_data(listed).splits == ()  # not asked for
    assert set(load_data(listed, holdout=0.5).splits) == {"train", "test"}
    with pytest.raises(ConfigError, match="between 0 and 1"):
        load_data(listed, holdout=1.0)
    listed.write_text("a.mp4\n")
    with pytest.raises(DataError, match="label"):
        hold_out(load_data(listed), 0.5)
