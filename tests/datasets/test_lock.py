"""One holder at a time, and none that is dead."""

import errno
import fcntl
import logging
import multiprocessing
import os
import signal
import time
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from everest.datasets.lock import Lock
from everest.errors import DataError

FORK = multiprocessing.get_context("fork")


def lock_at(path: Path) -> Lock:
    return Lock(path, "{owner} has {it}")


def hold(path: Path, connection: Connection) -> None:
    """Hold a place until told to end; a child of this process lives on."""
    with lock_at(path):
        child = FORK.Process(target=time.sleep, args=(60,))
        child.start()
        connection.send(child.pid)
        connection.recv()
        child.kill()


@pytest.fixture
def held(tmp_path: Path) -> tuple[Path, multiprocessing.Process, Connection, int]:
    path = tmp_path / "lock"
    ours, theirs = FORK.Pipe()
    process = FORK.Process(target=hold, args=(path, theirs))
    process.start()
    return path, process, ours, ours.recv()


Held = tuple[Path, multiprocessing.Process, Connection, int]


def test_another_process_is_refused_and_named(held: Held) -> None:
    path, process, connection, _ = held
    before = path.read_text()
    with pytest.raises(DataError, match=f"process {process.pid} on .* has {{it}}"), lock_at(path):
        pass
    assert path.read_text() == before
    connection.send(None)
    process.join()
    assert not path.exists()
    with lock_at(path):
        assert f"process {os.getpid()} on" in path.read_text()
    assert not path.exists()


def test_a_killed_holder_blocks_nobody_even_if_its_children_live(held: Held) -> None:
    path, process, _, child = held
    process.kill()
    process.join()
    assert path.exists()
    with lock_at(path):
        os.kill(child, 0)  # it is alive
    os.kill(child, signal.SIGKILL)
    assert not path.exists()


def test_the_same_process_is_refused_too(tmp_path: Path) -> None:
    with lock_at(tmp_path / "lock"):
        with pytest.raises(DataError, match="this one"), lock_at(tmp_path / "lock"):
            pass
        assert (tmp_path / "lock").exists()
    with lock_at(tmp_path / "lock"), lock_at(tmp_path / "other"):
        pass


def test_a_file_that_its_holder_removed_is_no_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, calls = tmp_path / "lock", []

    def lockf(file: int, how: int) -> None:
        calls.append(how)
        if len(calls) == 1:  # between opening and locking, the holder has ended and another one has come
            path.unlink()
            path.write_text("new")

    monkeypatch.setattr(fcntl, "lockf", lockf)
    with lock_at(path):
        assert len(calls) == 2
        assert "process" in path.read_text()


def test_without_locks_the_work_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def lockf(_: int, __: int) -> None:
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr(fcntl, "lockf", lockf)
    with caplog.at_level(logging.WARNING, "everest"), lock_at(tmp_path / "lock"):
        assert "knows no locks" in caplog.text
