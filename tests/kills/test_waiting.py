"""A run that waits for a clip that does not come saves and ends when it is asked to, at once."""

import csv
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from small_runs import NUM_STEPS, Small
from starts import Starts

from everest.datasets import load_data

LIMIT_SECONDS = 10.0  # the clip is asked for for five minutes
NUM_CLIPS = 8
SILENT_SECONDS = 1.5  # in which a step would have been made


@pytest.fixture
def data(tmp_path: Path) -> Iterator[Path]:
    """Eight clips to learn from, one of them at a server that takes requests and never answers."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        shard = f"http://127.0.0.1:{server.getsockname()[1]}/0.tar"
        records = load_data("bundled").split("train").records[: NUM_CLIPS - 1]
        rows = [(str(record.path), record.start_seconds, record.end_seconds, "", "", "") for record in records]
        with (tmp_path / "list.csv").open("w", newline="") as file:
            csv.writer(file).writerow(("path", "start", "end", "shard", "offset", "num_bytes"))
            csv.writer(file).writerows([*rows, ("silent.mp4", "", "", shard, 512, 1000)])
        yield tmp_path / "list.csv"


def waiting_run(data: Path, out: Path, **settings: object) -> Small:
    return Small("pretrain", data, out, {"run.tensorboard": "false", "data.max_failed_share": 0.5} | settings)


def wait_until_nothing_comes(run: Small, has_ended: Callable[[], bool]) -> int:
    """Wait until a step or more are made and no other follows; gives how many were made."""
    deadline, since, num_steps = time.monotonic() + 60, time.monotonic(), 0
    while not num_steps or time.monotonic() - since < SILENT_SECONDS:
        assert not has_ended()
        assert time.monotonic() < deadline
        if (found := run.num_steps_logged()) != num_steps:
            num_steps, since = found, time.monotonic()
        time.sleep(0.02)
    return num_steps


def assert_saved(run: Small, printed: str, num_steps: int, name: str) -> None:
    assert f"stopped by {name}: step {num_steps} of {NUM_STEPS} is saved" in printed, printed
    assert (run.out / "checkpoints" / f"step-{num_steps:08d}.pt").exists()
    assert (run.out / "interrupted.json").exists()


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_run_that_waits_for_a_clip_ends_when_it_is_asked_to(
    num_workers: int, starts: Starts, data: Path, tmp_path: Path
) -> None:
    run = waiting_run(data, tmp_path / "run", data__num_workers=num_workers)
    start = starts.begin(*run.command)
    num_steps = wait_until_nothing_comes(run, lambda: start.has_ended)
    began = time.monotonic()
    start.signal(signal.SIGTERM)
    assert start.wait(2 * LIMIT_SECONDS) == 75, start.printed
    assert time.monotonic() - began < LIMIT_SECONDS
    assert_saved(run, start.printed, num_steps, "SIGTERM")
    start.leaves_nothing()


def test_processes_that_wait_for_the_clip_of_one_end_when_they_are_asked_to(
    starts: Starts, data: Path, tmp_path: Path
) -> None:
    run = waiting_run(data, tmp_path / "run")
    ranks = starts.begin_all(*run.command)
    num_steps = wait_until_nothing_comes(run, lambda: any(each.has_ended for each in ranks))
    began = time.monotonic()
    for each in ranks:
        each.signal(signal.SIGTERM)
    assert [each.wait(2 * LIMIT_SECONDS) for each in ranks] == [75, 75], [each.printed for each in ranks]
    assert time.monotonic() - began < LIMIT_SECONDS
    assert_saved(run, ranks[0].printed, num_steps, "SIGTERM")
