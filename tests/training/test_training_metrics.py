"""The log of a run: valid JSON at every moment, and continued without doubles."""

import json
import time
from pathlib import Path

import pytest
import torch

from everest.errors import RunError
from everest.training.metrics import MetricsLog, read_metrics
from everest.training.rundir import RunFolder


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path)


def test_a_line_can_be_read_as_soon_as_it_is_written(folder: RunFolder) -> None:
    with MetricsLog(folder, tensorboard=False) as log:
        log.write(0, 0.5, loss=1.25, lr=1e-3)
        log.write(1, 1.0, loss=torch.tensor(0.5), top1=None)
        lines = read_metrics(folder.metrics)
        assert all(abs(line.pop("time") - time.time()) < 60 for line in lines)
        assert lines == [
            {"step": 0, "epoch": 0.5, "loss": 1.25, "lr": 1e-3},
            {"step": 1, "epoch": 1.0, "loss": 0.5, "top1": None},
        ]
    assert not folder.tensorboard.exists()


def test_what_json_cannot_hold_becomes_null(folder: RunFolder) -> None:
    with MetricsLog(folder, tensorboard=False) as log:
        log.write(0, 0.0, loss=float("nan"), grad_norm=float("inf"))

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    line = json.loads(folder.metrics.read_text(), parse_constant=refuse)
    del line["time"]
    assert line == {"step": 0, "epoch": 0.0, "loss": None, "grad_norm": None}


def test_steps_done_again_replace_the_first_ones(folder: RunFolder) -> None:
    with MetricsLog(folder, tensorboard=False) as log:
        for step in range(5):
            log.write(step, 0.0, loss=1.0)
    with MetricsLog(folder, tensorboard=False) as log:
        log.truncate_from(3)
        for step in range(3, 5):
            log.write(step, 0.0, loss=2.0)
    lines = read_metrics(folder.metrics)
    assert [line["step"] for line in lines] == [0, 1, 2, 3, 4]
    assert [line["loss"] for line in lines] == [1.0, 1.0, 1.0, 2.0, 2.0]


def test_half_a_line_of_a_killed_process_is_dropped(folder: RunFolder) -> None:
    with MetricsLog(folder, tensorboard=False) as log:
        log.write(0, 0.0, loss=1.0)
    with folder.metrics.open("a") as file:
        file.write('{"step": 1, "lo')
    assert [line["step"] for line in read_metrics(folder.metrics)] == [0]
    with MetricsLog(folder, tensorboard=False) as log:
        log.write(1, 0.0, loss=1.0)
    assert [line["step"] for line in read_metrics(folder.metrics)] == [0, 1]


def test_it_is_known_whether_a_step_was_evaluated(folder: RunFolder) -> None:
    with MetricsLog(folder, tensorboard=False) as log:
        log.write(3, 1.0, loss=1.0, grad_norm=2.0)
        assert not log.holds_evaluation(3)
        log.write(3, 1, top1=0.5)
        assert log.holds_evaluation(3)
        assert not log.holds_evaluation(2)


def test_events_are_on_the_disk_when_the_state_is_saved(folder: RunFolder) -> None:
    """A run that goes on from the state does not write them again."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with MetricsLog(folder, tensorboard=True) as log:
        log.write(0, 0.0, loss=1.0)
        log.sync()
        events = EventAccumulator(str(folder.tensorboard))
        events.Reload()
        assert [event.step for event in events.Scalars("loss")] == [0]


@pytest.mark.parametrize("line", ["not json", "[1]", '{"loss": 1}', ""])
def test_lines_that_are_not_a_run_s_are_refused(folder: RunFolder, line: str) -> None:
    folder.metrics.write_text('{"step": 0, "epoch": 0}\n' + line + "\n")
    with pytest.raises(RunError, match=r"line 2: expected a JSON object with a step.*; delete that line"):
        read_metrics(folder.metrics)


def test_a_damaged_line_does_not_keep_a_run_from_going_on(folder: RunFolder) -> None:
    lines = ['{"step": 0, "epoch": 0}', "\0" * 20, '{"step": 1, "epoch": 0}', '{"step": 2, "epoch": 0}']
    folder.metrics.write_text("\n".join(lines) + "\n")
    with MetricsLog(folder, tensorboard=False) as log:
        with pytest.warns(UserWarning, match=r"line 2: expected a JSON object with a step, .*; the line is left out"):
            log.truncate_from(2)
        log.write(2, 0.5, loss=1.0)
    assert [line["step"] for line in read_metrics(folder.metrics)] == [0, 1, 2]


def test_a_missing_file_is_refused(folder: RunFolder) -> None:
    with pytest.raises(RunError, match="cannot be read"):
        read_metrics(folder.metrics)


def test_tensorboard_shows_a_continued_run_as_one(folder: RunFolder) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with MetricsLog(folder, tensorboard=True) as log:
        for step in range(4):
            log.write(step, 0.0, loss=1.0, top1=None)
    with MetricsLog(folder, tensorboard=True) as log:
        log.truncate_from(2)
        log.write(2, 0.0, loss=2.0)
    events = EventAccumulator(str(folder.tensorboard))
    events.Reload()
    assert events.Tags()["scalars"] == ["loss"]
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(0, 1.0), (1, 1.0), (2, 2.0)]
