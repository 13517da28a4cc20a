from collections.abc import Callable
from pathlib import Path

import pytest

from everest.datasets import index_source
from everest.errors import ManifestError

SPLITS = "testTrainMulti_7030_splits"
ODD = "#437_How_To_Ride_A_Bike_ride_bike_f_cm_np1_le_med_0"
OTHER = "lesson;1_(Rad)Schlag_die_Bank!_ride_bike_u_nm_np1_ba_goo_0"


@pytest.fixture
def tree(root: Path, put: Callable[..., None], text: Callable[[str, str], Path]) -> Path:
    for fold, (first, second) in enumerate(((1, 2), (2, 1), (0, 1)), 1):
        text(f"{SPLITS}/ride_bike_test_split{fold}.txt", f"{ODD}.avi {first} \n{OTHER}.avi {second} \nx_ride.avi 0 \n")
        text(f"{SPLITS}/wave_test_split{fold}.txt", "a_wave_f_26.avi 1 \nb_wave.avi 2 \nc_wave.avi 2 \n")
    put(*(f"hmdb51_org/ride_bike/{name}.avi" for name in (ODD, OTHER, "x_ride")))
    put(*(f"hmdb51_org/wave/{name}.avi" for name in ("a_wave_f_26", "b_wave", "stranger")))
    return root


def test_marks_say_on_which_side_a_video_is(tree: Path, rows: Callable) -> None:
    index = index_source(tree, "hmdb51")
    assert rows(index) == [
        (f"{ODD}.avi", "ride_bike", "train", None, None),
        (f"{OTHER}.avi", "ride_bike", "test", None, None),
        ("a_wave_f_26.avi", "wave", "train", None, None),
        ("b_wave.avi", "wave", "test", None, None),
    ]
    assert index.missing == ("test/c_wave",)
    assert [path.name for path in index.unannotated] == ["stranger.avi"]  # not x_ride, which has the mark 0
    assert "1 annotated videos belong to neither side of split 1" in index.summary()


def test_every_fold_has_its_own_marks(tree: Path) -> None:
    second, third = (index_source(tree, "hmdb51", fold=fold).manifest for fold in (2, 3))
    assert [r.split for r in second.records] == ["test", "train", "train", "test"]
    assert [r.path.stem for r in third.records] == [OTHER, "a_wave_f_26", "b_wave"]
    with pytest.raises(ManifestError, match="fold 0"):
        index_source(tree, "hmdb51", fold=0)


def test_a_class_without_a_list_would_move_the_others(tree: Path) -> None:
    (tree / SPLITS / "ride_bike_test_split2.txt").unlink()
    assert len(index_source(tree, "hmdb51", fold=3).manifest) == 3
    with pytest.raises(
        ManifestError, match=r"ride_bike_test_split1\.txt is there, but ride_bike_test_split2\.txt is not"
    ):
        index_source(tree, "hmdb51", fold=2)


def test_videos_of_one_name_are_told_apart_by_their_class(
    tree: Path, put: Callable[..., None], text: Callable[[str, str], Path]
) -> None:
    text(f"{SPLITS}/wave_test_split1.txt", f"{ODD}.avi 2 \n")
    put(f"hmdb51_org/wave/{ODD}.avi")
    index = index_source(tree, "hmdb51")
    assert [(r.path.parent.name, r.split) for r in index.manifest.records if r.path.stem == ODD] == [
        ("ride_bike", "train"),
        ("wave", "test"),
    ]
    assert index.conflicting == ()


@pytest.mark.parametrize("line", ["a.avi 3", "a.avi", " 1", "a.avi one"])
def test_lines_that_cannot_be_read_are_named(tree: Path, line: str) -> None:
    (tree / SPLITS / "wave_test_split1.txt").write_text(f"b_wave.avi 1\n{line}\n")
    with pytest.raises(ManifestError, match=r"wave_test_split1\.txt: line 2: expected a video and 0, 1 or 2"):
        index_source(tree, "hmdb51")


def test_without_lists_it_is_said_what_was_looked_for(root: Path, put: Callable[..., None]) -> None:
    put("wave/a.avi")
    with pytest.raises(ManifestError, match=r"no file CLASS_test_split2\.txt there or below"):
        index_source(root, "hmdb51", fold=2)
