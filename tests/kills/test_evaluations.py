"""Evaluations of two processes, of which one is killed: the other says so, and nobody else begins meanwhile."""

import re
import signal
from pathlib import Path

import pytest
from small_runs import NUM_STEPS, Small, first_step_of
from starts import Starts

from everest.history.run import read_run

FORWARD = "everest.evaluation.views:classify_clips"
NUM_FORWARDS = 2  # of each process in an evaluation


@pytest.mark.parametrize(("number", "step"), [(0, 4), (3, NUM_STEPS)], ids=["on the way", "closing"])
def test_a_process_that_dies_in_an_evaluation_is_named_with_its_video(
    number: int, step: int, starts: Starts, data: Path, tmp_path: Path
) -> None:
    run = Small("finetune", data, tmp_path / "run")
    ranks = starts.begin_all(*run.command, stop_in=f"{FORWARD}:{number * NUM_FORWARDS}", stopping=1)
    assert [each.wait() for each in ranks] == [2, -signal.SIGKILL], ranks[0].printed
    named = rf"at step {step} while it evaluated \S+\.mp4\. What was saved stays"
    told = rf"rank 0 has lost the connection to other processes at step {step}\. Gone: rank 1 on .*, {named}"
    assert re.search(f"error: {told}", ranks[0].printed), ranks[0].printed
    log = (run.out / "log.txt").read_text()
    assert len(re.findall(told, log)) == 1, log
    assert read_run(run.out).state == "stopped"
    code, printed = starts.run(*run.command)
    assert code == 0, printed
    assert first_step_of(printed) == step
    assert re.search(f"the last start ended without a word: rank 1 on .*{named.partition(' What')[0][:-2]}", printed)
    assert read_run(run.out).state == "finished"


def test_a_run_is_held_until_its_closing_evaluation_has_ended(starts: Starts, data: Path, tmp_path: Path) -> None:
    run = Small("finetune", data, tmp_path / "run")
    first = starts.begin(*run.command, stop_in=f"{FORWARD}:12", by=signal.SIGSTOP)
    assert first.wait_until(lambda: run.num_steps_logged() == NUM_STEPS)
    assert read_run(run.out).judge() == ("going on", "its process lives")
    code, printed = starts.run(*run.command)
    assert (code, "is training this run; wait for it or stop it" in printed) == (2, True), printed
    first.kill()
    assert read_run(run.out).judge() == ("stopped", "its process is gone, in the closing evaluation")
