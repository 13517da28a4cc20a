"""Files that hang or kill the process that reads them cost themselves and nothing else."""

import faulthandler
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, get_worker_info
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from everest.config import (
    AugmentConfig,
    ClipConfig,
    DataConfig,
    EvaluationConfig,
    ModelConfig,
    OptimConfig,
    PretrainConfig,
    SelectionConfig,
)
from everest.datasets import (
    Batch,
    ClipRecord,
    Manifest,
    TrainLoader,
    build_train_loader,
    build_view_loader,
    clips,
    load_data,
    spans,
    workers,
)
from everest.datasets.watch import Watch
from everest.datasets.workers import resolve_num_workers
from everest.errors import DataError
from everest.video import Reader, open_video

SMALL = load_data("bundled").split("train")
CLIP = ClipConfig(num_frames=4, height=32, width=32, stride=2)


@pytest.fixture(autouse=True)
def _look_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch looks every five seconds whether its workers live."""
    monkeypatch.setattr(_MultiProcessingDataLoaderIter._try_get_data, "__defaults__", (0.3,))


def one_clip_per_file(num: int = 8) -> Manifest:
    records = {record.path: record for record in SMALL.records}
    return Manifest(tuple(records.values())[:num], SMALL.class_names, SMALL.source)


def loader_of(
    manifest: Manifest, num_workers: int, time_limit_seconds: float = 0.4, memory_cache: bool = False
) -> TrainLoader:
    return build_train_loader(
        manifest,
        PretrainConfig(
            model=ModelConfig(size="tiny"),
            clip=CLIP,
            selection=SelectionConfig(keep_ratio=0.5, encode_ratio=0.25),
            augment=AugmentConfig(),
            data=DataConfig(
                batch_size=2,
                num_workers=num_workers,
                max_failed_share=0.5,
                time_limit_seconds=time_limit_seconds,
                memory_cache=memory_cache,
            ),
            optim=OptimConfig(global_batch_size=2),
        ),
    )


def hang() -> None:
    threading.Event().wait()


def die() -> None:
    faulthandler.disable()  # pytest's would print where every process was
    os.kill(os.getpid(), signal.SIGSEGV)


def die_in_workers(monkeypatch: pytest.MonkeyPatch, bad: Path, act: Callable[[], None]) -> None:
    """Let every worker process that opens a file do something else."""

    def open_or_act(path: Path, *options: Any) -> Reader:
        if path == bad and get_worker_info() is not None:
            act()
        return open_video(path, *options)

    monkeypatch.setattr(spans, "open_video", open_or_act)


@pytest.mark.parametrize(("act", "reason"), [(hang, "reading took longer than 0.4 s"), (die, "crashed")])
def test_a_file_that_stops_its_worker_is_replaced_and_named(
    act: Callable[[], None], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = one_clip_per_file()
    bad = 3
    expected = loader_of(manifest, num_workers=0)
    expected._clips.mark_unreadable(bad, "for comparison")
    wanted = [list(expected.epoch(epoch)) for epoch in (0, 1)]

    die_in_workers(monkeypatch, manifest.records[bad].path, act)
    loader = loader_of(manifest, num_workers=2)
    found = [list(loader.epoch(epoch)) for epoch in (0, 1)]

    assert [len(epoch) for epoch in found] == [4, 4]
    for ours, theirs in zip(found[0] + found[1], wanted[0] + wanted[1], strict=True):
        assert torch.equal(ours.frames, theirs.frames)
        assert torch.equal(ours.record_indices, theirs.record_indices)
    assert list(loader.failed) == [str(manifest.records[bad].path)]
    assert reason in loader.failed[str(manifest.records[bad].path)]


@pytest.mark.parametrize(("act", "reason"), [(hang, "longer than 0.4 s"), (die, "SIGSEGV")])
def test_a_file_that_stops_the_filling_of_the_cache_costs_itself_only(
    act: Callable[[], None], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = one_clip_per_file(4)
    bad, this_process = manifest.records[0].path, os.getpid()

    def open_or_act(path: Path, *options: Any) -> Reader:
        if path == bad and os.getpid() != this_process:
            act()
        return open_video(path, *options)

    monkeypatch.setattr(clips, "open_video", open_or_act)
    loader = loader_of(manifest, num_workers=1, memory_cache=True)
    found = list(loader.epoch(0))
    assert len(found) == 2
    assert list(loader.failed) == [str(bad)]
    assert reason in loader.failed[str(bad)]


def test_where_nothing_can_be_read_an_item_gives_up_early(tmp_path: Path) -> None:
    records = tuple(ClipRecord(tmp_path / f"{number}.mp4") for number in range(500))
    manifest = Manifest(records, (), tmp_path)
    loader = loader_of(manifest, num_workers=1)
    with pytest.raises(DataError, match=r"251 of 500 videos cannot be read, more than data.max_failed_share"):
        next(loader.epoch(0))


def test_an_evaluation_goes_on_without_the_file_that_stopped_its_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = one_clip_per_file(6)
    evaluation = EvaluationConfig(num_segments=2, num_crops=1, time_limit_seconds=0.4)
    wanted = list(build_view_loader(manifest, CLIP, evaluation, num_workers=0))
    die_in_workers(monkeypatch, manifest.records[2].path, hang)
    found = list(build_view_loader(manifest, CLIP, evaluation, num_workers=2))
    assert [views.record_index for views in found] == list(range(6))
    assert [views.error is not None for views in found] == [index == 2 for index in range(6)]
    assert "was stopped" in str(found[2].error)
    assert all(torch.equal(a.frames, b.frames) for a, b in zip(found, wanted, strict=True) if a.record_index != 2)


def test_too_many_files_that_stop_their_workers_stop_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = one_clip_per_file(8)

    def open_or_die(path: Path, *options: Any) -> Reader:
        if path != manifest.records[0].path:
            die()
        return open_video(path, *options)

    monkeypatch.setattr(spans, "open_video", open_or_die)
    loader = loader_of(manifest, num_workers=1)
    with pytest.raises(DataError, match="5 of 8 videos cannot be read"):
        list(loader.epoch(0))


def test_the_death_of_a_worker_does_not_interrupt_what_the_main_thread_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch's own handler would raise here, while nobody waits for the loader."""
    manifest = one_clip_per_file(8)
    order = loader_of(manifest, num_workers=0).sampler.order(0).tolist()
    die_in_workers(monkeypatch, manifest.records[order[2]].path, die)  # in the second batch
    batches = loader_of(manifest, num_workers=1).epoch(0)
    next(batches)
    deadline = time.monotonic() + 1.0
    while time.monotonic() < deadline:  # a training step, in which the worker dies
        torch.ones(8) @ torch.ones(8)
    rest: list[Batch] = list(batches)
    assert len(rest) == 3


def test_the_handler_that_another_loader_brought_is_taken_out() -> None:
    seen: list[int] = []

    def note(number: int, _: Any) -> None:
        seen.append(number)

    before = signal.signal(signal.SIGCHLD, note)
    try:
        torch.utils.data._utils.signal_handling._SIGCHLD_handler_set = False  # as at the start of a program
        next(iter(DataLoader([1, 2], num_workers=1)))
        assert signal.getsignal(signal.SIGCHLD) is not note  # torch's, around it
        next(loader_of(one_clip_per_file(4), num_workers=1).epoch(0))
        assert signal.getsignal(signal.SIGCHLD) is note
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_workers_that_die_between_files_are_replaced_but_not_for_ever(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    loader = loader_of(one_clip_per_file(4), num_workers=1)
    monkeypatch.setattr(type(loader._clips), "__getitem__", lambda *_: die())
    with caplog.at_level(logging.WARNING, "everest"), pytest.raises(DataError, match="memory"):
        list(loader.epoch(0))
    assert "a worker process died" in caplog.text


def test_errors_of_a_loader_that_are_no_deaths_stay_what_they_are() -> None:
    watch = Watch(2, 1.0)
    assert watch.find_dead("Caught ValueError in DataLoader worker process 0.") is None
    assert watch.find_dead("cuda error: pid 12") is None
    dead = watch.find_dead("DataLoader worker (pid(s) 12, 13) exited unexpectedly")
    assert dead is not None
    assert dead.record_index is None


def test_processes_of_one_machine_share_its_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert resolve_num_workers(-1) == 7
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert resolve_num_workers(-1) == 3
    assert resolve_num_workers(5) == 5
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "8")
    assert resolve_num_workers(-1) == 1  # without any, nothing could be stopped
    assert resolve_num_workers(0) == 0


def kill_one(loader: TrainLoader) -> None:
    """Kill a worker that waits for work, as the kernel does when memory runs out."""
    kept = loader._workers._kept
    assert kept is not None
    os.kill(kept._iterator._workers[0].pid, signal.SIGKILL)  # type: ignore[union-attr]
    time.sleep(0.1)


def test_workers_that_die_between_epochs_are_replaced(caplog: pytest.LogCaptureFixture) -> None:
    manifest = one_clip_per_file(8)
    wanted = [list(loader_of(manifest, num_workers=0).epoch(epoch)) for epoch in (1, 2)]
    loader = loader_of(manifest, num_workers=2)
    for _ in loader.epoch(0):
        pass
    kill_one(loader)
    with caplog.at_level(logging.WARNING, logger="everest"):
        found = [list(loader.epoch(epoch)) for epoch in (1, 2)]
    assert "died while it read nothing" in caplog.text
    for ours, theirs in zip(found, wanted, strict=True):
        assert all(torch.equal(a.frames, b.frames) for a, b in zip(ours, theirs, strict=True))
    assert not loader.failed


def test_an_epoch_that_is_left_while_a_file_hangs_names_it_in_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = one_clip_per_file(8)
    order = loader_of(manifest, num_workers=0).sampler.order(0).tolist()
    bad = manifest.records[order[4]].path  # in the third batch
    die_in_workers(monkeypatch, bad, hang)
    loader = loader_of(manifest, num_workers=1)
    for _ in loader.epoch(0):
        break
    assert len(list(loader.epoch(1))) == 4
    assert list(loader.failed) == [str(bad)]


class Broken:
    """An iterator over a loader that fails in some way when it is asked for the second time."""

    def __init__(self, items: Any, error: Exception, pid: int) -> None:
        self.items, self.error, self.pid, self.num_asked = items, error, pid, 0

    def __next__(self) -> Any:
        self.num_asked += 1
        if self.num_asked == 2:
            os.kill(self.pid, signal.SIGKILL)
            raise self.error
        return next(self.items)


@pytest.mark.parametrize(
    "error",
    [ConnectionResetError(), EOFError(), FileNotFoundError(), RuntimeError("Pin memory thread exited unexpectedly")],
)
def test_a_death_that_the_loader_does_not_call_one_is_found(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest, iterate, num_broken = one_clip_per_file(8), workers._iterate, 0

    def break_once(loader: Any) -> Any:
        nonlocal num_broken
        items, num_broken = iterate(loader), num_broken + 1
        return Broken(items, error, items._workers[0].pid) if num_broken == 1 else items

    monkeypatch.setattr(workers, "_iterate", break_once)
    found = list(loader_of(manifest, num_workers=1).epoch(0))
    assert num_broken == 2
    assert len(found) == 4


def test_other_errors_of_the_loader_are_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: Any) -> Any:
        raise OSError("too many open files")

    monkeypatch.setattr(workers, "_iterate", fail)
    with pytest.raises(OSError, match="too many open files"):
        list(loader_of(one_clip_per_file(4), num_workers=1).epoch(0))


def test_too_little_shared_memory_is_one_line_that_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(num_bytes: int) -> Any:
        raise RuntimeError(f"unable to allocate shared memory(shm) of {num_bytes} bytes: No space left on device (28)")

    monkeypatch.setattr(torch.UntypedStorage, "_new_shared", refuse)
    with pytest.raises(DataError, match=r"no shared memory is left for a batch .* lower data.batch_size") as caught:
        list(loader_of(one_clip_per_file(4), num_workers=1).epoch(0))
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="counts open files in /proc")
def test_batches_that_are_kept_keep_no_files_open() -> None:
    loader = loader_of(one_clip_per_file(8), num_workers=1)
    kept = list(loader.epoch(0))
    before = sum(1 for _ in Path("/proc/self/fd").iterdir())
    for epoch in (1, 2, 3):
        kept += list(loader.epoch(epoch))
    assert sum(1 for _ in Path("/proc/self/fd").iterdir()) <= before + 1
    assert len(kept) == 16


PROGRAM = """
import multiprocessing
from everest.config import *
from everest.datasets import build_train_loader, load_data

config = PretrainConfig(
    model=ModelConfig(size="tiny"),
    clip=ClipConfig(num_frames=4, height=32, width=32),
    selection=SelectionConfig(keep_ratio=0.5, encode_ratio=0.25),
    augment=AugmentConfig(),
    data=DataConfig(batch_size=2, num_workers=2),
    optim=OptimConfig(global_batch_size=2),
)
batches = build_train_loader(load_data("bundled"), config).epoch(0)
next(batches), next(batches)  # the second worker's first, too: both listen by now
workers = multiprocessing.active_children()
print(*(worker.pid for worker in workers), flush=True)
input()
workers[0].terminate()
workers[0].join(20)
print(workers[0].exitcode, flush=True)
input()
"""


def test_workers_heed_their_program_only_and_end_with_it() -> None:
    """Schedulers signal whole groups of processes; the program decides what that means, for its workers too."""
    source = str(Path(workers.__file__).parents[2])
    program = subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": source, "OMP_NUM_THREADS": "1"},
    )
    assert program.stdin is not None
    assert program.stdout is not None
    first, second = (int(pid) for pid in program.stdout.readline().split())
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
        os.kill(first, number)
        os.kill(second, number)
    time.sleep(0.2)
    assert is_running(first)
    assert is_running(second)
    program.stdin.write("\n")
    program.stdin.flush()
    assert program.stdout.readline() == "1\n"
    program.kill()
    program.wait()
    deadline = time.monotonic() + 10
    while is_running(second):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def is_running(pid: int) -> bool:
    """Whether a process has not ended; one that nobody has collected yet has."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
