"""The long form of ``test_kills.py``: ``make test-kills``."""

import random
import time
from collections.abc import Callable
from pathlib import Path

from killing import Killer, Outcome
from small_runs import VARIANTS
from starts import Starts

NUM_KILLS = 80
KILLS_OF_A_RUN = 6


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
