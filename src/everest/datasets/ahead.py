"""What a worker process will be asked for next, so that it is fetched while the batch before it is decoded."""

from collections.abc import Sequence

from torch import Tensor
from torch.utils.data import get_worker_info

from everest.datasets.clips import SampleKey
from everest.datasets.records import ClipRecord
from everest.datasets.sampler import EpochSampler
from everest.datasets.store import fetch_ahead

NUM_VIDEOS_AHEAD = 3  # in evaluation, where a batch is the views of one


def begin_views(records: Sequence[ClipRecord], index: int, step: int) -> None:
    """Begin to fetch a video, and those that the same worker evaluates next, if they come over the network.

    Args:
        records: The clips.
        index: That of the video.
        step: From one that this device evaluates to the next.
    """
    worker = get_worker_info()
    if worker is not None:
        wanted = range(index, len(records), step * worker.num_workers)[: NUM_VIDEOS_AHEAD + 1]
        fetch_ahead([records[number].source for number in wanted])


class LookAhead:
    """Fetches the clips of a batch, and those of the next one of the same worker.

    Batches go round the workers in turn, so with W of them the next one of a worker is W batches on. Where that turns
    out wrong, as after a worker was replaced, bytes were fetched in vain and nothing else.

    Args:
        sampler: Gives the order.
        records: The clips.
    """

    def __init__(self, sampler: EpochSampler, records: Sequence[ClipRecord]) -> None:
        self._sampler, self._records = sampler, records
        self._order: tuple[int, Tensor] | None = None  # of an epoch

    def begin(self, keys: tuple[SampleKey, ...]) -> None:
        """Begin to fetch what a batch needs, if that comes over the network."""
        worker = get_worker_info()
        if worker is not None:  # no threads where processes are forked
            wanted = (*keys, *self.after(keys, worker.num_workers))
            fetch_ahead([self._records[index].source for _, _, index in wanted])

    def after(self, keys: tuple[SampleKey, ...], num_batches: int) -> tuple[SampleKey, ...]:
        """Name the batch of this device that comes so many batches later; nothing after the end of the epoch."""
        sampler, plan = self._sampler, self._sampler.plan
        epoch, position, _ = keys[0]
        step, place = divmod(position, sampler.videos_per_step)
        number = step * plan.accumulation_steps + place // (sampler.videos_per_batch * sampler.world_size)
        step, accumulation = divmod(number + num_batches, plan.accumulation_steps)
        if step >= sampler.num_steps:
            return ()
        begin = step * sampler.videos_per_step
        begin += (accumulation * sampler.world_size + sampler.rank) * sampler.videos_per_batch
        if self._order is None or self._order[0] != epoch:
            self._order = epoch, sampler.order(epoch)
        indices: list[int] = self._order[1][begin : begin + sampler.videos_per_batch].tolist()
        return tuple((epoch, begin + place, index) for place, index in enumerate(indices))
