"""Files appear whole and under their names only, and nothing is replaced by mistake."""

from pathlib import Path

import pytest

from everest.errors import ConfigError, RunError
from everest.inference.exporting.places import check_place, publish, staging


def test_what_is_there_stays(tmp_path: Path) -> None:
    out = tmp_path / "a.onnx"
    check_place(out, (".onnx",), overwrite=False)
    out.write_bytes(b"mine")
    with pytest.raises(RunError, match=r"a\.onnx exists already: name a new file, or add --overwrite"):
        check_place(out, (".onnx",), overwrite=False)
    check_place(out, (".onnx",), overwrite=True)
    with pytest.raises(RunError, match=r"a\.onnx is a file: name another place"):
        check_place(out, (), overwrite=True)


def test_a_link_to_nowhere_is_something(tmp_path: Path) -> None:
    out = tmp_path / "a.onnx"
    out.symlink_to(tmp_path / "nothing")
    with pytest.raises(RunError, match="exists already"):
        check_place(out, (".onnx",), overwrite=False)


def test_folders(tmp_path: Path) -> None:
    folder = tmp_path / "hf"
    folder.mkdir()
    check_place(folder, (), overwrite=False)
    with pytest.raises(RunError, match="name a new file"):
        check_place(tmp_path / "hf", ("",), overwrite=False)
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(RunError, match="name a new folder"):
        check_place(folder, (), overwrite=False)
    check_place(folder, (), overwrite=True)


def test_names_say_what_files_are(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"the name of such a file ends in \.pt2"):
        check_place(tmp_path / "a.onnx", (".pt2",), overwrite=False)


def test_what_was_not_published_is_gone(tmp_path: Path) -> None:
    out = tmp_path / "new" / "a.onnx"
    with staging(out) as folder:
        (folder / "a.onnx").write_bytes(b"half")
    assert list((tmp_path / "new").iterdir()) == []
    with staging(out) as folder:
        (folder / "a.onnx").write_bytes(b"whole")
        (folder / "a.onnx.data").write_bytes(b"more")
        (folder / "rest").write_bytes(b"not wanted")
        assert publish(folder, ("a.onnx", "a.onnx.data"), out.parent) == 9
    assert sorted(path.name for path in out.parent.iterdir()) == ["a.onnx", "a.onnx.data"]
    assert out.read_bytes() == b"whole"


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"a\.onnx could not be written"), staging(tmp_path / "file" / "a.onnx"):
        pass


def test_a_link_is_replaced_and_what_it_leads_to_stays(tmp_path: Path) -> None:
    (tmp_path / "theirs").write_bytes(b"theirs")
    out = tmp_path / "a.onnx"
    out.symlink_to(tmp_path / "theirs")
    with staging(out) as folder:
        (folder / "a.onnx").write_bytes(b"mine")
        publish(folder, ("a.onnx",), tmp_path)
    assert (tmp_path / "theirs").read_bytes() == b"theirs"
    assert out.read_bytes() == b"mine"
    assert not out.is_symlink()
