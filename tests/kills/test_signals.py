"""A run that is asked to stop saves, says so, ends with a code of its own, and goes on where it was."""

import json
import signal
from pathlib import Path

import pytest
from small_runs import NUM_STEPS, SAVE_EVERY, Small, assert_equal, first_step_of
from starts import Starts

STEP = "everest.training.loop:set_learning_rate"  # called once in every step
ASKED = {signal.SIGTERM: ("SIGTERM", 75), signal.SIGUSR1: ("SIGUSR1", 75), signal.SIGINT: ("Ctrl-C", 130)}


@pytest.fixture(scope="module")
def whole(starts: Starts, data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Small]:
    """Runs that nobody interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    runs = {variant: Small(variant, data, folder / variant) for variant in ("pretrain", "finetune")}
    for run in runs.values():
        code, printed = starts.run(*run.command)
        assert code == 0, printed
    return runs


@pytest.mark.parametrize("number", ASKED)
def test_a_run_stops_within_a_step_and_goes_on_there(
    number: signal.Signals, starts: Starts, whole: dict[str, Small], tmp_path: Path
) -> None:
    """The signal comes in the fifth step, to the workers as well, as schedulers and terminals send it."""
    run = Small("pretrain", whole["pretrain"].data, tmp_path / "run")
    code, printed = starts.run(*run.command, stop_in=f"{STEP}:4", by=number)
    name, expected = ASKED[number]
    assert code == expected, printed
    told = f"stopped by {name}: step 5 of {NUM_STEPS} is saved in {run.out / 'checkpoints'}; the same command goes on"
    assert printed.count(told) == 1, printed
    assert "Traceback" not in printed
    assert told in (run.out / "log.txt").read_text()
    note = json.loads((run.out / "interrupted.json").read_text())
    assert (note["exit_code"], note["message"]) == (expected, f"{told} from there")
    assert run.num_steps_logged() == 5
    assert 5 % SAVE_EVERY  # the signal alone was why it was saved
    code, printed = starts.run(*run.command)
    assert code == 0, printed
    assert first_step_of(printed) == 5
    assert not (run.out / "interrupted.json").exists()
    assert_equal(run, whole["pretrain"])


@pytest.mark.parametrize(
    ("moment", "first_step", "told"),
    [
        ("everest.training.losses:mix_clips:6", 3, "step 3 of 16"),  # the first of two passes: the step is dropped
        ("everest.evaluation.views:classify_clips", 4, ", an evaluation was broken off;"),
        ("everest.training.best:save_weights", 4, "step 4 of 16"),
        ("everest.api:keep_best", None, ""),  # after the last evaluation there is nothing to stop
        ("everest.evaluation.views:classify_clips:12", NUM_STEPS, "what was not finished is done again"),  # in it
        ("everest.api:load_data", 0, "what was saved stays"),
    ],
)
def test_what_is_going_on_is_given_up_where_it_can_be_done_again(
    moment: str, first_step: int | None, told: str, starts: Starts, whole: dict[str, Small], tmp_path: Path
) -> None:
    run = Small("finetune", whole["finetune"].data, tmp_path / "run")
    code, printed = starts.run(*run.command, stop_in=moment, by=signal.SIGTERM)
    if first_step is not None:
        assert code == 75, printed
        assert told in printed
        assert json.loads((run.out / "interrupted.json").read_text())["exit_code"] == 75
        kept = [line for file in (run.out / "evaluating").glob("*") for line in file.read_text().splitlines()[1:]]
        assert kept or not moment.startswith("everest.evaluation")
        code, printed = starts.run(*run.command)
        assert first_step_of(printed) == first_step
        assert not (run.out / "evaluating").exists()
    assert code == 0, printed
    assert_equal(run, whole["finetune"])


def test_one_start_at_a_time_holds_a_run(starts: Starts, data: Path, tmp_path: Path) -> None:
    run = Small("finetune", data, tmp_path / "run")
    first = starts.begin(*run.command, stop_in=f"{STEP}:2", by=signal.SIGSTOP)
    assert first.wait_until(lambda: run.num_steps_logged() == 2)
    before = {path: path.read_bytes() for path in run.out.rglob("*") if path.is_file()}
    code, printed = starts.run(*run.command)
    assert code == 2
    assert f"process {first.pid} on" in printed
    assert "is training this run; wait for it or stop it" in printed
    assert before == {path: path.read_bytes() for path in run.out.rglob("*") if path.is_file()}
    first.kill()
    code, printed = starts.run(*run.command)
    assert code == 0, printed
    assert run.leftovers() == []
