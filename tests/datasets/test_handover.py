"""What leaves a worker through memory that is used again arrives whole and stays as it is."""

import time
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from everest.datasets.handover import PREFETCH_FACTOR, Places, Taker

NUM_ITEMS = 40


@dataclass(frozen=True)
class Item:
    frames: Tensor
    label: Tensor
    name: str


class Numbered(Dataset[Item]):
    """Items of different sizes, each filled with its number, from a worker that is quick or slow."""

    def __init__(self, wait_seconds: float = 0.0) -> None:
        self.places, self.wait_seconds = Places(), wait_seconds

    def __getitem__(self, index: int) -> Item:
        if index >= NUM_ITEMS:
            raise IndexError(index)
        time.sleep(self.wait_seconds * (index % 3))
        frames = self.places.empty((1 + index % 5, 3, 1000)).fill_(index)
        return Item(frames, torch.tensor(index), str(index))


def as_is(item: Any) -> Any:
    return item


def loader_of(dataset: Dataset[Any], num_workers: int) -> DataLoader[Any]:
    factor = PREFETCH_FACTOR if num_workers else None
    return DataLoader(
        dataset,
        batch_size=None,
        sampler=range(NUM_ITEMS),
        collate_fn=as_is,
        num_workers=num_workers,
        prefetch_factor=factor,
        persistent_workers=num_workers > 0,
    )


@pytest.mark.parametrize("num_workers", [0, 1, 2])
@pytest.mark.parametrize(("worker_waits", "program_waits"), [(0.0, 0.0), (0.004, 0.0), (0.0, 0.004)])
def test_items_stay_as_they_were_given(num_workers: int, worker_waits: float, program_waits: float) -> None:
    loader, taker = loader_of(Numbered(worker_waits), num_workers), Taker(num_workers)
    kept = []
    for item in loader:
        time.sleep(program_waits)  # in which workers that did not wait for it would fill the place again
        kept.append(taker.take(item))
    assert len(kept) == NUM_ITEMS
    for index, item in enumerate(kept):
        assert item.frames.shape == (1 + index % 5, 3, 1000)
        assert (item.frames == index).all()
        assert (item.label.item(), item.name) == (index, str(index))


def test_an_abandoned_epoch_does_not_disturb_the_next_one() -> None:
    loader, kept = loader_of(Numbered(), 2), []
    for num in (3, 7, NUM_ITEMS):
        taker = Taker(2)
        for item, _ in zip(loader, range(num), strict=False):
            kept.append((item.label.item(), taker.take(item).frames))
    assert all((frames == label).all() for label, frames in kept)


def test_places_are_used_again_and_the_program_maps_each_once() -> None:
    class Same(Numbered):
        def __getitem__(self, index: int) -> Item:
            return Item(self.places.empty((5000,)).fill_(index), torch.tensor(index), "")

    taker, addresses = Taker(1), set()
    for item in loader_of(Same(), 1):
        addresses.add(item.frames.data_ptr())
        taker.take(item)
    assert len(addresses) == len(taker._mapped) == PREFETCH_FACTOR + 1


def test_mappings_do_not_pile_up_when_places_grow() -> None:
    class Growing(Numbered):
        def __getitem__(self, index: int) -> Item:
            return Item(self.places.empty((5000 * (index + 1),)).fill_(index), torch.tensor(index), "")

    taker = Taker(1)
    kept = [taker.take(item) for item in loader_of(Growing(), 1)]
    assert [item.frames.unique().tolist() for item in kept] == [[index] for index in range(NUM_ITEMS)]
    assert len(taker._mapped) == PREFETCH_FACTOR + 1


def test_in_one_process_nothing_is_shared_and_nothing_copied() -> None:
    frames = Places().empty((2, 3))
    assert not frames.untyped_storage().is_shared()
    item = Item(frames, torch.tensor(0), "")
    assert Taker(0).take(item).frames is frames


def test_what_holds_no_frames_is_given_back() -> None:
    error = ValueError("as a value")
    assert Taker(1).take(error) is error
    assert Taker(1).take(None) is None
