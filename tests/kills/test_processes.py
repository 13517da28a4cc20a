"""Two processes under torchrun: asked to stop, killed, and restarted by torchrun itself."""

import os
import signal
from pathlib import Path

import pytest
from launching import launched
from small_runs import NUM_STEPS, Small, first_step_of, numbers


def test_two_processes_stop_together_and_go_on_when_one_dies(data: Path, tmp_path: Path) -> None:
    """A run is stopped by a signal to one process, stopped through torchrun, and restarted by torchrun."""
    run, whole = (Small("pretrain", data, tmp_path / name) for name in ("run", "whole"))
    with launched(run) as launch:
        launch.wait_for_step(2)
        os.kill(launch.rank(1), signal.SIGUSR1)
        assert launch.wait() == 1  # whatever its processes ended with: hence the note
    assert launch.printed.count("stopped by SIGUSR1: step") == 1, launch.printed
    assert "exitcode  : 75" in launch.printed
    assert (run.out / "interrupted.json").exists()
    stopped_at = run.num_steps_logged()
    assert 2 <= stopped_at <= 5
    with launched(run) as launch:
        launch.wait_for_step(stopped_at + 2)
        launch.process.send_signal(signal.SIGTERM)
        assert launch.wait() == 1
    assert first_step_of(launch.printed) == stopped_at, launch.printed
    assert launch.printed.count("stopped by SIGTERM: step") == 1, launch.printed
    assert (run.out / "interrupted.json").exists()
    stopped_at = run.num_steps_logged()
    with launched(run, "--max-restarts=2") as launch:
        launch.wait_for_step(stopped_at + 3)
        os.kill(launch.rank(1), signal.SIGKILL)
        assert launch.wait() == 0, launch.printed
    starts = [first_step_of(part) for part in launch.printed.split("clips of")[1:]]
    assert starts[0] == stopped_at
    assert starts[1] is not None
    assert starts[1] >= stopped_at  # what was done before the death was saved, or was done again
    assert len(starts) == 2
    assert not (run.out / "interrupted.json").exists()
    with launched(whole) as launch:
        assert launch.wait() == 0, launch.printed
    lines = [numbers(each) for each in (run, whole)]
    assert [line["step"] for line in lines[0]] == list(range(NUM_STEPS))
    for here, there in zip(*lines, strict=True):
        assert here["loss"] == pytest.approx(there["loss"], abs=1e-6)
    assert run.leftovers() == []
