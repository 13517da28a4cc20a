"""Names out of lists, shards and summaries lead nowhere but where the user said."""

import io
import json
import os
import shutil
import tarfile
from pathlib import Path

import pytest

from everest.cli import main
from everest.datasets import (
    PackSettings,
    compute_flow,
    index_source,
    load_data,
    pack_manifest,
    read_manifest,
    verify_shards,
    write_manifest,
)
from everest.errors import EverestError, ManifestError, VideoError
from everest.models.weights.files import read_raw
from everest.video import ShardMember, VideoReader

CLIP = sorted(record.path for record in load_data("bundled").records)[0]
SETTINGS = PackSettings(short_side=32)
NAMES = (
    *("../outside.mp4", "../../outside.mp4", "/absolute.mp4", "//host/share.mp4", "sub/../../x.mp4", "./a.mp4"),
    *("new\nline.mp4", "tab\t.mp4", "-rf.mp4", "--help.mp4", "~/home.mp4", "$HOME.mp4", "a;b.mp4", "nul\0.mp4"),
    *("C:\\windows.mp4", "..\\..\\x.mp4", "con.mp4", "\x1b[31mred.mp4", "x" * 250 + ".mp4", "é\u0301\u202e.mp4"),
)


def everything_in(folder: Path) -> set[str]:
    """All files and folders, links not followed."""
    found = set()
    for place, folders, names in os.walk(folder):
        found |= {str((Path(place) / name).relative_to(folder)) for name in (*folders, *names)}
    return found


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in a folder in a folder, to leave which would be noticed."""
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    monkeypatch.chdir(inner)
    return inner


def test_what_is_packed_stays_below_its_folder(here: Path, tmp_path: Path) -> None:
    """Clips may come from anywhere that the list says; what is written goes by numbers."""
    videos = here / "videos"
    for name in ("here.mp4", "../outside.mp4", "-rf.mp4", "new\nline.mp4"):
        target = videos / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(CLIP, target)
    (videos / "link.mp4").symlink_to(CLIP)
    rows = ["here.mp4,a", "../outside.mp4,../../b", f"{CLIP},/etc", '"new\nline.mp4",c', "link.mp4,d", "-rf.mp4,e"]
    (videos / "list.csv").write_text("\n".join(["path,label", *rows]) + "\n")
    before = everything_in(tmp_path)
    report = pack_manifest(load_data(videos / "list.csv"), here / "packed", SETTINGS, num_workers=0)
    assert report.failures == ()
    assert sorted(report.outside) == sorted(map(str, (here / "outside.mp4", CLIP, videos / "link.mp4")))
    assert "3 files are not below the folder of the list: " in report.summary()
    assert "outside.mp4" not in (here / "packed" / "pack.json").read_text()  # which may be published
    written = everything_in(tmp_path) - before
    names = {"000000.tar", "000000.json", "manifest.csv", "pack.json"}
    assert written == {"a/b/packed", *(f"a/b/packed/{name}" for name in names)}
    with tarfile.open(here / "packed" / "000000.tar") as tar:
        assert sorted(tar.getnames()) == sorted(f"{n:08d}.{ending}" for n in range(6) for ending in ("json", "mp4"))
        assert all(member.isreg() for member in tar)
    assert verify_shards(here / "packed").problems == ()
    assert len(load_data(here / "packed").class_names) == 6


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_members_of_shards_are_never_unpacked(name: str, here: Path, tmp_path: Path) -> None:
    content = CLIP.read_bytes()
    with tarfile.open(here / "shard.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        for member, data in ((name, content), (f"{name[:-4]}.json", b'{"label": "../../x", "split": "/train"}')):
            info = tarfile.TarInfo(member)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.DIRTYPE):
            info = tarfile.TarInfo(f"{kind.decode()}/{name}")
            info.type, info.linkname = kind, "/etc/passwd"
            tar.addfile(info)
    before = everything_in(tmp_path)
    if "\0" in name or name.startswith("..\\"):  # which tar cuts off, or which has no name before its first dot
        with pytest.raises(ManifestError, match="no videos"):
            index_source(here / "shard.tar", "shards")
        return
    index = index_source(here / "shard.tar", "shards")
    (record,) = index.manifest.records
    with VideoReader(record.source) as reader:
        assert reader.info.num_frames > 1
    assert everything_in(tmp_path) == before
    write_manifest(index.manifest, here / "list.csv")
    (again,) = read_manifest(here / "list.csv").records
    assert again.source.offset == record.source.offset
    pack_manifest(read_manifest(here / "list.csv"), here / "packed", SETTINGS, num_workers=0)
    new = {path for path in everything_in(tmp_path) - before if not path.startswith("a/b/packed/")}
    assert new == {"a/b/list.csv", "a/b/packed"} | ({"a/b/list.classes.txt"} & new)


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_flow_goes_by_hashes(name: str, here: Path, tmp_path: Path) -> None:
    content = CLIP.read_bytes()
    (here / "shard").write_bytes(content)
    quoted = name.replace('"', '""')
    (here / "list.csv").write_text(
        f'path,shard,offset,num_bytes,start,end\n"{quoted}",shard,0,{len(content)},0,0.2\n', newline=""
    )
    before = everything_in(tmp_path)
    compute_flow(load_data(here / "list.csv"), here / "flow", num_workers=0)
    assert all(path.startswith("a/b/flow") for path in everything_in(tmp_path) - before)


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "sub/x.tar", "..", "", "fifo", None, 3])
def test_a_summary_of_shards_names_files_of_its_folder_only(name: object, here: Path) -> None:
    (here / "list.csv").write_text(f"path,label\n{CLIP},a\n")
    pack_manifest(load_data(here / "list.csv"), here / "packed", SETTINGS, num_workers=0)
    (here / "secret").write_text("x")
    os.mkfifo(here / "packed" / "fifo")  # to read it would wait for ever
    summary = json.loads((here / "packed" / "pack.json").read_text())
    summary["shards"].append({"name": name, "sha256": "0", "bytes": 1})
    (here / "packed" / "pack.json").write_text(json.dumps(summary))
    (problem,) = verify_shards(here / "packed").problems
    assert "no name of a shard" in problem


@pytest.mark.parametrize("shards", [None, 3, [3], [{}], [None], {"name": "000000.tar"}])
def test_a_summary_that_names_no_shards_is_no_summary(shards: object, here: Path) -> None:
    (here / "list.csv").write_text(f"path,label\n{CLIP},a\n")
    pack_manifest(load_data(here / "list.csv"), here / "packed", SETTINGS, num_workers=0)
    summary = json.loads((here / "packed" / "pack.json").read_text())
    (here / "packed" / "pack.json").write_text(json.dumps(summary | {"shards": shards}))
    assert main(["data", "verify", str(here / "packed")]) in {1, 2}


@pytest.mark.parametrize(("offset", "num_bytes"), [(0, 10**18), (10**30, 10), (10**18, 10**18), (5, 10**30)])
def test_a_list_cannot_ask_for_more_than_there_is(offset: int, num_bytes: int) -> None:
    with pytest.raises(VideoError, match="the shard ends early"):
        VideoReader(ShardMember(str(CLIP), "x.mp4", offset, num_bytes))


@pytest.mark.parametrize("name", ["../weights.bin", "/etc/passwd", "sub/x.bin", ".."])
def test_an_index_of_weights_names_files_of_its_folder_only(name: str, here: Path) -> None:
    (here / "config.json").write_text('{"model_type": "videomae"}')
    (here / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": name}}))
    with pytest.raises(EverestError, match="does not say in which files of its folder"):
        read_raw(here)


def test_names_that_hold_a_zero_are_no_files(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "list.csv").write_bytes(b"path,label\na\0b.mp4,x\n")
    code = main(["data", "check", str(here / "list.csv"), "--workers=0"])
    out, err = capsys.readouterr()
    assert code in {1, 2}
    assert "Traceback" not in out + err
    assert main(["data", "pack", str(here / "list.csv"), str(here / "packed"), "--workers=0"]) in {1, 2}
    assert main(["predict", str(here / "none"), "a\0b.mp4"]) == 2
