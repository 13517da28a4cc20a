"""Processes that start again find each other, whatever those before them have left in torchrun's store."""

import threading
from datetime import timedelta

import pytest
from torch.distributed import HashStore

from everest.errors import RunError
from everest.training.meeting import agree_on_name, meeting_options

SOON = timedelta(seconds=20)


def start(store: HashStore, ranks: tuple[int, ...], found: dict[int, str]) -> list[threading.Thread]:
    def come(rank: int) -> None:
        found[rank] = agree_on_name(store, rank, 4, SOON)

    threads = [threading.Thread(target=come, args=(rank,)) for rank in ranks]
    for thread in threads:
        thread.start()
    return threads


def test_every_start_has_a_name_of_its_own() -> None:
    store, names = HashStore(), set()
    for order in ((0, 1, 2, 3), (3, 2, 1, 0), (1, 0, 3, 2)):
        found: dict[int, str] = {}
        for thread in start(store, order, found):
            thread.join()
        assert sorted(found) == [0, 1, 2, 3]
        assert len(set(found.values())) == 1
        names |= set(found.values())
    assert len(names) == 3


def test_a_start_that_was_broken_off_does_not_disturb_the_next() -> None:
    """Of the first start, two processes have come, and wait when they are killed."""
    store = HashStore()
    for rank in (1, 3):
        store.set(f"here/{rank}", "old")
    found: dict[int, str] = {}
    first = start(store, (0,), found)
    while not store.check(["name/old"]):  # process 0 has answered those who are gone
        pass
    assert not found
    for thread in [*start(store, (1, 2, 3), found), *first]:
        thread.join()
    assert len(set(found.values())) == 1


def test_processes_that_do_not_come_are_named() -> None:
    with pytest.raises(RunError, match=r"processes \[1, 2\] of 3 have not started"):
        agree_on_name(HashStore(), 0, 3, timedelta(seconds=0.05))


def test_only_what_torchrun_has_started_meets_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TORCHELASTIC_USE_AGENT_STORE", raising=False)
    assert meeting_options() == []
    monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", "True")
    assert [option.init_method for _ in range(2) for option in meeting_options()] == ["everest://"] * 2
