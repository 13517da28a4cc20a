"""The way of frames from a worker process to the program: through shared memory that is used again and again.

Shared memory that is new costs a page fault for every 4096 bytes, in the worker and again in the program: several
milliseconds for the clips of one video. So a worker owns a few places and fills them in turn, and the program copies
out of them what it was handed.
"""

import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import get_worker_info

from everest.errors import DataError

PREFETCH_FACTOR = 2  # items that wait per worker
_NUM_PLACES = PREFETCH_FACTOR + 1


class NoSharedMemoryError(DataError):
    """There is not as much shared memory as an item takes."""


class Places:
    """Memory for the frames of items, one place for an item.

    A loader asks a worker for an item only when it hands on the one that the worker gave ``PREFETCH_FACTOR`` items
    before. With one place more than that, a place is filled again only when the next item was asked for after the one
    in it; by then :class:`Taker` has copied that.
    """

    def __init__(self) -> None:
        self._places: list[Tensor] = []
        self._num_asked = 0

    def empty(self, shape: Sequence[int]) -> Tensor:
        """Give memory for the frames of the next item: of a place in a worker process, else of its own.

        Returns:
            uint8, of this shape, not filled.
        """
        if get_worker_info() is None:
            return torch.empty(tuple(shape), dtype=torch.uint8)
        num_bytes, number = math.prod(shape), self._num_asked % _NUM_PLACES
        self._num_asked += 1
        if number == len(self._places):
            self._places.append(new_shared(num_bytes))
        elif len(self._places[number]) < num_bytes:
            self._places[number] = new_shared(num_bytes)
        return self._places[number][:num_bytes].view(tuple(shape))


class Taker:
    """Copies items out of the places that workers fill again.

    Places stay mapped from one item to the next: what is mapped anew has to be faulted in anew.

    Args:
        num_workers: Processes that hand items over.
    """

    def __init__(self, num_workers: int) -> None:
        self._num_kept = num_workers * _NUM_PLACES
        self._mapped: OrderedDict[int, torch.UntypedStorage] = OrderedDict()

    def take(self, item: Any) -> Any:
        """Give an item whose frames stay as they are.

        Args:
            item: A tensor, or a dataclass with tensors in its fields; anything else is given back.
        """
        if isinstance(item, Tensor):
            return self._take(item)
        if not is_dataclass(item) or isinstance(item, type):
            return item
        tensors = {f.name: value for f in fields(item) if isinstance(value := getattr(item, f.name), Tensor)}
        return replace(item, **{name: self._take(tensor) for name, tensor in tensors.items()})

    def _take(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if not storage.is_shared():  # of this process
            return tensor
        if tensor.dtype == torch.uint8:  # frames, which come in places
            self._mapped[storage.data_ptr()] = storage
            self._mapped.move_to_end(storage.data_ptr())
            if len(self._mapped) > self._num_kept:
                self._mapped.popitem(last=False)
        return tensor.clone()  # small ones too: each is an open file for as long as it is kept


def new_shared(num_bytes: int) -> Tensor:
    """Make shared memory that nothing was written to, uint8 [num_bytes].

    Raises:
        NoSharedMemoryError: There is not so much.
    """
    try:
        storage = torch.UntypedStorage._new_shared(num_bytes)  # type: ignore[no-untyped-call]
    except RuntimeError as error:
        raise NoSharedMemoryError(
            f"no shared memory is left for a batch of {num_bytes / 1e6:.0f} MB, of which every worker process needs "
            f"{_NUM_PLACES} (on Linux it is /dev/shm; containers have little unless told, as by docker run "
            f"--shm-size=8g): give more, or lower data.batch_size, data.clips_per_video or data.num_workers "
            f"({str(error).splitlines()[0]})"
        ) from None
    return torch.empty(0, dtype=torch.uint8).set_(storage, 0, (num_bytes,))  # type: ignore[call-overload,no-any-return]
