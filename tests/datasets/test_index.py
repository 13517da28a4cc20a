"""Tiny trees in every official layout, out of real clips: what is listed, what is missed, what is refused."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from everest.cli import main
from everest.datasets import FORMATS, Manifest, index_source, load_data, write_manifest
from everest.datasets.spans import read_span
from everest.errors import ConfigError, ManifestError
from everest.video.sampling import dense_indices

HMDB51, OSCC = "testTrainMulti_7030_splits", "v2/annotations/fho_oscc-pnr_train.json"
KINETICS = "annotations/train.csv"
UCF101_TRAIN = (("v_ApplyEyeMakeup_g08_c01", 1), ("v_YoYo_g08_c01", 2), ("v_YoYo_g09_c01", 2))
FALLS = sorted({record.path for record in load_data("bundled").records})


def put(path: Path, number: int = 0) -> None:
    """Put one of the bundled clips under another name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(FALLS[number], path)


def text(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def ucf101(root: Path) -> None:
    lists = root / "ucfTrainTestlist"
    text(lists / "classInd.txt", "1 ApplyEyeMakeup\r\n2 YoYo\r\n3 ZebraRiding\r\n")
    train = [f"{name.split('_')[1]}/{name}.avi {number}" for name, number in UCF101_TRAIN]
    test = [f"{name.split('_')[1]}/{name}.avi" for name in ("v_ApplyEyeMakeup_g01_c01", "v_YoYo_g01_c01")]
    for fold in (1, 2, 3):
        text(lists / f"trainlist0{fold}.txt", "\r\n".join([*train[: 4 - fold], ""]))
        text(lists / f"testlist0{fold}.txt", "\r\n".join([*test, ""]))
    names = ("ApplyEyeMakeup_g08_c01", "ApplyEyeMakeup_g01_c01", "YoYo_g08_c01", "YoYo_g01_c01", "YoYo_g22_c02")
    for number, name in enumerate(names):
        put(root / "UCF-101" / name.split("_")[0] / f"v_{name}.avi", number)


def hmdb51(root: Path) -> None:
    splits = root / HMDB51
    odd = "#437_How_To_Ride_A_Bike_ride_bike_f_cm_np1_le_med_0"
    other = "lesson;1_ride_bike_u_nm_np1_ba_goo_0"
    text(splits / "ride_bike_test_split1.txt", f"{odd}.avi 1 \n{other}.avi 2 \nx_ride.avi 0 \n")
    text(splits / "wave_test_split1.txt", "a_wave_f_nm_np1_fr_med_26.avi 1 \nb_wave.avi 2 \nc_wave.avi 2 \n")
    for name in (odd, other, "x_ride"):
        put(root / "hmdb51_org" / "ride_bike" / f"{name}.avi")
    for name in ("a_wave_f_nm_np1_fr_med_26", "b_wave", "stranger"):
        put(root / "hmdb51_org" / "wave" / f"{name}.avi", 1)


def kinetics400(root: Path) -> None:
    columns = "youtube_id,time_start,time_end,split\n"
    lists = root / "annotations"
    text(lists / "train.csv", f'label,{columns}abseiling,-3B32lodo2M,59,69,train\n"riding, or not",_a-b,0,10,train\n')
    rows = "abseiling,0347ZoDXyP0,95,105,validate\nabseiling,gone,5,15,validate\n"
    text(lists / "validate.csv", f"label,{columns}{rows}")
    text(lists / "test.csv", f"{columns}secret,7,17,test\n")
    put(root / "train" / "abseiling" / "-3B32lodo2M_000059_000069.mp4")
    put(root / "train" / "riding, or not" / "_a-b_000000_000010.mp4", 1)
    put(root / "val" / "abseiling" / "0347ZoDXyP0.mp4", 2)
    put(root / "test" / "secret_000007_000017.mkv", 3)
    put(root / "test" / "stranger_000001_000011.mp4", 3)


def ssv2(root: Path) -> None:
    names = ("Approaching something with your camera", "Holding something", "Holding something next to something")
    labels = {name: str(number) for number, name in enumerate(names)}
    text(root / "labels" / "labels.json", json.dumps(labels))
    train = [
        {"id": "78687", "label": "holding potato", "template": "Holding [something]", "placeholders": ["potato"]},
        {"id": "42326", "label": "x", "template": "Holding [something] next to [something]"},
    ]
    text(root / "labels" / "train.json", json.dumps(train))
    validation = [{"id": "74225", "label": "x", "template": "Approaching [something] with your camera"}]
    text(root / "labels" / "validation.json", json.dumps(validation))
    text(root / "labels" / "test.json", json.dumps([{"id": "1420"}, {"id": "1421"}]))
    text(root / "labels" / "test-answers.csv", "1420;Holding something\n")
    for number, name in enumerate(("78687", "42326", "74225", "1420", "1421", "999")):
        put(root / "20bn-something-something-v2" / f"{name}.webm", number)


def oscc(root: Path) -> None:
    def clip(uid: str, start: float, end: float, **more: object) -> dict[str, object]:
        return {"unique_id": f"{uid}-x", "video_uid": uid, "parent_start_sec": start, "parent_end_sec": end, **more}

    first, second = "4e3fc1e9-424f-4921-9068-d468c135f347", "a6bd7096-ada1-4fe1-a81b-3b7609a39f31"
    folder = root / "v2" / "annotations"
    train = [clip(first, 0.5, 1.5, state_change=True), clip(first, 1.0, 2.0, state_change=False, parent_pnr_frame=None)]
    text(folder / "fho_oscc-pnr_train.json", json.dumps({"split": "train", "clips": train}))
    val = [clip(second, 0.25, 2.0, state_change=False), clip("gone", 0, 8, state_change=True)]
    text(folder / "fho_oscc-pnr_val.json", json.dumps(val))
    text(folder / "fho_oscc-pnr_test_unannotated.json", json.dumps({"clips": [clip(second, 2.0, 3.0)]}))
    put(root / "v2" / "full_scale" / f"{first}.mp4")
    put(root / "v2" / "full_scale" / f"{second}.mp4", 1)
    put(root / "v2" / "full_scale" / "stranger.mp4", 2)


TREES: dict[str, Callable[[Path], None]] = {
    "ucf101": ucf101,
    "hmdb51": hmdb51,
    "kinetics400": kinetics400,
    "ssv2": ssv2,
    "oscc": oscc,
}
Row = tuple[str, str | None, str | None, float | None]
EXPECTED: dict[str, list[Row]] = {
    "ucf101": [
        ("v_ApplyEyeMakeup_g08_c01", "ApplyEyeMakeup", "train", None),
        ("v_YoYo_g08_c01", "YoYo", "train", None),
        ("v_ApplyEyeMakeup_g01_c01", "ApplyEyeMakeup", "test", None),
        ("v_YoYo_g01_c01", "YoYo", "test", None),
    ],
    "hmdb51": [
        ("#437_How_To_Ride_A_Bike_ride_bike_f_cm_np1_le_med_0", "ride_bike", "train", None),
        ("lesson;1_ride_bike_u_nm_np1_ba_goo_0", "ride_bike", "test", None),
        ("a_wave_f_nm_np1_fr_med_26", "wave", "train", None),
        ("b_wave", "wave", "test", None),
    ],
    "kinetics400": [
        ("-3B32lodo2M_000059_000069", "abseiling", "train", None),
        ("_a-b_000000_000010", "riding, or not", "train", None),
        ("0347ZoDXyP0", "abseiling", "val", None),
        ("secret_000007_000017", None, "test", None),
    ],
    "ssv2": [
        ("78687", "Holding something", "train", None),
        ("42326", "Holding something next to something", "train", None),
        ("74225", "Approaching something with your camera", "val", None),
        ("1420", "Holding something", "test", None),
        ("1421", None, "test", None),
    ],
    "oscc": [
        ("4e3fc1e9-424f-4921-9068-d468c135f347", "state change", "train", 0.5),
        ("4e3fc1e9-424f-4921-9068-d468c135f347", "no state change", "train", 1.0),
        ("a6bd7096-ada1-4fe1-a81b-3b7609a39f31", "no state change", "val", 0.25),
        ("a6bd7096-ada1-4fe1-a81b-3b7609a39f31", None, "test", 2.0),
    ],
}
MISSING = {
    "ucf101": ("train/v_YoYo_g09_c01",),
    "hmdb51": ("test/c_wave",),
    "kinetics400": ("val/gone_000005_000015",),
    "ssv2": (),
    "oscc": ("val/gone",),
}
STRANGERS = {
    "ucf101": "v_YoYo_g22_c02",
    "hmdb51": "stranger",
    "kinetics400": "stranger_000001_000011",
    "ssv2": "999",
    "oscc": "stranger",
}


def rows(manifest: Manifest) -> list[Row]:
    names = manifest.class_names
    return [
        (r.path.stem, None if r.label is None else names[r.label], r.split, r.start_seconds) for r in manifest.records
    ]


@pytest.mark.parametrize("layout", TREES)
def test_official_layouts(layout: str, tmp_path: Path) -> None:
    TREES[layout](tmp_path / "data set")
    index = index_source(tmp_path / "data set", layout)
    assert rows(index.manifest) == EXPECTED[layout]
    assert index.missing == MISSING[layout]
    assert [path.stem for path in index.unannotated] == [STRANGERS[layout]]
    assert index.to_dict()["counts"]["train"]
    told = index.summary()
    assert index.manifest.digest in told
    assert STRANGERS[layout] in told


@pytest.mark.parametrize("layout", TREES)
def test_written_manifests_are_read_back_and_their_clips_decoded(layout: str, tmp_path: Path) -> None:
    TREES[layout](tmp_path / "data set")
    index = index_source(tmp_path / "data set", layout)
    write_manifest(index.manifest, tmp_path / f"{layout}.csv")
    again = load_data(tmp_path / f"{layout}.csv")
    assert again.records == index.manifest.records
    assert again.class_names == index.manifest.class_names
    clip = read_span(again.records[-1], lambda num, fps: [dense_indices(num, 4, 2.0, 0.0)])[0]
    assert clip.shape[:2] == (3, 4)


def test_every_official_split_is_its_own(tmp_path: Path) -> None:
    ucf101(tmp_path)
    first, third = (index_source(tmp_path, "ucf101", fold=fold).manifest for fold in (1, 3))
    assert len(first.split("train")) == 2
    assert len(third.split("train")) == 1
    assert first.class_names == third.class_names == ("ApplyEyeMakeup", "YoYo", "ZebraRiding")
    with pytest.raises(ManifestError, match="fold 4"):
        index_source(tmp_path, "ucf101", fold=4)


def test_annotations_and_videos_may_lie_apart(tmp_path: Path) -> None:
    ucf101(tmp_path / "a")
    (tmp_path / "a" / "UCF-101").rename(tmp_path / "films")
    with pytest.raises(ManifestError, match=r"none of the 5 annotated videos .* --videos"):
        index_source(tmp_path / "a", "ucf101")
    with pytest.raises(ManifestError, match=r"classInd\.txt .* --annotations"):
        index_source(tmp_path / "films", "ucf101")
    index = index_source(tmp_path / "films", "ucf101", annotations=tmp_path / "a")
    assert rows(index.manifest) == EXPECTED["ucf101"]
    assert index_source(tmp_path / "a", "ucf101", videos=tmp_path / "films").manifest.records == index.manifest.records


def test_files_of_one_name_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    kinetics400(tmp_path)
    put(tmp_path / "val" / "abseiling" / "-3B32lodo2M_000059_000069.mp4", 4)
    record = index_source(tmp_path, "kinetics400").manifest.records[0]
    assert record.path == tmp_path / "train" / "abseiling" / "-3B32lodo2M_000059_000069.mp4"
    put(tmp_path / "train" / "abseiling" / "copy" / "-3B32lodo2M_000059_000069.mp4", 4)
    with pytest.raises(ManifestError, match="could both be train/-3B32lodo2M"):
        index_source(tmp_path, "kinetics400")


def test_clips_on_both_sides_are_said(tmp_path: Path) -> None:
    ucf101(tmp_path)
    path = tmp_path / "ucfTrainTestlist" / "testlist01.txt"
    path.write_text(path.read_text() + "YoYo/v_YoYo_g08_c01.avi\n")
    assert "1 clips are in more than one split" in index_source(tmp_path, "ucf101").manifest.note


def test_all_videos_without_labels(tmp_path: Path) -> None:
    for number, name in enumerate(("b/c/2.mp4", "b/10.mp4", "a video.mp4", ".hidden/3.mp4", "b/.x.mp4")):
        put(tmp_path / name, number)
    manifest = index_source(tmp_path, "unlabelled").manifest
    assert [r.path.name for r in manifest.records] == ["a video.mp4", "10.mp4", "2.mp4"]
    assert {r.label for r in manifest.records} == {None}


@pytest.mark.parametrize("layout", TREES)
def test_folders_without_annotations_say_what_was_looked_for(layout: str, tmp_path: Path) -> None:
    put(tmp_path / "a" / "x.mp4")
    with pytest.raises(ManifestError, match="--annotations"):
        index_source(tmp_path, layout)
    with pytest.raises(ManifestError, match="not a folder"):
        index_source(tmp_path / "nowhere", layout)


def test_formats_are_named() -> None:
    assert {"folder", "list", "ucf101", "hmdb51", "kinetics400", "ssv2", "oscc"} <= set(FORMATS)
    with pytest.raises(ConfigError, match="did you mean 'ucf101'"):
        index_source("x", "ucf-101")
    with pytest.raises(ConfigError, match="belong to"):
        index_source("x", "folder", fold=2)


def test_other_editions_of_kinetics_have_the_same_layout(tmp_path: Path) -> None:
    kinetics400(tmp_path)
    assert len(index_source(tmp_path, "kinetics700").manifest) == 4


def test_long_lists_of_classes_are_summed_up(tmp_path: Path) -> None:
    for number in range(14):
        put(tmp_path / f"class {number}" / "x.mp4")
    told = index_source(tmp_path, "folder").summary()
    assert "1 to 1 clips in each of 14 classes" in told


def test_lines_that_repeat_a_clip_are_counted(tmp_path: Path) -> None:
    for number in (1, 2):
        put(tmp_path / f"{number}.mp4", number)
    lines = ["1.mp4,a,train", "2.mp4,b,train", "1.mp4,a,train", "1.mp4,a,test"]
    (tmp_path / "list.csv").write_text("\n".join(["path,label,split", *lines]))
    index = index_source(tmp_path / "list.csv", "list")
    assert [(r.path.name, r.split) for r in index.manifest.records] == [
        ("1.mp4", "train"),
        ("2.mp4", "train"),
        ("1.mp4", "test"),
    ]
    assert "1 clips are listed again in their split" in index.manifest.note
    assert "1 clips are in more than one split" in index.summary()


def test_a_misspelt_split_is_pointed_out(tmp_path: Path) -> None:
    names = ("train", "trian", "test", "extra")
    for number in range(4):
        put(tmp_path / f"{number}.mp4", number)
    listed = tmp_path / "list.csv"
    text(listed, "path,label,split\n" + "".join(f"{i}.mp4,x,{name}\n" for i, name in enumerate(names)))
    index = index_source(listed)
    told = [line for line in index.summary().splitlines() if line.startswith("warning")]
    assert len(told) == len(index.to_dict()["warnings"]) == 2
    assert "'extra'" in told[0]
    assert "did you mean" not in told[0]
    assert "1 clips are in a split 'trian'" in told[1]
    assert "did you mean 'train'?" in told[1]
    text(listed, "path,label,split\n0.mp4,x,monday\n1.mp4,x,friday\n")
    assert "warning" not in index_source(listed).summary()  # own names throughout are meant


def test_names_of_classes_that_are_left_over_are_not_overwritten(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(tmp_path / "videos" / "wave" / "0.mp4")
    text(tmp_path / "out.classes.txt", "another\n")
    assert main(["data", "index", str(tmp_path / "videos"), "--out", str(tmp_path / "out.csv")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "out.classes.txt: exists already, and would name the classes of out.csv; delete it" in line
    assert "overwritten" not in line
    assert not (tmp_path / "out.csv").exists()
