from collections.abc import Callable
from pathlib import Path

import pytest

from everest.datasets import index_source
from everest.errors import ManifestError

LISTS = "ucfTrainTestlist"


@pytest.fixture
def tree(root: Path, put: Callable[..., None], text: Callable[[str, str], Path]) -> Path:
    text(f"{LISTS}/classInd.txt", "1 ApplyEyeMakeup\r\n2 HandstandPushups\r\n3 YoYo\r\n")
    train = [
        "ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi 1",
        "YoYo/v_YoYo_g08_c01.avi 3",
        "HandstandPushups/v_HandStandPushups_g08_c01.avi 2",
        "YoYo/v_YoYo_g09_c01.avi 3",
    ]
    test = ["ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi", "YoYo/v_YoYo_g01_c01.avi"]
    for fold in (1, 2, 3):
        text(f"{LISTS}/trainlist0{fold}.txt", "\r\n".join([*train[fold - 1 :], ""]))
        text(f"{LISTS}/testlist0{fold}.txt", "\r\n".join([*test, ""]))
    for name in ("ApplyEyeMakeup_g08_c01", "ApplyEyeMakeup_g01_c01", "YoYo_g08_c01", "YoYo_g01_c01", "YoYo_g22_c02"):
        put(f"UCF-101/{name.split('_')[0]}/v_{name}.avi")
    put("UCF-101/HandstandPushups/v_HandstandPushups_g08_c01.avi")
    return root


def test_lists_and_videos_are_found(tree: Path, rows: Callable) -> None:
    index = index_source(tree, "ucf101")
    assert rows(index) == [
        ("v_ApplyEyeMakeup_g08_c01.avi", "ApplyEyeMakeup", "train", None, None),
        ("v_YoYo_g08_c01.avi", "YoYo", "train", None, None),
        ("v_HandstandPushups_g08_c01.avi", "HandstandPushups", "train", None, None),  # spelt otherwise in the list
        ("v_ApplyEyeMakeup_g01_c01.avi", "ApplyEyeMakeup", "test", None, None),
        ("v_YoYo_g01_c01.avi", "YoYo", "test", None, None),
    ]
    assert index.missing == ("train/v_YoYo_g09_c01",)
    assert [path.name for path in index.unannotated] == ["v_YoYo_g22_c02.avi"]
    assert index.manifest.class_names == ("ApplyEyeMakeup", "HandstandPushups", "YoYo")
    assert "3 classes, where the data set has 101" in index.manifest.note


def test_every_fold_has_its_own_lists(tree: Path) -> None:
    folds = [index_source(tree, "ucf101", fold=fold).manifest for fold in (1, 2, 3)]
    assert [len(fold.split("train")) for fold in folds] == [3, 2, 1]
    assert len({fold.digest for fold in folds}) == 3
    assert {fold.class_names for fold in folds} == {folds[0].class_names}
    for fold in (0, 4):
        with pytest.raises(ManifestError, match=f"fold {fold}: the official splits are 1, 2 and 3"):
            index_source(tree, "ucf101", fold=fold)


def test_annotations_and_videos_may_lie_apart_and_videos_side_by_side(tree: Path) -> None:
    films = tree.parent / "films"
    films.mkdir()
    for path in sorted(tree.rglob("*.avi")):
        path.rename(films / path.name)
    (films / "v_YoYo_g01_c01.avi").rename(films / "v_YoYo_g01_c01.MP4")
    with pytest.raises(
        ManifestError, match=r"none of the 6 annotated videos .* v_ApplyEyeMakeup_g08_c01\.\*.* --videos"
    ):
        index_source(tree, "ucf101")
    with pytest.raises(ManifestError, match=r"films: no file classInd\.txt there or below.* --annotations"):
        index_source(films, "ucf101")
    first = index_source(films, "ucf101", annotations=tree)
    assert len(first.manifest) == 5
    assert index_source(tree, "ucf101", videos=films).manifest.records == first.manifest.records
    assert index_source("nowhere", "ucf101", annotations=tree, videos=films).manifest.records == first.manifest.records


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("classInd.txt", "1 A\n3 B\n", "without gaps"),
        ("classInd.txt", "1 A\nB\n", r"classInd\.txt: .*line 2: expected a new number"),
        ("classInd.txt", "1 A\n2 A\n", "a class name occurs twice"),
        ("trainlist01.txt", "YoYo/v_YoYo_g08_c01.avi 7\n", r"trainlist01\.txt: line 1: label 7 .* is 3"),
        ("testlist01.txt", "\nUnknown/x.avi\n", "line 2: expected Class/video.avi"),
        ("testlist01.txt", "x.avi\n" * 12, "line 5: expected.*and 7 more"),
        ("testlist01.txt", "YoYo/v_YoYo_g01_c01.avi\xe9", "UTF-8"),
    ],
)
def test_lines_that_cannot_be_read_are_named(tree: Path, file: str, content: str, message: str) -> None:
    assert (tree / LISTS / file).is_file()
    (tree / LISTS / file).write_text(content, encoding="latin-1")
    with pytest.raises(ManifestError, match=message) as raised:
        index_source(tree, "ucf101")
    assert "\n" not in str(raised.value)


def test_a_second_copy_of_the_lists_is_not_chosen_between(tree: Path, text: Callable[[str, str], Path]) -> None:
    text("deeper/still/classInd.txt", "1 Other\n")  # deeper: the one nearer to the top counts
    assert len(index_source(tree, "ucf101").manifest.class_names) == 3
    text("other/classInd.txt", "1 Other\n")
    with pytest.raises(ManifestError, match=r"classInd\.txt and .*classInd\.txt could both be meant"):
        index_source(tree, "ucf101")
    assert len(index_source(tree, "ucf101", annotations=tree / LISTS).manifest) == 5
