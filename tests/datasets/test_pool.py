"""A task that hangs or dies costs its own result, and nothing is left behind, whatever happens."""

import contextlib
import faulthandler
import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from everest.datasets import pool as pool_module
from everest.datasets.pool import LOOK_AHEAD, Lost, run_parallel
from everest.errors import DataError, VideoError


@pytest.fixture(autouse=True)
def _nothing_is_left_behind() -> Iterator[None]:
    gc.collect()  # connections of other tests
    before = num_open_files()
    yield
    assert multiprocessing.active_children() == []
    assert num_open_files() <= before


def num_open_files() -> int:
    folder = Path("/proc/self/fd")
    return len(list(folder.iterdir())) if folder.is_dir() else 0


def act(task: object) -> object:
    """Do what the item says."""
    if task == "hang":
        threading.Event().wait()
    if task == "crash":
        faulthandler.disable()  # pytest's would print a page
        os.kill(os.getpid(), signal.SIGSEGV)
    if task == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if task == "exit":
        os._exit(3)
    if task == "video":
        raise VideoError("a.mp4: the file is empty")
    if task == "memory":
        raise MemoryError
    if task == "mistake":
        raise ZeroDivisionError("in the task")
    return task


def double(number: int) -> int:
    return 2 * number


def in_steps(seconds: float) -> Generator[None, None, str]:
    """Take many times as long as a single step."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        yield
    return "done"


@pytest.mark.parametrize("num_workers", [0, 1, 3])
def test_results_come_in_the_order_of_the_items(num_workers: int) -> None:
    done: dict[int, object] = {}
    found = list(
        run_parallel(double, range(50), num_workers=num_workers, time_limit_seconds=20, on_done=done.__setitem__)
    )
    assert found == [(i, 2 * i) for i in range(50)]
    assert sorted(done.items()) == found
    assert list(run_parallel(double, [], num_workers=num_workers, time_limit_seconds=20)) == []


@pytest.mark.parametrize(
    ("task", "reason"),
    [
        ("hang", "took longer than 0.5 s and was stopped"),
        ("crash", "its process was killed by SIGSEGV"),
        ("killed", "its process was killed by SIGKILL, probably because memory ran out"),
        ("exit", "its process ended with exit code 3"),
        ("video", "a.mp4: the file is empty"),
        ("memory", "memory ran out"),
    ],
)
def test_a_task_that_fails_is_lost_and_the_others_are_not(task: str, reason: str) -> None:
    items = [0, 1, task, 3, task, 5, 6, 7]
    limit = 0.5 if task == "hang" else 60.0  # a busy machine needs its time to end a process that crashed
    found = dict(run_parallel(act, items, num_workers=2, time_limit_seconds=limit))
    assert list(found) == list(range(8))
    assert all(found[i] == i for i in (0, 1, 3, 5, 6, 7))
    for outcome in (found[2], found[4]):
        assert isinstance(outcome, Lost)
        assert outcome.reason == reason
        assert isinstance(outcome.error, VideoError if task == "video" else type(None))


def test_without_processes_errors_are_values_too() -> None:
    found = dict(run_parallel(act, [0, "video", "memory"], num_workers=0, time_limit_seconds=None))
    assert found[0] == 0
    assert [outcome.reason for outcome in found.values() if isinstance(outcome, Lost)] == [
        "a.mp4: the file is empty",
        "memory ran out",
    ]


def test_a_mistake_in_a_task_comes_with_its_traceback() -> None:
    with pytest.raises(RuntimeError, match=r"(?s)in act.*ZeroDivisionError: in the task"):
        list(run_parallel(act, [0, "mistake", 2], num_workers=2, time_limit_seconds=20))
    with pytest.raises(ZeroDivisionError):
        list(run_parallel(act, ["mistake"], num_workers=0, time_limit_seconds=20))


def test_what_cannot_be_sent_is_a_mistake() -> None:
    with pytest.raises(RuntimeError, match="pickle"):
        list(run_parallel(lambda _: lambda: 1, [0], num_workers=1, time_limit_seconds=20))
    with pytest.raises((AttributeError, TypeError), match="pickle"):
        list(run_parallel(act, [lambda: 1], num_workers=1, time_limit_seconds=20))


def test_the_time_limit_is_for_each_step() -> None:
    (found,) = run_parallel(in_steps, [1.0], num_workers=1, time_limit_seconds=0.4)
    assert found == (0, "done")
    assert list(run_parallel(in_steps, [0.01], num_workers=0, time_limit_seconds=0.4)) == [(0, "done")]


def test_items_are_taken_a_few_at_a_time() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for i in range(10_000):
            taken.append(i)
            yield i

    for index, _ in run_parallel(double, items(), num_workers=2, time_limit_seconds=20):
        assert len(taken) <= index + 1 + 2 * LOOK_AHEAD
        if index == 100:
            break


def test_with_more_look_ahead_a_slow_item_keeps_nobody_waiting() -> None:
    done: list[int] = []
    outcomes = run_parallel(
        act,
        ["hang", *range(40)],
        num_workers=2,
        time_limit_seconds=1.5,
        on_done=lambda index, _: done.append(index),
        look_ahead=41,
    )
    next(outcomes)
    assert done == [*range(1, 41), 0]
    outcomes.close()  # type: ignore[attr-defined]


def test_what_is_done_is_told_before_what_takes_long() -> None:
    done: list[int] = []
    outcomes = run_parallel(
        act, ["hang", 1, 2, 3], num_workers=2, time_limit_seconds=1.0, on_done=lambda index, _: done.append(index)
    )
    assert isinstance(next(outcomes)[1], Lost)
    assert done == [1, 2, 3, 0]
    outcomes.close()  # type: ignore[attr-defined]


def test_stopping_early_stops_the_processes() -> None:
    begin = time.monotonic()
    outcomes = run_parallel(act, [0, "hang", "hang", "hang"], num_workers=3, time_limit_seconds=None)
    assert next(outcomes) == (0, 0)
    children = multiprocessing.active_children()
    assert len(children) == 3
    del outcomes  # as leaving a loop does
    assert time.monotonic() - begin < 10
    assert multiprocessing.active_children() == []


def test_a_slow_caller_does_not_cost_what_was_done_in_time() -> None:
    found = []
    for _, outcome in run_parallel(double, range(3), num_workers=2, time_limit_seconds=1.5):
        found.append(outcome)
        deadline = time.monotonic() + 1.7
        while time.monotonic() < deadline:
            pass
    assert found == [0, 2, 4]


def test_other_systems_start_processes_afresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "_start_method", lambda: "spawn")
    found = dict(run_parallel(act, [0, "crash", 2], num_workers=1, time_limit_seconds=60))
    assert (found[0], found[2]) == (0, 2)
    assert isinstance(found[1], Lost)
    from multiprocessing import resource_tracker

    resource_tracker._resource_tracker._stop()  # type: ignore[attr-defined]


def test_processes_that_cannot_start_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "work", lambda *_: os._exit(1))
    with pytest.raises(DataError, match="could not start"):
        list(run_parallel(act, [0], num_workers=1, time_limit_seconds=20))


SCRIPT = """
import os, threading
from everest.datasets.pool import run_parallel

def hang(item):
    print(os.getpid(), flush=True)
    threading.Event().wait()

list(run_parallel(hang, range(3), num_workers=3, time_limit_seconds=None))
"""


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_outlives_the_program(signal_number: signal.Signals) -> None:
    source = Path(pool_module.__file__).parents[2]
    program = subprocess.Popen(
        [sys.executable, "-c", SCRIPT],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(source)},
    )
    assert program.stdout is not None
    workers = [int(program.stdout.readline()) for _ in range(3)]
    program.send_signal(signal_number)
    _, messages = program.communicate(timeout=20)
    assert program.returncode != 0
    assert "leaked" not in messages
    deadline = time.monotonic() + 5
    while any(is_running(pid) for pid in workers) and time.monotonic() < deadline:
        pass
    assert not any(is_running(pid) for pid in workers)


def is_running(pid: int) -> bool:
    """Whether a process has not ended; one that nobody has collected yet has."""
    status = Path(f"/proc/{pid}/stat")
    if Path("/proc/self").exists():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            return status.read_text().rsplit(")", 1)[1].split()[0] != "Z"
        return False
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False
