"""The cache gives whole and right bytes or none, keeps its limit, and stops nobody."""

import hashlib
import logging
import os
import random
import shutil
import time
from multiprocessing import get_context
from pathlib import Path

import pytest
from filelock import FileLock

from everest.datasets import clip_cache
from everest.datasets.clip_cache import ClipCache
from everest.errors import ConfigError


def clips(num: int, num_bytes: int = 1000) -> dict[str, bytes]:
    contents = [random.Random(number).randbytes(num_bytes) for number in range(num)]
    return {hashlib.sha256(content).hexdigest(): content for content in contents}


def made(folder: Path, max_bytes: int = 10_000) -> ClipCache:
    cache = ClipCache(folder, max_bytes)
    cache.prepare()
    return cache


def files(folder: Path) -> list[Path]:
    return [path for path in folder.glob("everest-clips/*/*") if path.is_file()]


def num_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in files(folder))


def test_what_was_kept_is_there_for_everybody(tmp_path: Path) -> None:
    first, second = made(tmp_path), made(tmp_path)
    for sha256, content in clips(5).items():
        assert first.get(sha256) is None
        assert first.keep(sha256, content)
        assert second.get(sha256) == content
    assert num_bytes(tmp_path) == 5000 == int((tmp_path / "everest-clips" / "num_bytes").read_text())
    assert all(first.keep(sha256, content) for sha256, content in clips(5).items())
    assert num_bytes(tmp_path) == 5000 == int((tmp_path / "everest-clips" / "num_bytes").read_text())


def test_what_was_used_longest_ago_goes_first(tmp_path: Path) -> None:
    cache, given = made(tmp_path), clips(11)
    names = list(given)
    for age, sha256 in enumerate(names[:10]):
        cache.keep(sha256, given[sha256])
        os.utime(cache._path(sha256), (time.time() - 1000 + age,) * 2)
    assert cache.get(names[0]) == given[names[0]]  # used just now
    assert cache.keep(names[10], given[names[10]])
    assert num_bytes(tmp_path) <= 10_000
    there = [cache.get(sha256) is not None for sha256 in names]
    assert there == [True, False, False, *[True] * 8]  # a little more room is made than one clip needs


def test_what_is_needed_makes_no_room_for_its_like(tmp_path: Path) -> None:
    cache, given = made(tmp_path), clips(15)
    names = list(given)
    for sha256 in names[:4]:
        cache.keep(sha256, given[sha256])
    asked = []

    def needed() -> list[str]:
        asked.append(1)
        return names[4:]

    kept = [cache.keep(sha256, given[sha256], needed) for sha256 in names[4:]]
    assert kept == [*[True] * 10, False]  # the four others are gone, and the eleventh finds no room
    assert [cache.get(sha256) is not None for sha256 in names] == [*[False] * 4, *[True] * 10, False]
    num_asked = len(asked)
    assert not cache.keep(names[14], given[names[14]], needed)
    assert len(asked) == num_asked  # it does not look again at once


def test_a_lower_limit_counts_from_the_next_clip_on(tmp_path: Path) -> None:
    given = clips(8)
    for sha256, content in given.items():
        made(tmp_path).keep(sha256, content)
    (sha256, content) = clips(9).popitem()
    assert made(tmp_path, 3000).keep(sha256, content)
    assert num_bytes(tmp_path) <= 3000
    assert not made(tmp_path, 999).keep(hashlib.sha256(b"x" * 1000).hexdigest(), b"x" * 1000)


@pytest.mark.parametrize("damage", [b"", b"x" * 1000, b"x" * 400])
def test_damaged_files_are_never_served(tmp_path: Path, damage: bytes, caplog: pytest.LogCaptureFixture) -> None:
    cache = made(tmp_path)
    ((sha256, content),) = clips(1).items()
    cache.keep(sha256, content)
    cache._path(sha256).write_bytes(damage)
    assert cache.get(sha256) is None
    assert "is damaged" in caplog.text
    assert files(tmp_path) == []
    assert cache.keep(sha256, content)
    assert cache.get(sha256) == content


def test_parts_of_killed_processes_are_removed_and_counted(tmp_path: Path) -> None:
    cache = made(tmp_path)
    (tmp_path / "everest-clips" / "ab").mkdir()
    old, new = (tmp_path / "everest-clips" / "ab" / f"{name}.part" for name in ("old", "new"))
    old.write_bytes(b"x" * 3000)
    new.write_bytes(b"x" * 2000)
    os.utime(old, (0, 0))
    (tmp_path / "everest-clips" / "num_bytes").write_text("99999999")  # of clips that were never written
    for sha256, content in clips(12).items():
        cache.keep(sha256, content)
    assert not old.exists()
    assert new.exists()
    assert 8000 <= num_bytes(tmp_path) <= 10_000


def test_nothing_else_in_the_folder_is_touched(tmp_path: Path) -> None:
    (tmp_path / "mine").write_bytes(b"x" * 20_000)
    (tmp_path / "ab").mkdir()
    (tmp_path / "ab" / "mine").write_text("x")
    for sha256, content in clips(20).items():
        made(tmp_path).keep(sha256, content)
    assert (tmp_path / "mine").stat().st_size == 20_000
    assert (tmp_path / "ab" / "mine").exists()


def test_a_count_that_is_cut_off_is_made_anew(tmp_path: Path) -> None:
    cache, given = made(tmp_path), clips(3)
    for sha256, content in given.items():
        cache.keep(sha256, content)
        (tmp_path / "everest-clips" / "num_bytes").write_text("")
    (sha256, content) = clips(4).popitem()
    cache.keep(sha256, content)
    assert (tmp_path / "everest-clips" / "num_bytes").read_text() == "4000"


def fill(folder: Path, seed: int) -> None:
    cache, given = ClipCache(folder, 30_000), list(clips(60).items())
    random.Random(seed).shuffle(given)
    cache.prepare()
    for _ in range(3):
        for sha256, content in given:
            found = cache.get(sha256)
            if found not in (None, content):
                os._exit(1)
            if found is None:
                cache.keep(sha256, content)
                with cache._lock():  # under it nothing is deleted
                    held = cache._count()
                if held > 30_000:
                    os._exit(2)
    os._exit(0)


def test_processes_that_fill_it_at_once_keep_limit_and_content(tmp_path: Path) -> None:
    children = [get_context("fork").Process(target=fill, args=(tmp_path, seed)) for seed in range(3)]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
    assert [child.exitcode for child in children] == [0, 0, 0]
    given = clips(60)
    assert all(path.read_bytes() == given[path.name] for path in files(tmp_path))
    assert 20_000 < num_bytes(tmp_path) <= 30_000


def test_a_folder_that_cannot_be_used_is_said_before_the_run(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"data.remote.cache_dir: .*file cannot be used: Not a directory"):
        ClipCache(tmp_path / "file", 1000).prepare()


def test_what_goes_wrong_later_is_said_once_and_stops_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(clip_cache, "_REST_SECONDS", (0.0, 0.0))
    cache, given = made(tmp_path), clips(3)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", full)
        assert not any(cache.keep(sha256, content) for sha256, content in given.items())
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "No space left on device; clips are fetched instead" in caplog.text
    assert files(tmp_path) == []
    assert (tmp_path / "everest-clips" / "num_bytes").read_text() == "0"
    assert all(cache.keep(sha256, content) for sha256, content in given.items())


def test_it_may_be_emptied_at_any_time(tmp_path: Path) -> None:
    cache, given = made(tmp_path), clips(3)
    for sha256, content in given.items():
        shutil.rmtree(tmp_path / "everest-clips")
        assert cache.keep(sha256, content)
        assert cache.get(sha256) == content
        assert num_bytes(tmp_path) == 1000 == int((tmp_path / "everest-clips" / "num_bytes").read_text())


def test_a_disk_that_is_gone_is_said_once_and_not_made_up(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache, given = made(tmp_path / "disk"), clips(3)
    shutil.rmtree(tmp_path / "disk")
    assert not any(cache.keep(sha256, content) for sha256, content in given.items())
    assert all(cache.get(sha256) is None for sha256 in given)
    assert caplog.text.count("No such file or directory; clips are fetched instead") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_lock_that_is_held_is_not_waited_for_for_ever(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clip_cache, "_LOCK_SECONDS", 0.1)
    cache = made(tmp_path)
    with FileLock(tmp_path / "everest-clips" / ".lock"):
        ((sha256, content),) = clips(1).items()
        assert not cache.keep(sha256, content)
    assert "somebody holds its lock" in caplog.text
