from collections.abc import Callable
from pathlib import Path

import pytest

from everest.datasets import index_source, load_data
from everest.errors import ManifestError
from everest.video.reader import probe

COLUMNS = "youtube_id,time_start,time_end,split"
NAMES = ("-3B32lodo2M_000059_000069", "_a-b_000000_000010", "0347ZoDXyP0_000095_000105")


@pytest.fixture
def tree(root: Path, put: Callable[..., None], text: Callable[[str, str], Path]) -> Path:
    train = '"abseiling",-3B32lodo2M,59,69,train,0\n"riding, or not",_a-b,0,10,train,1\n'
    text("annotations/train.csv", f"label,{COLUMNS},is_cc\n{train}")
    val = "abseiling,0347ZoDXyP0,95.0,105.0,validate\nmassaging person's head,gone,5,15,validate\n"
    text("annotations/validate.csv", f"label,{COLUMNS}\n{val}")
    text("annotations/test.csv", f"{COLUMNS}\nsecret,7,17,test\n")
    put(f"train/abseiling/{NAMES[0]}.mp4", f"train/riding,_or_not/{NAMES[1]}.mp4", f"val/abseiling/{NAMES[2]}.mp4")
    put("test/secret_000007_000017.mkv", "test/stranger_000001_000011.mp4")
    return root


def test_all_splits_are_read(tree: Path, rows: Callable) -> None:
    index = index_source(tree, "kinetics400")
    assert rows(index) == [
        (f"{NAMES[0]}.mp4", "abseiling", "train", None, None),
        (f"{NAMES[1]}.mp4", "riding, or not", "train", None, None),
        (f"{NAMES[2]}.mp4", "abseiling", "val", None, None),
        ("secret_000007_000017.mkv", None, "test", None, None),
    ]
    assert index.missing == ("val/gone_000005_000015",)
    assert [path.name for path in index.unannotated] == ["stranger_000001_000011.mp4"]
    assert index.manifest.class_names == ("abseiling", "massaging person's head", "riding, or not")  # one is empty
    assert "3 classes, where the data set has 400 or 600 or 700" in index.manifest.note


def test_files_may_lie_side_by_side(tree: Path) -> None:
    expected = [r.path.name for r in index_source(tree, "kinetics600").manifest.records]
    for path in [p for p in tree.rglob("*") if p.suffix in {".mp4", ".mkv"}]:
        path.rename(tree / path.name)
    assert [r.path.name for r in index_source(tree, "kinetics700").manifest.records] == expected


def test_splits_without_annotations_are_said(tree: Path, text: Callable[[str, str], Path]) -> None:
    (tree / "annotations" / "train.csv").unlink()
    text("train.csv", "train/abseiling/x.mp4 0\n")  # another list of that name, as VideoMAE has them
    index = index_source(tree, "kinetics400")
    assert index.manifest.splits == ("val", "test")
    assert "no train.csv with a column youtube_id: nothing in the split train" in index.manifest.note
    (tree / "annotations" / "validate.csv").rename(tree / "kinetics-400_val.csv")
    (tree / "annotations" / "test.csv").unlink()
    assert index_source(tree, "kinetics400").manifest.splits == ("val",)
    (tree / "kinetics-400_val.csv").unlink()
    with pytest.raises(ManifestError, match=r"no file train\.csv with a column youtube_id or val\.csv"):
        index_source(tree, "kinetics400")


def name_by_identifier(tree: Path) -> None:
    for path in [p for p in tree.rglob("*") if p.suffix in {".mp4", ".mkv"}]:
        path.rename(path.with_name(f"{path.stem[:-14]}{path.suffix}"))


def test_files_called_by_identifier_that_are_shorter_than_their_span_end_are_cut_clips(
    tree: Path, rows: Callable
) -> None:
    name_by_identifier(tree)
    index = index_source(tree, "kinetics400")
    assert [row[0] for row in rows(index)] == ["-3B32lodo2M.mp4", "_a-b.mp4", "0347ZoDXyP0.mp4", "secret.mkv"]
    assert {row[3:] for row in rows(index)} == {(None, None)}
    assert "4 files are called by an identifier without times: taken as cut clips" in index.manifest.note


def test_files_called_by_identifier_that_hold_the_whole_video_keep_their_spans(
    tree: Path, rows: Callable, text: Callable[[str, str], Path]
) -> None:
    video = max({r.path for r in load_data("bundled").records}, key=lambda path: probe(path).duration_seconds)
    assert probe(video).duration_seconds > 5
    name_by_identifier(tree)
    for path in tree.rglob("-3B32lodo2M.mp4"):
        path.write_bytes(video.read_bytes())
    lines = ["abseiling,-3B32lodo2M,1,2,train", "riding,-3B32lodo2M,3,4,train"]
    text("annotations/train.csv", "\n".join([f"label,{COLUMNS}", *lines]))
    for name in ("validate", "test"):
        (tree / "annotations" / f"{name}.csv").unlink()
    index = index_source(tree, "kinetics400")
    assert rows(index) == [
        ("-3B32lodo2M.mp4", "abseiling", "train", 1.0, 2.0),
        ("-3B32lodo2M.mp4", "riding", "train", 3.0, 4.0),
    ]
    assert "2 files hold whole videos, as -3B32lodo2M.mp4 does" in index.manifest.note
    text("annotations/val.csv", f"label,{COLUMNS}\nabseiling,0347ZoDXyP0,95,105,val\n")
    with pytest.raises(ManifestError, match=r"3B32lodo2M\.mp4 holds a whole video and .*0347ZoDXyP0\.mp4 a cut clip"):
        index_source(tree, "kinetics400")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("label,youtube_id,time_start\n", "no column time_end; it has label, youtube_id, time_start"),
        (f"label,{COLUMNS}\nx,y,a,b,train\n", "line 2: time_start and time_end must be seconds"),
        (f"label,{COLUMNS}\nx,y,1,inf,train\n", "line 2: .*'1', 'inf'"),
        (f"label,{COLUMNS}\nx,y,9,9,train\n", "line 2: .*one after the other"),
        (f"label,{COLUMNS}\n\nx,,0,9,train\n", "line 3: youtube_id is empty"),
        (f"label,{COLUMNS}\nx,y,0\n", "line 2: .*'0', ''"),
        (f'label,{COLUMNS}\n"{"x" * 200_000}",y,0,9,train\n', "line 2: field larger than"),
    ],
)
def test_lines_that_cannot_be_read_are_named(tree: Path, content: str, message: str) -> None:
    (tree / "annotations" / "train.csv").write_text(content)
    with pytest.raises(ManifestError, match=message) as raised:
        index_source(tree, "kinetics400")
    assert "annotations/train.csv" in str(raised.value)
    assert "\n" not in str(raised.value)
