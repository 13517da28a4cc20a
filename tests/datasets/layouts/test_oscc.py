import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from everest.datasets import index_source
from everest.errors import ManifestError

FIRST, SECOND = "4e3fc1e9-424f-4921-9068-d468c135f347", "a6bd7096-ada1-4fe1-a81b-3b7609a39f31"
THIRD, PIECE = "7c0c0057-3bbc-40ef-a91e-4d6e1a637642", "857978a5-cab3-4449-928b-6da304c5f7dc"
FOLDER = "v2/annotations"


def clip(uid: str, start: float, end: float, **more: Any) -> dict[str, Any]:
    return {
        "clip_id": "1042",
        "unique_id": f"{uid}-x",
        "video_uid": uid,
        "parent_start_sec": start,
        "parent_end_sec": end,
        "parent_start_frame": int(30 * start),
        **more,
    }


@pytest.fixture
def tree(root: Path, put: Callable[..., None], text: Callable[[str, str], Path]) -> Path:
    train = [
        clip(FIRST, 0.5, 1.5, state_change=True, clip_uid=None, parent_pnr_frame=27),
        clip(FIRST, -0.01, 2.0, state_change=False, parent_pnr_frame=None),
    ]
    text(f"{FOLDER}/fho_oscc-pnr_train.json", json.dumps({"version": "v2", "split": "train", "clips": train}))
    piece = {"clip_uid": PIECE, "clip_start_sec": 0.25, "clip_end_sec": 1.25}
    val = [clip(THIRD, 1497.2, 1504.4, state_change=True, **piece), clip("gone", 0, 8, state_change=True)]
    text(f"{FOLDER}/fho_oscc-pnr_val.json", json.dumps(val))
    text(f"{FOLDER}/fho_oscc-pnr_test_unannotated.json", json.dumps({"clips": [clip(SECOND, 1.0, 2.0)]}))
    put(f"v2/full_scale/{FIRST}.mp4", f"v2/full_scale/{SECOND}.mp4", "v2/full_scale/stranger.mp4")
    put(f"v2/clips/{PIECE}.mp4")
    return root


def test_clips_are_spans_of_long_videos(tree: Path, rows: Callable, put: Callable[..., None]) -> None:
    index = index_source(tree, "oscc")
    assert rows(index) == [
        (f"{FIRST}.mp4", "state change", "train", 0.5, 1.5),
        (f"{FIRST}.mp4", "no state change", "train", 0.0, 2.0),
        (f"{PIECE}.mp4", "state change", "val", 0.25, 1.25),  # the whole video is not there, the piece is
        (f"{SECOND}.mp4", None, "test", 1.0, 2.0),
    ]
    assert index.manifest.class_names == ("no state change", "state change")
    assert index.missing == ("val/gone",)
    assert [path.name for path in index.unannotated] == ["stranger.mp4"]
    put(f"v2/full_scale/{THIRD}.mp4")
    assert index_source(tree, "oscc").manifest.records[2].start_seconds == 1497.2


def test_two_sizes_of_a_video_are_not_chosen_between(tree: Path, put: Callable[..., None]) -> None:
    put(f"v2/video_540ss/{FIRST}.mp4", f"v2/video_540ss/{SECOND}.mp4")
    with pytest.raises(ManifestError, match=f"{FIRST}.mp4 could both be train/{FIRST}; .*{SECOND}.* with --videos"):
        index_source(tree, "oscc")
    index = index_source(tree, "oscc", videos=tree / "v2" / "video_540ss")
    assert {r.path.parent.name for r in index.manifest.records} == {"video_540ss"}


def test_one_span_with_two_answers_is_left_out_and_said(tree: Path, text: Callable[[str, str], Path]) -> None:
    clips = [clip(FIRST, 0, 1, state_change=True), clip(FIRST, 0, 1, state_change=False)]
    clips += [clip(FIRST, 1, 2, state_change=False), clip(FIRST, 1, 2, state_change=False)]
    text(f"{FOLDER}/fho_oscc-pnr_train.json", json.dumps({"clips": clips}))
    index = index_source(tree, "oscc")
    assert [r.start_seconds for r in index.manifest.split("train").records] == [1.0]
    assert index.conflicting == (f"v2/full_scale/{FIRST}.mp4 at 0 s",)
    assert "1 clips are listed again in their split" in index.manifest.note


def test_a_span_that_is_in_the_test_set_without_its_label_is_no_contradiction(
    tree: Path, text: Callable[[str, str], Path]
) -> None:
    text(f"{FOLDER}/fho_oscc-pnr_test_unannotated.json", json.dumps([clip(FIRST, 0.5, 1.5), clip(SECOND, 1.0, 2.0)]))
    index = index_source(tree, "oscc")
    assert index.conflicting == ()
    assert len(index.manifest) == 5
    assert "1 clips are in more than one split" in index.manifest.note


def test_splits_without_annotations_are_said(tree: Path) -> None:
    for name in ("train", "test_unannotated"):
        (tree / FOLDER / f"fho_oscc-pnr_{name}.json").unlink()
    index = index_source(tree, "oscc")
    assert index.manifest.splits == ("val",)
    assert "no fho_oscc-pnr_train.json: nothing in the split train" in index.manifest.note
    (tree / FOLDER / "fho_oscc-pnr_val.json").unlink()
    with pytest.raises(ManifestError, match=r"no file fho_oscc-pnr_train\.json or .* --annotations"):
        index_source(tree, "oscc")


@pytest.mark.parametrize(
    ("clips", "message"),
    [
        ({"clips": 3}, "a list of clips is expected, not int"),
        ({"videos": []}, "a list of clips is expected, not NoneType"),
        (
            [{"video_uid": "a", "parent_start_sec": "x", "parent_end_sec": 8}],
            r"clip 1: needs video_uid \(name\), parent",
        ),
        ([clip("a", 0, float("nan"), state_change=True)], "clip 1: needs .*parent_end_sec"),
        ([clip("a", 0, 10**400, state_change=True)], "clip 1: needs .*parent_end_sec"),
        ([clip("a", 3, 2, state_change=True)], "clip 1: ends at 2 s, before it begins at 3 s"),
        ([clip("a", 0, 8, state_change=True), clip("a", 3, 5)], "clip 2: state_change must be true or false, not None"),
        ([clip("a", 0, 8, state_change="yes")], "must be true or false, not 'yes'"),
        ([7] * 12, "clip 5: needs .*; and 7 more"),
        ([], "name no clip"),
    ],
)
def test_annotations_that_cannot_be_read_are_named(tree: Path, clips: Any, message: str) -> None:
    for path in sorted((tree / FOLDER).iterdir()):
        path.unlink()
    (tree / FOLDER / "fho_oscc-pnr_train.json").write_text(json.dumps(clips))
    with pytest.raises(ManifestError, match=message) as raised:
        index_source(tree, "oscc")
    assert "\n" not in str(raised.value)
