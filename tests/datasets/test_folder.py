from pathlib import Path

import pytest

from everest.datasets import Manifest, index_folder, read_manifest, write_manifest
from everest.errors import ManifestError


def made(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def rows(manifest: Manifest) -> list[tuple[str, str | None, str | None]]:
    return [
        (
            r.path.relative_to(manifest.root).as_posix(),
            None if r.label is None else manifest.class_names[r.label],
            r.split,
        )
        for r in manifest.records
    ]


def test_class_folders(tmp_path: Path) -> None:
    made(tmp_path, "run/a10.mp4", "run/a9.MP4", "sit/deep/er/b.AVI", "sit/notes.txt", ".git/x.mp4", "run/._a9.mp4")
    assert rows(index_folder(tmp_path)) == [
        ("run/a9.MP4", "run", None),
        ("run/a10.mp4", "run", None),
        ("sit/deep/er/b.AVI", "sit", None),
    ]


def test_split_folders(tmp_path: Path) -> None:
    made(tmp_path, "training/run/a.mp4", "Validation/sit/b.mp4", "test/run/c.webm", "docs/readme.md")
    manifest = index_folder(tmp_path)
    assert rows(manifest) == [
        ("Validation/sit/b.mp4", "sit", "val"),
        ("test/run/c.webm", "run", "test"),
        ("training/run/a.mp4", "run", "train"),
    ]
    assert manifest.class_names == ("run", "sit")


def test_flat_folders_have_no_labels(tmp_path: Path) -> None:
    assert rows(index_folder(made(tmp_path / "flat", "b.mov", "a.mkv"))) == [
        ("a.mkv", None, None),
        ("b.mov", None, None),
    ]
    split = index_folder(made(tmp_path / "split", "train/a.mp4", "test/b.mp4"))
    assert rows(split) == [("test/b.mp4", None, "test"), ("train/a.mp4", None, "train")]
    assert not split.labelled


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    made(tmp_path, "train/a.mp4", "car/b.mp4")
    assert rows(index_folder(tmp_path)) == [("car/b.mp4", "car", None), ("train/a.mp4", "train", None)]


def test_unclear_layouts_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="train are splits but car are not"):
        index_folder(made(tmp_path / "mixed", "train/run/a.mp4", "car/b.mp4"))
    with pytest.raises(ManifestError, match=r"1 of 3 videos lie beside the class folders, such as b\.mp4"):
        index_folder(made(tmp_path / "loose", "run/a.mp4", "run/c.mp4", "b.mp4"))


def test_an_empty_folder_says_what_is_accepted(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"no videos; expected class/video\.mp4.* avi .*mp4"):
        index_folder(made(tmp_path, "run/a.txt"))
    with pytest.raises(ManifestError, match="not a folder"):
        index_folder(tmp_path / "none")


def test_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    made(tmp_path, "store/a.mp4", "data/sit/b.mp4")
    (tmp_path / "data" / "run").symlink_to(tmp_path / "store", target_is_directory=True)
    (tmp_path / "data" / "sit" / "loop").symlink_to(tmp_path / "data", target_is_directory=True)
    assert rows(index_folder(tmp_path / "data")) == [("run/a.mp4", "run", None), ("sit/b.mp4", "sit", None)]


def test_an_index_reads_back(tmp_path: Path) -> None:
    made(tmp_path, "train/arm wrestling, two/a's.mp4", "train/10/x.mp4", "test/9/y.mp4")
    manifest = index_folder(tmp_path)
    write_manifest(manifest, tmp_path / "manifest.csv")
    again = read_manifest(tmp_path / "manifest.csv")
    assert again.records == manifest.records
    assert again.class_names == manifest.class_names == ("9", "10", "arm wrestling, two")
    assert again.digest == manifest.digest
