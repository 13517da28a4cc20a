"""How far a run is: one live line on a terminal, a plain line now and then elsewhere."""

import sys
import time
from collections.abc import Callable
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, ClassVar, Self, TextIO

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

PLAIN_INTERVAL_SECONDS = 10.0
BAR_WIDTHS = (20, 8)  # on a wide terminal and on a narrow one
WIDE = 100  # columns
_TIME_WIDTH = 8  # of 00:00:00
_FIRST = ("loss", "clips_per_second")  # where a line has no room for all values

_FORMATS: dict[str, Callable[[float], str]] = {
    "clips_per_second": lambda value: f"{value:.1f} clips/s",
    "wait_share": lambda value: f"{value:.0%} waiting for data",
    "lr": lambda value: f"lr {value:.2e}",
    "loss": lambda value: f"loss {value:.4f}",
}


class Progress:
    """Shows the progress of a loop on stderr, so that stdout stays free for results.

    On a terminal one line is kept up to date; elsewhere (a log file, a batch job) a plain line is written at the
    start, then at most every 10 seconds, and at the end. A loop inside of another one, such as an evaluation on the
    way, is shown on the line of the outer one. Use it as a context manager.
    """

    _shown: ClassVar[list["Progress"]] = []  # live ones, the outer one first

    def __init__(
        self,
        description: str,
        num_steps: int,
        *,
        first_step: int = 0,
        file: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare the display; nothing is shown before the context is entered.

        Args:
            description: What is going on, such as ``pre-training``.
            num_steps: Steps of the whole loop.
            first_step: Steps done by earlier starts.
            file: Where to write; None: stderr.
            clock: Seconds from any fixed moment.
        """
        self._description, self._num_steps, self._first_step = description, num_steps, first_step
        given = file or sys.stderr
        self._file: TextIO = getattr(given, "rich_proxied_file", given)  # which stands for stderr while a line is live
        self._clock = clock
        self._step = first_step
        self._values: dict[str, str] = {}
        self._started = self._last_line = clock()
        self._shown_step: int | None = None
        self._live: RichProgress | None = None
        self._task: TaskID | None = None
        self._outer: Progress | None = None
        self._inside = ""  # what goes on within a step

    def __enter__(self) -> Self:
        self._started = self._last_line = self._clock()
        self._outer = next((shown for shown in self._shown[:1] if shown._file is self._file), None)
        self._live = None if self._outer is not None else self._open_live()
        if self._live is not None:
            self._shown.append(self)
            self._live.start()
            self._task = self._live.add_task(
                self._description, total=self._num_steps, completed=self._first_step, values=""
            )
        return self

    def update(self, num_steps_done: int, **values: float) -> None:
        """Say how far the loop is.

        Args:
            num_steps_done: Steps done, those of earlier starts included.
            **values: Numbers to show. ``clips_per_second``, ``wait_share`` (0 to 1, time spent waiting for data),
                ``loss`` and ``lr`` have their own form; others are shown by name.
        """
        self._step = num_steps_done
        self._values = {
            name: _FORMATS[name](value) if name in _FORMATS else f"{name.replace('_', ' ')} {value:.4g}"
            for name, value in values.items()
        }
        if self._outer is not None:
            self._outer._show_inside(f"{self._description} {self._step:,}/{self._num_steps:,}")
        elif self._live is not None:
            self._show_live()
        elif self._shown_step is None or self._clock() - self._last_line >= PLAIN_INTERVAL_SECONDS:
            self._write_line()

    def skip(self, num_steps: int) -> None:
        """Say that so many steps were done already: they count as done, but not for the pace.

        Args:
            num_steps: Steps in addition to those skipped before.
        """
        self._first_step += num_steps
        if num_steps and self._live is not None and self._task is not None:
            self._live.reset(self._task, completed=self._step, values=self._live_values())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._outer is not None:
            self._outer._show_inside("")
        elif self._live is not None:
            self._shown.remove(self)
            self._live.stop()
        elif self._shown_step != self._step and not (error is not None and self._shown_step is None):
            self._write_line()  # but for what ended before it began: its error says all there is to say

    def _show_inside(self, text: str) -> None:
        """Say what goes on within a step."""
        self._inside = text
        self._show_live()

    def _show_live(self) -> None:
        if self._live is not None and self._task is not None:
            self._live.update(self._task, completed=self._step, values=self._live_values())

    def _live_values(self) -> str:
        """As much as there is room for after what must not be lost: how far the loop is, and the time left."""
        if self._live is None:
            return ""
        width = self._live.console.width
        fixed = len(self._description) + _bar_width(width) + 2 * len(str(self._num_steps)) + 1 + _TIME_WIDTH
        room = width - fixed - 5  # spaces between columns
        if self._inside:
            return self._inside[: max(0, room)]
        shown, names = "", sorted(self._values, key=lambda name: _FIRST.index(name) if name in _FIRST else len(_FIRST))
        for name in names:
            longer = f"{shown}, {self._values[name]}" if shown else self._values[name]
            if len(longer) > room:
                break
            shown = longer
        return shown

    def _open_live(self) -> "RichProgress | None":
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        console = Console(file=self._file)
        if not self._file.isatty() or console.is_dumb_terminal:
            return None
        return RichProgress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=_bar_width(console.width)),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[values]}", markup=False),
            console=console,
            redirect_stdout=False,  # results printed there must not turn up on stderr
        )

    def _write_line(self) -> None:
        now = self._clock()
        done, left = self._step - self._first_step, self._num_steps - self._step
        parts = list(self._values.values())
        if done > 0 and left > 0:
            seconds = round((now - self._started) * left / done)
            parts.append(f"{timedelta(seconds=seconds)} left")
        print(
            f"{self._description} {self._step:,}/{self._num_steps:,}: {', '.join(parts)}".removesuffix(": "),
            file=self._file,
            flush=True,
        )
        self._last_line, self._shown_step = now, self._step


def _bar_width(width: int) -> int:
    """Columns of the bar on a terminal."""
    return BAR_WIDTHS[0] if width >= WIDE else BAR_WIDTHS[1]
