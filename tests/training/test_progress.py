"""Progress goes to the given stream: live on a terminal, plain and rare elsewhere."""

import io
import itertools
import re

import pytest

from everest.training.progress import Progress


class Clock:
    """Seconds that pass only when told."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_plain_lines_come_at_most_every_ten_seconds() -> None:
    file, clock = io.StringIO(), Clock()
    with Progress("pre-training", 100, file=file, clock=clock) as progress:
        for step in range(1, 101):
            clock.now += 1.0
            progress.update(step, loss=1 / step)
    lines = file.getvalue().splitlines()
    assert [line.split(":")[0].split()[1] for line in lines] == [
        f"{step}/100" for step in (1, 11, 21, 31, 41, 51, 61, 71, 81, 91, 100)
    ]
    assert lines[1] == "pre-training 11/100: loss 0.0909, 0:01:29 left"
    assert lines[-1] == "pre-training 100/100: loss 0.0100"


def test_a_continued_run_is_timed_from_where_it_went_on() -> None:
    file, clock = io.StringIO(), Clock()
    with Progress("x", 1000, first_step=900, file=file, clock=clock) as progress:
        clock.now += 3.0
        progress.update(950)
    assert file.getvalue() == "x 950/1,000: 0:00:03 left\n"


def test_what_was_done_before_does_not_count_for_the_pace() -> None:
    file, clock = io.StringIO(), Clock()
    with Progress("x", 1000, file=file, clock=clock) as progress:
        progress.skip(700)
        progress.skip(200)
        clock.now += 3.0
        progress.update(950)
    assert file.getvalue() == "x 950/1,000: 0:00:03 left\n"


def test_what_fails_before_it_begins_shows_its_error_only() -> None:
    file = io.StringIO()
    with pytest.raises(ValueError, match="no"), Progress("x", 3, file=file, clock=Clock()):
        raise ValueError("no")
    assert not file.getvalue()
    with Progress("x", 3, file=file, clock=Clock()):
        pass  # an end without a single step is said
    assert file.getvalue() == "x 0/3\n"


def test_every_number_is_shown_in_its_form() -> None:
    file = io.StringIO()
    with Progress("x", 2, file=file, clock=Clock()) as progress:
        progress.update(2, clips_per_second=12.34, loss=0.5, lr=7.5e-4, wait_share=0.125, grad_norm=2.0)
    assert file.getvalue() == ("x 2/2: 12.3 clips/s, loss 0.5000, lr 7.50e-04, 12% waiting for data, grad norm 2\n")


def test_the_last_state_is_written_after_an_error() -> None:
    file, clock = io.StringIO(), Clock()

    def fail() -> None:
        with Progress("x", 9, file=file, clock=clock) as progress:
            progress.update(1)
            progress.update(2)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert file.getvalue().splitlines()[-1].startswith("x 2/9")


def test_a_terminal_gets_one_live_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "150")
    monkeypatch.delenv("NO_COLOR", raising=False)
    file = Terminal()
    with Progress("fine-tuning [x]", 4, first_step=1, file=file) as progress:
        print('{"result": 1}')
        progress.update(3, loss=0.25)
    shown = file.getvalue()
    assert "fine-tuning [x]" in shown
    assert "3/4" in shown
    assert "loss 0.2500" in shown
    assert capsys.readouterr().out == '{"result": 1}\n'
    assert "result" not in shown


@pytest.mark.parametrize("width", [50, 60, 80, 120])
def test_a_narrow_terminal_still_shows_how_far_it_is_and_the_time_left(
    width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", str(width))
    file = Terminal()
    values = {"loss": 1.1261, "lr": 1.5e-4, "wait_share": 0.31, "clips_per_second": 12.3, "gradient_norm": 1.234}
    with Progress("pre-training", 12000, file=file) as progress:
        progress._live._tasks[0].get_time = itertools.count().__next__  # a second for every look
        for step in range(1, 101):
            progress.update(step, **values)
        progress._live.refresh()
        line = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", file.getvalue()).rpartition("\r")[2]
    assert len(line) <= width
    assert "100/12000" in line
    assert re.search(r"\d+:\d\d:\d\d", line)
    assert ("loss 1.1261" in line, "clips/s" in line) == (width > 50, width > 60)
    assert "\n" not in line


def test_a_loop_inside_of_another_is_shown_on_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "150")
    file = Terminal()
    with Progress("fine-tuning", 4, file=file) as outer:
        outer.update(2, loss=0.25)
        with Progress("evaluating", 9, file=file) as inner:
            inner.update(5)
            outer._live.refresh()
        assert "fine-tuning" in file.getvalue().rpartition("\r")[2]
        assert file.getvalue().rpartition("\r")[2].count("evaluating 5/9") == 1
        assert "\n" not in file.getvalue()
        outer.update(3, loss=0.125)
    assert "evaluating" not in file.getvalue().rpartition("\r")[2]
    with Progress("evaluating", 9, file=file) as alone:
        alone.update(9)
    assert "9/9" in file.getvalue().rpartition("evaluating")[2]


def test_a_terminal_that_cannot_move_its_cursor_gets_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    file = Terminal()
    with Progress("x", 1, file=file, clock=Clock()) as progress:
        progress.update(1)
    assert file.getvalue() == "x 1/1\n"


def test_stderr_is_the_default(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("x", 1) as progress:
        progress.update(1)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "x 1/1\n"
