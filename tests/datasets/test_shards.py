import hashlib
import io
import json
import tarfile
from pathlib import Path

import pytest

from everest.cli import main
from everest.datasets import Manifest, index_source, load_data, pack_manifest, write_manifest
from everest.datasets.shards import index_shards
from everest.errors import ManifestError
from everest.video import VideoReader

BUNDLED = load_data("bundled")
VIDEO = BUNDLED.records[0].path.read_bytes()


def write_tar(path: Path, members: dict[str, bytes]) -> None:
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


def test_labels_come_from_json_or_cls(tmp_path: Path) -> None:
    write_tar(
        tmp_path / "a-000.tar", {"x/1.mp4": VIDEO, "x/1.json": json.dumps({"class": "run", "split": "val"}).encode()}
    )
    write_tar(tmp_path / "a-001.tar", {"2.json": b'{"class": "jump"}', "2.mp4": VIDEO, "readme.txt": b"x"})
    manifest = index_shards(tmp_path)
    assert manifest.class_names == ("jump", "run")
    assert [(r.path.name, r.label, r.split) for r in manifest.records] == [("1.mp4", 1, "val"), ("2.mp4", 0, None)]
    with VideoReader(manifest.records[1].source) as reader:
        assert reader.read([0]).num_frames == 1
    write_tar(tmp_path / "n.tar", {"1.webm": VIDEO, "1.cls": b"4\n", "2.webm": VIDEO, "2.cls": b"0"})
    numbered = index_shards(tmp_path / "n.tar")
    assert numbered.class_names == ("0", "1", "2", "3", "4")
    assert [r.label for r in numbered.records] == [4, 0]


def test_shards_without_labels_are_for_pre_training(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", {"1.mp4": VIDEO, "1.json": b"no json", "2.mp4": VIDEO, "3.mp4": b""})
    manifest = index_source(tmp_path, "shards").manifest
    assert [r.label for r in manifest.records] == [None, None]
    write_manifest(manifest, tmp_path / "list.csv")
    assert load_data(tmp_path / "list.csv").records == manifest.records


def test_our_own_shards_are_read_as_others_are(tmp_path: Path) -> None:
    few = Manifest(BUNDLED.records[:3], BUNDLED.class_names, BUNDLED.source)
    packed = pack_manifest(few, tmp_path / "out", num_workers=0).manifest
    found = {r.path.name: r for r in index_shards(tmp_path / "out").records}
    for record in packed.records:
        other = found[record.path.name]
        assert other.member == record.member
        assert (other.split, other.label) == (record.split, record.label)


@pytest.mark.parametrize("content", [b"", b"no tar" * 300])
def test_what_is_no_shard_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(content)
    for source in (tmp_path, tmp_path / "x.tar", tmp_path / "nowhere.tar"):
        with pytest.raises(ManifestError) as raised:
            index_shards(source)
        assert "\n" not in str(raised.value)


def test_videos_with_and_without_class_are_not_mixed(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", {"1.mp4": VIDEO, "1.cls": b"0", "2.mp4": VIDEO})
    with pytest.raises(ManifestError, match=r"such as .*2\.mp4"):
        index_shards(tmp_path)


def test_hashes_are_noted_where_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_tar(tmp_path / "a.tar", {"1.mp4": VIDEO, "2.mp4": VIDEO[:-1]})
    index = ["data", "index", str(tmp_path), "--format", "shards"]
    assert main([*index, "--out", str(tmp_path / "plain.csv")]) == 0
    assert main([*index, "--out", str(tmp_path / "hashed.csv"), "--hashes"]) == 0
    plain, hashed = (load_data(tmp_path / f"{name}.csv") for name in ("plain", "hashed"))
    assert plain.records == hashed.records
    assert plain.digest == hashed.digest
    assert [r.member.sha256 for r in plain.records if r.member is not None] == ["", ""]
    expected = [hashlib.sha256(content).hexdigest() for content in (VIDEO, VIDEO[:-1])]
    assert [r.member.sha256 for r in hashed.records if r.member is not None] == expected
    capsys.readouterr()
    assert main(["data", "index", "bundled", "--out", str(tmp_path / "x.csv"), "--hashes"]) == 2
    assert "none of these lies in one" in capsys.readouterr().err
