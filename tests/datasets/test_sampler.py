import pytest
from hypothesis import given
from hypothesis import strategies as st

from everest.datasets import BatchPlan, EpochSampler, plan_batches
from everest.errors import ConfigError


@given(st.integers(1, 600), st.integers(1, 64), st.integers(1, 8), st.integers(1, 4))
def test_a_plan_keeps_the_global_batch_and_fits_the_device(
    global_size: int, size: int, world_size: int, repeats: int
) -> None:
    possible = global_size % (world_size * repeats) == 0 and size >= repeats
    if not possible:
        with pytest.raises(ConfigError):
            plan_batches(global_size, size, world_size, repeats)
        return
    plan = plan_batches(global_size, size, world_size, repeats)
    assert plan.batch_size * plan.accumulation_steps * world_size == plan.global_batch_size == global_size
    assert plan.batch_size <= size
    assert plan.batch_size % repeats == 0
    share = global_size // world_size
    assert not any(share % b == 0 and b % repeats == 0 for b in range(plan.batch_size + 1, min(size, share) + 1))


@pytest.mark.parametrize(
    ("given_", "expected"),
    [
        ((256, 64, 1, 1), BatchPlan(64, 4, 256)),
        ((256, 64, 8, 1), BatchPlan(32, 1, 256)),
        ((256, 100, 1, 1), BatchPlan(64, 4, 256)),
        ((8, 64, 1, 2), BatchPlan(8, 1, 8)),
        ((12, 8, 1, 4), BatchPlan(4, 3, 12)),
    ],
)
def test_plans(given_: tuple[int, int, int, int], expected: BatchPlan) -> None:
    assert plan_batches(*given_) == expected


def test_impossible_plans_say_what_would_be_possible() -> None:
    with pytest.raises(ConfigError, match=r"global_batch_size \(100\) must be a multiple of 8 devices x 2 .*96 or 112"):
        plan_batches(100, 16, 8, 2)
    with pytest.raises(ConfigError, match="nearest: 8"):
        plan_batches(4, 16, 8)
    with pytest.raises(ConfigError, match=r"data.batch_size \(2\) must hold the 4 clips"):
        plan_batches(16, 2, 1, 4)


def test_videos_that_are_mixed_stay_together() -> None:
    assert plan_batches(24, 4, 2, 1, in_pairs=True) == BatchPlan(4, 3, 24)
    assert plan_batches(12, 5, 2, 1, in_pairs=True) == BatchPlan(2, 3, 12)  # 3 would tear a pair
    assert plan_batches(5, 8, in_pairs=True) == BatchPlan(5, 1, 5)  # the last one has no partner
    with pytest.raises(ConfigError, match="2 devices x 1 clips per video x 2 videos that are mixed; nearest: 4 or 8"):
        plan_batches(6, 8, 2, in_pairs=True)
    with pytest.raises(ConfigError, match=r"must hold the 4 clips of two videos that are mixed"):
        plan_batches(16, 2, 1, 2, in_pairs=True)


def steps_of(num_records: int, global_size: int, size: int, world_size: int, repeats: int = 1) -> list[list[tuple]]:
    """The videos of each step over all devices, in the order of their positions."""
    plan = plan_batches(global_size, size, world_size, repeats)
    per_rank = []
    for rank in range(world_size):
        sampler = EpochSampler(num_records, plan, clips_per_video=repeats, seed=3, rank=rank, world_size=world_size)
        sampler.set_epoch(2)
        per_rank.append(list(sampler))
    passes = plan.accumulation_steps
    return [
        sorted(key for batches in per_rank for batch in batches[step * passes : (step + 1) * passes] for key in batch)
        for step in range(len(per_rank[0]) // passes)
    ]


@given(st.integers(1, 100), st.sampled_from([1, 2]))
def test_the_videos_of_a_step_are_the_same_for_any_division(num_records: int, repeats: int) -> None:
    expected = steps_of(num_records, 24, 24, 1, repeats)
    for world_size, size in ((1, 4), (2, 12), (3, 2), (4, 6)):
        assert steps_of(num_records, 24, size, world_size, repeats) == expected
    per_step = 24 // repeats
    assert all(len(step) == per_step for step in expected)
    positions = [position for step in expected for _, position, _ in step]
    assert positions == list(range(len(expected) * per_step))  # the devices share no position and miss none


@given(st.integers(1, 100), st.integers(1, 30))
def test_an_epoch_is_a_permutation_in_whole_batches(num_records: int, global_size: int) -> None:
    sampler = EpochSampler(num_records, plan_batches(global_size, global_size))
    order = sampler.order(0).tolist()
    assert sampler.num_steps == max(1, num_records // global_size)
    assert len(order) == sampler.num_steps * global_size
    if num_records >= global_size:
        assert len(set(order)) == len(order)
    else:
        counts = [order.count(index) for index in range(num_records)]
        assert max(counts) - min(counts) <= 1


def test_order_depends_on_seed_and_epoch() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        return EpochSampler(50, BatchPlan(10, 1, 10), seed=seed).order(epoch).tolist()

    assert order(0, 0) == order(0, 0)
    assert len({tuple(order(seed, epoch)) for seed in (0, 1, 2) for epoch in (0, 1, 2)}) == 9


def test_an_epoch_can_start_at_any_step() -> None:
    sampler = EpochSampler(50, plan_batches(10, 5))
    sampler.set_epoch(1)
    whole = list(sampler)
    assert len(whole) == len(sampler) == 10
    sampler.set_epoch(1, start_step=3)
    assert list(sampler) == whole[6:]
    assert len(sampler) == 4
    sampler.set_epoch(1, start_step=5)
    assert list(sampler) == []
    with pytest.raises(ConfigError, match="an epoch has 5 steps"):
        sampler.set_epoch(1, start_step=6)


def test_wrong_ranks_and_batches_are_refused() -> None:
    with pytest.raises(ConfigError, match="rank must be 0 to 1"):
        EpochSampler(50, BatchPlan(5, 1, 10), rank=2, world_size=2)
    with pytest.raises(ConfigError, match="whole videos of 2 clips"):
        EpochSampler(50, BatchPlan(5, 1, 10), clips_per_video=2)
