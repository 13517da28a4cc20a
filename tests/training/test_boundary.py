"""When the state is saved; what several processes agree on is in tests/kills."""

import os
import signal

import pytest

from everest.config import RunConfig
from everest.errors import RunInterruptedError
from everest.training.boundary import Answer, Boundary
from everest.training.stopping import listening, patiently


class Clock:
    """Says what it is told to."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


def boundary(clock: Clock, rank: int = 0, **settings: object) -> Boundary:
    return Boundary(RunConfig.model_validate(settings), rank, 1, clock)


NOTHING = Answer(save=False, asked="", was_abandoned=False)
SAVE = Answer(save=True, asked="", was_abandoned=False)


def test_ten_minutes_after_the_last_save_it_is_time() -> None:
    clock = Clock()
    found = boundary(clock)
    clock.seconds += 599
    assert found.ask(1) == NOTHING
    clock.seconds += 1
    assert found.ask(2) == found.ask(3) == SAVE
    clock.seconds += 30  # that saving takes
    found.saved()
    clock.seconds += 599
    assert found.ask(4) == NOTHING


def test_time_and_steps_can_be_chosen_and_turned_off() -> None:
    clock = Clock()
    by_steps = boundary(clock, save_every_minutes=None, save_every_steps=3)
    by_time = boundary(clock, save_every_minutes=0.5)
    clock.seconds += 30
    assert [by_steps.ask(step).save for step in range(1, 7)] == [False, False, True, False, False, True]
    assert by_time.ask(1).save


def test_the_main_process_looks_at_the_clock() -> None:
    clock = Clock()
    other = boundary(clock, rank=1)
    clock.seconds += 10_000
    assert other.ask(1) == NOTHING


def test_who_was_asked_says_so_and_gives_up_before_the_next_pass() -> None:
    found = boundary(Clock())
    found.before_pass()
    with listening(), patiently():
        os.kill(os.getpid(), signal.SIGUSR1)
        assert found.ask(1, was_abandoned=True) == Answer(save=False, asked="SIGUSR1", was_abandoned=True)
        with pytest.raises(RunInterruptedError):
            found.before_pass()


@pytest.mark.parametrize("setting", [{"save_every_minutes": 0}, {"save_every_steps": 0}])
def test_impossible_intervals_are_refused(setting: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="greater than"):
        RunConfig.model_validate(setting)
