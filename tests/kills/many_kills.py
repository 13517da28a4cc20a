"""The long form of ``test_kills.py``: ``make test-kills``."""

import os
import random
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import pytest
from killing import DELAY_SECONDS, Killer, Outcome
from launching import launched
from small_runs import NUM_STEPS, SAVE_EVERY, VARIANTS, Small, first_step_of, numbers
from starts import Starts

NUM_KILLS = 80
KILLS_OF_A_RUN = 6
KILLS_OF_TWO = {"pretrain": 8, "finetune": 6}  # each start of torchrun takes seconds


def test_runs_survive_many_kills(
    starts: Starts, data: Path, tmp_path: Path, report_line: Callable[[str], None]
) -> None:
    began, outcome = time.monotonic(), Outcome()
    killers = [Killer(starts, data, tmp_path, variant, random.Random(1), outcome) for variant in VARIANTS]
    number = 0
    while outcome.num_kills < NUM_KILLS:
        for killer in killers:
            killer.kill_until_it_ends(str(number), KILLS_OF_A_RUN, by_changes=number % 2 == 1)
        number += 1
    outcome.seconds = time.monotonic() - began
    report_line(str(outcome))
    assert len(outcome.moments) >= 5


@pytest.mark.parametrize("variant", KILLS_OF_TWO)
def test_two_processes_survive_many_kills(
    variant: str, data: Path, tmp_path: Path, report_line: Callable[[str], None]
) -> None:
    """One of them, the other, or all with torchrun are killed at random moments; losses are those of a whole run."""
    run, whole = (Small(variant, data, tmp_path / name) for name in ("run", "whole"))
    with launched(whole) as launch:
        assert launch.wait() == 0, launch.printed
    draw, num_kills, most_lost = random.Random(2), 0, 0
    for number in range(KILLS_OF_TWO[variant] + 1):
        before = run.num_steps_logged()
        with launched(run) as launch:
            if number < KILLS_OF_TWO[variant] and before < NUM_STEPS:
                launch.wait_for_step(draw.randint(before, min(before + 2, NUM_STEPS)))
                ranks = launch.wait_for_ranks()
                time.sleep(draw.uniform(0.0, DELAY_SECONDS))
                num_kills += _kill([[ranks.get(0)], [ranks.get(1)], [launch.process.pid, *ranks.values()]][number % 3])
            code = launch.wait()
        first = first_step_of(launch.printed)
        if first is not None:
            assert 0 <= before - first <= SAVE_EVERY, launch.printed
            most_lost = max(most_lost, before - first)
        if code == 0:
            break
    assert code == 0, launch.printed
    assert num_kills >= KILLS_OF_TWO[variant] // 2
    lines = [[line for line in numbers(each) if "loss" in line] for each in (run, whole)]  # not those of evaluations
    assert [line["step"] for line in lines[0]] == list(range(NUM_STEPS))
    for here, there in zip(*lines, strict=True):
        assert here["loss"] == pytest.approx(there["loss"], abs=1e-6)
    report_line(f"two processes, {variant}: {num_kills} kills, {most_lost} steps at most were done again")


def _kill(pids: Sequence[int | None]) -> bool:
    """Kill processes; says whether the first was still there."""
    was_there = False
    for number, pid in enumerate(pids):
        with suppress(ProcessLookupError):
            if pid is not None:
                os.kill(pid, signal.SIGKILL)
                was_there |= number == 0
    return was_there
