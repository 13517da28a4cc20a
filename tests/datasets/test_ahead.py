"""What is fetched ahead is what the same worker is asked for next."""

import pytest

from everest.datasets import load_data
from everest.datasets.ahead import LookAhead
from everest.datasets.sampler import EpochSampler, plan_batches

RECORDS = load_data("bundled").records[:40]


@pytest.mark.parametrize("num_workers", [1, 2, 3])
@pytest.mark.parametrize(("batch_size", "clips_per_video", "world_size"), [(8, 1, 1), (2, 1, 2), (4, 2, 1), (2, 2, 2)])
def test_it_names_the_batch_that_comes(
    num_workers: int, batch_size: int, clips_per_video: int, world_size: int
) -> None:
    plan = plan_batches(8, batch_size, world_size, clips_per_video)
    for rank in range(world_size):
        sampler = EpochSampler(
            len(RECORDS), plan, clips_per_video=clips_per_video, seed=3, rank=rank, world_size=world_size
        )
        ahead = LookAhead(sampler, RECORDS)
        for epoch, start_step in ((0, 0), (5, 2)):
            sampler.set_epoch(epoch, start_step)
            batches = list(sampler)
            for number, keys in enumerate(batches):
                later = batches[number + num_workers :]
                assert ahead.after(keys, num_workers) == (later[0] if later else ())
