"""Losses far above the usual are found, and named once."""

import math
import random

import pytest

from everest.training.spikes import MIN_LOSSES, THRESHOLD, WINDOW, Spike, SpikeDetector


def feed(losses: list[float]) -> list[Spike]:
    detector = SpikeDetector()
    return [spike for step, loss in enumerate(losses) if (spike := detector.feed(step, loss)) is not None]


def noisy(count: int, seed: int = 0) -> list[float]:
    draws = random.Random(seed)
    return [2.0 * math.exp(-step / 300) + draws.gauss(0, 0.05) for step in range(count)]


@pytest.mark.parametrize("seed", range(5))
def test_ordinary_training_has_no_spikes(seed: int) -> None:
    assert feed(noisy(1000, seed)) == []


def test_a_spike_is_named_with_its_step_and_what_is_usual() -> None:
    losses = noisy(200)
    losses[150] = 5.0
    (spike,) = feed(losses)
    assert (spike.step, spike.loss) == (150, 5.0)
    assert spike.usual == pytest.approx(sorted(losses[50:150])[50], abs=0.05)
    assert spike.deviations > THRESHOLD


def test_a_plateau_is_one_spike_and_the_next_one_another() -> None:
    losses = noisy(400)
    losses[150:160] = [5.0] * 10
    losses[300] = 5.0
    assert [spike.step for spike in feed(losses)] == [150, 300]


def test_what_became_usual_is_no_spike() -> None:
    losses = [1.0 + 0.01 * (step % 3) for step in range(100)] + [3.0 + 0.01 * (step % 3) for step in range(WINDOW)]
    assert [spike.step for spike in feed([*losses, 3.1, 3.05])] == [100]


def test_nothing_is_judged_before_there_is_something_to_compare_with() -> None:
    assert feed([1.0] * (MIN_LOSSES - 1) + [100.0]) == []
    assert len(feed([1.0] * MIN_LOSSES + [100.0])) == 1


def test_losses_that_hardly_move_are_not_held_to_their_last_digit() -> None:
    assert feed([1.0] * 50 + [1.05]) == []
    assert len(feed([1.0] * 50 + [1.1])) == 1


def test_a_lower_loss_is_no_spike_and_what_is_not_finite_is_left_to_others() -> None:
    assert feed([1.0] * 50 + [0.0, float("nan"), float("inf"), 1.0]) == []
