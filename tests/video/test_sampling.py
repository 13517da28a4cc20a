"""Laws of the index arithmetic."""

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from everest.video.sampling import (
    dense_indices,
    frame_step,
    max_start,
    random_start,
    segment_indices,
    view_starts,
)

lengths = st.integers(1, 500)
frames = st.integers(1, 32)
steps = st.one_of(st.integers(1, 8).map(float), st.floats(0.2, 12.0))


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_step_follows_the_stride_or_the_wanted_frame_rate() -> None:
    assert frame_step(4, None, 29.97) == 4.0
    assert frame_step(4, 7.5, 30.0) == 4.0
    assert frame_step(1, 10.0, 25.0) == 2.5


def test_dense_indices_by_hand() -> None:
    assert dense_indices(64, 16, 4.0, 0.0) == list(range(0, 64, 4))
    assert dense_indices(100, 4, 2.5, 10.0) == [10, 13, 15, 18]
    assert dense_indices(10, 6, 4.0, 0.0) == [0, 4, 8, 9, 9, 9]  # the end repeats
    assert dense_indices(9, 4, 1.0, 0.5) == [1, 2, 3, 4]  # halves do not repeat a frame


@given(lengths, frames, steps, st.floats(0, 600))
def test_dense_indices_stay_inside_and_never_fall(n: int, t: int, step: float, start: float) -> None:
    indices = dense_indices(n, t, step, start)
    assert len(indices) == t
    assert all(0 <= a <= b < n for a, b in itertools.pairwise([*indices, n - 1]))
    assert all(b - a <= math.ceil(step) for a, b in itertools.pairwise(indices))


@given(lengths, frames, steps)
def test_the_last_start_reaches_the_last_frame_and_repeats_nothing(n: int, t: int, step: float) -> None:
    start = max_start(n, t, step)
    ideal = [start + i * step for i in range(t)]
    assert start >= 0
    if n - 1 >= (t - 1) * step:
        assert dense_indices(n, t, step, start)[-1] == n - 1
        assert ideal[-1] <= n - 1 + 1e-9
    else:
        assert start == 0


@given(lengths, frames, steps, st.integers(0, 1000))
def test_random_starts_lie_between_the_first_and_the_last(n: int, t: int, step: float, seed: int) -> None:
    start = random_start(n, t, step, seeded(seed))
    assert 0 <= start <= max_start(n, t, step)
    assert start == random_start(n, t, step, seeded(seed))


def test_random_starts_are_uniform_and_reach_both_ends() -> None:
    generator = seeded(0)
    starts = [random_start(65, 16, 4.0, generator) for _ in range(4000)]  # 0 to 4
    counts = [starts.count(float(i)) for i in range(5)]
    assert sum(counts) == 4000
    assert min(counts) > 700
    fractional = [random_start(100, 4, 2.5, generator) for _ in range(2000)]
    assert min(fractional) < 1.0
    assert 91.0 < max(fractional) <= 91.5
    assert sum(fractional) / 2000 == pytest.approx(91.5 / 2, abs=2.0)


@given(lengths, frames, steps, st.integers(1, 10))
def test_views_are_spread_from_end_to_end(n: int, t: int, step: float, segments: int) -> None:
    starts = view_starts(n, t, step, segments)
    last = max_start(n, t, step)
    assert len(starts) == segments
    if segments == 1:
        assert starts == [last / 2]
    else:
        assert starts[0] == 0
        assert starts[-1] == pytest.approx(last)
        gaps = [b - a for a, b in itertools.pairwise(starts)]
        assert max(gaps) - min(gaps) < 1e-6


@given(lengths, frames, st.one_of(st.none(), st.integers(0, 1000)), st.floats(0, 1))
def test_segments_hold_one_frame_each(n: int, t: int, seed: int | None, offset: float) -> None:
    indices = segment_indices(n, t, None if seed is None else seeded(seed), offset)
    assert len(indices) == t
    for i, index in enumerate(indices):
        assert 0 <= index < n
        assert math.floor(i * n / t - 1e-9) <= index <= math.floor((i + 1) * n / t + 1e-9)


def test_segments_by_hand() -> None:
    assert segment_indices(80, 8, None) == [5, 15, 25, 35, 45, 55, 65, 75]
    assert segment_indices(8, 8, None, 0.0) == list(range(8))
    assert segment_indices(4, 8, None) == [0, 0, 1, 1, 2, 2, 3, 3]
    drawn = [segment_indices(80, 8, seeded(s)) for s in range(200)]
    assert {clip[0] for clip in drawn} == set(range(10))
    assert {clip[-1] for clip in drawn} == set(range(70, 80))
