"""What is written goes to the file itself, or to a new one, and never to what a link leads to."""

import errno
import os
from pathlib import Path

import pytest

from everest.links import append_text, open_itself, open_new, write_new


@pytest.mark.parametrize("is_there", [True, False])
def test_a_link_is_named_and_not_followed(is_there: bool, tmp_path: Path) -> None:
    link, mine = tmp_path / "link", tmp_path / "mine"
    if is_there:
        mine.write_text("my notes")
    link.symlink_to(mine)
    for flags in (os.O_RDWR | os.O_CREAT, os.O_WRONLY | os.O_CREAT | os.O_TRUNC):
        with pytest.raises(OSError, match=r"link is a link, through which nothing is written") as raised:
            open_itself(link, flags)
        assert raised.value.errno == errno.ELOOP
    with pytest.raises(OSError, match="is a link"):
        append_text(link)
    assert mine.exists() == is_there
    assert not is_there or mine.read_text() == "my notes"
    with pytest.raises(FileNotFoundError):
        append_text(tmp_path / "none" / "file")


def test_a_new_file_takes_the_place_of_a_link(tmp_path: Path) -> None:
    link, mine = tmp_path / "link", tmp_path / "mine"
    mine.write_text("my notes")
    for target in (mine, tmp_path / "nowhere", tmp_path):
        link.unlink(missing_ok=True)
        link.symlink_to(target)
        write_new(link, "später")
        assert not link.is_symlink()
        assert link.read_bytes() == "später".encode()
    os.link(mine, tmp_path / "other name")
    with open_new(tmp_path / "other name") as file:
        file.write(b"new")
    assert mine.read_text() == "my notes"
    assert not (tmp_path / "nowhere").exists()


def test_lines_are_added(tmp_path: Path) -> None:
    for line in ("one\n", "\udcff\r\n"):
        with append_text(tmp_path / "log") as log:
            log.write(line)
    assert (tmp_path / "log").read_bytes() == b"one\n\\udcff\r\n"
    assert (tmp_path / "log").stat().st_mode & 0o111 == 0
