"""Where kept tokens stand."""

import torch
from supervised_models import GRID, chosen, everything

from everest.models.supervised.places import LearnedPlaces, TokenPlaces


def test_what_is_spread_out_is_collected_again_and_the_rest_is_zero() -> None:
    numbers = [[0, 7, 9, 23], [1, 2, 3, 4]]
    places = TokenPlaces.of(chosen(GRID, *numbers))
    x = torch.randn(2, 4, 5)
    grid = places.spread(x)
    assert grid.shape == (2, 4, 6, 5)
    assert torch.equal(places.collect(grid), x)
    for clip in range(2):
        flat = grid[clip].flatten(0, 1)
        for token in range(GRID.num_tokens):
            kept = token in numbers[clip]
            assert bool(flat[token].any()) is kept
            assert bool(places.kept[clip].flatten()[token]) is kept  # type: ignore[index]


def test_nothing_is_masked_where_every_token_is_kept() -> None:
    places = TokenPlaces.of(everything(GRID, 2))
    x = torch.randn(2, GRID.num_tokens, 5)
    assert places.kept is None
    assert torch.equal(places.spread(x), x.reshape(2, 4, 6, 5))
    assert torch.equal(places.collect(places.spread(x)), x)


def test_slots_and_spots_are_the_places_of_the_numbers() -> None:
    places = TokenPlaces.of(chosen(GRID, [0, 7, 9, 23]))
    assert places.slots.tolist() == [[0, 1, 1, 3]]
    assert places.spots.tolist() == [[0, 1, 3, 5]]


def test_a_position_is_the_sum_of_one_for_the_spot_and_one_for_the_slot() -> None:
    learned = LearnedPlaces(GRID, 5)
    with torch.no_grad():
        learned.time.copy_(torch.randn_like(learned.time))
    table = learned.table()
    everywhere = TokenPlaces.of(everything(GRID))
    assert torch.equal(learned(torch.zeros(1, GRID.num_tokens, 5), everywhere), table)
    some = TokenPlaces.of(chosen(GRID, [3, 20]))
    assert torch.equal(learned(torch.zeros(1, 2, 5), some), table[:, [3, 20]])
    assert torch.equal(table[0, 20], learned.time[0, 3] + learned.space[0, 2])
