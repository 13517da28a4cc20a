"""A run that is killed at any moment and started again ends as if it had not been; `make test-kills` kills more."""

import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from killing import KILLED, Killer, Outcome
from small_runs import Small, assert_equal, events, first_step_of
from starts import Starts


@pytest.fixture(scope="module")
def killer(starts: Starts, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Killer:
    """A fine-tuning run that was not killed, to compare with."""
    return Killer(starts, data, tmp_path_factory.mktemp("runs"), "finetune", random.Random(0), Outcome())


def test_five_kills_are_survived(killer: Killer, report_line: Callable[[str], None]) -> None:
    """One of them of a run with worker processes and TensorBoard."""
    began = time.monotonic()
    other = Killer(killer.starts, killer.data, killer.folder, "pretrain", random.Random(0), killer.outcome)
    assert any(events(other.whole).values())
    while not killer.outcome.num_kills:  # a run may be faster than its killer
        other.kill_until_it_ends("workers", 1, by_changes=False)
    killer.kill_until_it_ends("time", 2, by_changes=False)
    while killer.outcome.num_kills < 5:
        killer.kill_until_it_ends(f"change-{killer.outcome.num_kills}", 2, by_changes=True)
    killer.outcome.seconds = time.monotonic() - began
    report_line(str(killer.outcome))


@pytest.mark.parametrize(
    ("moment", "first_step"),
    [
        ("half:2", 4),  # of the third state, which is that of step 6
        ("everest.training.runs:save_weights:1", 4),  # the state of step 4 is there, its weights are not
        ("everest.evaluation.views:classify_clips", 4),  # in the first evaluation
        ("everest.training.best:save_weights", 4),
        ("everest.training.rundir:RunFolder.write_json:2", 4),  # the best weights are there, the file about them is not
        ("everest.training.metrics:MetricsLog.write:4", 4),  # the numbers of the first evaluation
        ("everest.api:evaluate_here:3", 16),  # after the training
    ],
)
def test_a_kill_in_the_middle_loses_nothing_that_was_saved(
    moment: str, first_step: int, killer: Killer, data: Path, tmp_path: Path
) -> None:
    run = Small("finetune", data, tmp_path / "run")
    assert killer.starts.run(*run.command, stop_in=moment)[0] == KILLED
    code, printed = killer.starts.run(*run.command)
    assert code == 0, printed
    assert first_step_of(printed) == first_step
    assert_equal(run, killer.whole)
