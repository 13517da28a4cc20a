"""Signals become a question, once, and only where somebody listens."""

import json
import os
import signal
import threading
from pathlib import Path

import pytest

from everest.errors import RunInterruptedError
from everest.training import stopping
from everest.training.rundir import RunFolder
from everest.training.stopping import (
    SIGNALS,
    asked_to_stop,
    interruption,
    listening,
    patiently,
    stop_if_asked,
    stoppable,
)


def send(name: str) -> None:
    os.kill(os.getpid(), getattr(signal, name))


def handlers() -> list[object]:
    return [signal.getsignal(getattr(signal, name)) for name in SIGNALS]


@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 75), ("SIGUSR1", 75), ("SIGINT", 130)])
def test_a_signal_waits_until_it_is_asked_for(name: str, code: int, capfd: pytest.CaptureFixture[str]) -> None:
    before = handlers()
    with listening(), patiently():
        assert asked_to_stop() == ""
        stop_if_asked()
        send(name)
        assert asked_to_stop() == name
        with pytest.raises(RunInterruptedError, match="the same command goes on from there") as caught:
            stop_if_asked()
    assert (caught.value.exit_code, caught.value.is_told) == (code, False)
    assert ("Ctrl-C again ends at once" in capfd.readouterr().err) is (name == "SIGINT")
    assert asked_to_stop() == ""
    assert handlers() == before


def test_where_nothing_waits_a_signal_ends_it_at_once_and_only_once() -> None:
    with listening():
        with pytest.raises(RunInterruptedError, match="stopped by SIGTERM"):
            send("SIGTERM")
        send("SIGTERM")  # of a launcher that ends what is ending
        send("SIGUSR1")
    with listening(), pytest.raises(KeyboardInterrupt):
        send("SIGINT")


def test_an_error_is_not_overtaken_by_a_signal() -> None:
    def fail() -> None:
        try:
            with patiently():
                raise ValueError("what went wrong")
        finally:
            send("SIGTERM")

    with listening(), pytest.raises(ValueError, match="what went wrong"):
        fail()


def test_a_second_ctrl_c_ends_at_once_unless_it_is_the_first_one_handed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    with listening(), patiently():
        send("SIGINT")
        send("SIGINT")
        monkeypatch.setattr(stopping, "DEAF_SECONDS", 0.0)
        send("SIGTERM")
        with pytest.raises(KeyboardInterrupt):
            send("SIGINT")


def test_blocks_within_blocks_listen_together() -> None:
    with listening() as outer, patiently():
        with listening() as inner:
            assert inner is outer
            send("SIGUSR1")
        assert asked_to_stop() == "SIGUSR1"
        with listening(()):
            assert asked_to_stop() == "SIGUSR1"


def test_with_no_signals_nothing_is_heard_inside() -> None:
    before = handlers()
    with listening(()), listening():
        assert handlers() == before


def test_outside_the_main_thread_nothing_changes() -> None:
    before, found = handlers(), []

    def listen() -> None:
        with listening(), patiently():
            found.append(handlers())
            stop_if_asked()

    thread = threading.Thread(target=listen)
    thread.start()
    thread.join()
    assert found == [before]


def test_what_is_ignored_stays_ignored() -> None:
    """As Ctrl-C is, in what a script starts in the background."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with listening(), patiently():
            send("SIGINT")
            assert asked_to_stop() == ""
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_forked_process_leaves_it_to_its_parent() -> None:
    with listening() as listener:
        child = os.fork()
        if child == 0:
            listener.hear(signal.SIGTERM)  # would raise in the parent
            os._exit(0 if listener.asked == "" else 1)
        assert os.waitpid(child, 0)[1] == 0


def test_the_most_urgent_of_several_processes_counts() -> None:
    with listening(), patiently():
        with pytest.raises(RunInterruptedError, match="SIGTERM"):
            stop_if_asked("", "SIGTERM", "SIGINT")
        send("SIGINT")  # of a launcher that now ends the others
        assert asked_to_stop() == "SIGTERM"


def test_an_interruption_leaves_a_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = RunFolder(tmp_path / "a" / "run")
    with pytest.raises(RunInterruptedError), stoppable(folder):
        send("SIGTERM")
    note = json.loads(folder.interruption.read_text())
    assert note["exit_code"] == 75
    assert note["message"].startswith("stopped by SIGTERM: what was saved stays")
    monkeypatch.setenv("RANK", "1")
    other = RunFolder(tmp_path / "b")
    with pytest.raises(RunInterruptedError) as caught, stoppable(other):
        send("SIGTERM")
    assert caught.value.is_told  # the main process does
    assert not other.path.exists()
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(RunInterruptedError), stoppable(other):
        raise interruption("SIGTERM", "saved", is_told=True)
    assert not other.path.exists()


def test_of_several_processes_that_start_only_a_signal_from_outside_leaves_a_note(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torchrun sends SIGTERM as well when one of them has died."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    folder = RunFolder(tmp_path / "run")
    with pytest.raises(RunInterruptedError), stoppable(folder):
        send("SIGTERM")
    assert not folder.path.exists()
    with pytest.raises(RunInterruptedError), stoppable(folder):
        send("SIGUSR1")
    assert folder.interruption.exists()
