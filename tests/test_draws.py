"""Laws of random numbers that belong to clips."""

import pytest
import torch

from everest.draws import ClipDraws, draw_uniform, mix_seeds, seed_of_step, seeds_of_clips


def splitmix64(state: int, count: int) -> list[int]:
    """The published generator, in Python's whole numbers."""
    found, mask = [], 2**64 - 1
    for _ in range(count):
        state = (state + 0x9E3779B97F4A7C15) & mask
        z = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        found.append(z ^ (z >> 31))
    return found


def test_numbers_are_those_of_splitmix64() -> None:
    draws = ClipDraws(torch.tensor([0, 5, -3]))
    for call in (1, 2):
        states = [splitmix64(seed % 2**64, call)[-1] for seed in (0, 5, -3)]
        expected = [[number >> 40 for number in splitmix64(state, 4)] for state in states]
        assert (draws.rand(4) * 2**24).tolist() == expected


def test_many_draws_at_once_are_those_made_in_turn() -> None:
    seeds = seeds_of_clips(3, 1, range(6))
    in_turn, at_once = ClipDraws(seeds), ClipDraws(seeds)
    for counts in ([1, 7, 1, 0, 3], [2], [1, 1]):
        expected = [in_turn.rand(count) for count in counts]
        drawn = at_once.rand_each(counts)
        assert [each.shape for each in drawn] == [(6, count) for count in counts]
        assert all(map(torch.equal, drawn, expected))
    assert repr(at_once) == repr(in_turn) == "ClipDraws(6 clips, 8 calls)"


def test_a_clip_draws_the_same_in_any_batch() -> None:
    seeds = seeds_of_clips(3, 1, range(6))
    whole = ClipDraws(seeds)
    first, second = whole.rand(7), whole.rand(5)
    part = ClipDraws(seeds[2:4])
    assert torch.equal(part.rand(7), first[2:4])
    assert torch.equal(part.rand(5), second[2:4])


def test_everything_else_differs() -> None:
    seeds = [seeds_of_clips(*key, [0, 1]).tolist() for key in ((0, 0), (0, 1), (1, 0), (1, 1))]
    steps = [seed_of_step(run, step) for run in (0, 1) for step in (0, 1)]
    every = [*(seed for pair in seeds for seed in pair), *steps]
    assert len(set(every)) == len(every)
    assert not torch.equal(mix_seeds(1, 2), mix_seeds(2, 1))


def test_numbers_are_uniform_and_independent() -> None:
    draws = ClipDraws(seeds_of_clips(0, 0, range(200)))
    first, second = draws.rand(500), draws.rand(500)
    assert first.dtype == torch.float32
    assert 0 <= float(first.min()) < 1e-4 < 1 - 1e-4 < float(first.max()) < 1
    counts = torch.histc(first, 20, 0, 1)
    assert float(((counts - 5000) ** 2 / 5000).sum()) < 45  # chi squared, 19 degrees of freedom: p of about 0.001
    for one, other in ((first, second), (first[:, 1:], first[:, :-1]), (first[1:], first[:-1])):
        correlation = torch.corrcoef(torch.stack([one.flatten(), other.flatten()]))[0, 1]
        assert abs(float(correlation)) < 4 / one.numel() ** 0.5


def test_a_generator_draws_as_torch_does() -> None:
    expected = torch.rand(3, 4, generator=torch.Generator().manual_seed(1))
    assert torch.equal(draw_uniform(3, 4, torch.Generator().manual_seed(1), "cpu"), expected)
    torch.manual_seed(1)
    assert torch.equal(draw_uniform(3, 4, None, "cpu"), expected)


def test_clips_without_a_seed_are_refused() -> None:
    with pytest.raises(ValueError, match=r"ClipDraws\(2 clips, 0 calls\) cannot draw for 3 clips"):
        draw_uniform(3, 4, ClipDraws(torch.tensor([1, 2])), "cpu")
