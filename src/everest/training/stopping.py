"""Asking a run to stop: signals become a question that the run answers where it can.

Schedulers send SIGTERM or SIGUSR1 before they take a machine away, and people press Ctrl-C. A program that is ended by
them loses what it has not saved; a run saves first. A second Ctrl-C ends it at once.
"""

import os
import signal
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TypeVar

from everest.errors import RunInterruptedError
from everest.training.rundir import RunFolder

EXIT_AGAIN, EXIT_CTRL_C = 75, 130  # EX_TEMPFAIL of sysexits.h, on which schedulers start a job again; that of shells
DEAF_SECONDS = 1.0  # launchers hand on a Ctrl-C that the terminal has sent to the program already

SIGNALS = ("SIGINT", "SIGUSR1", "SIGTERM")  # where processes got different ones, the last one counts

_T = TypeVar("_T")

_active: "Listener | None" = None


class _AskedError(BaseException):
    """Ends a wait; no error of what is waited for, so nothing on the way takes it for one."""


class Listener:
    """Remembers the first signal that asked to stop.

    Attributes:
        asked: Its name; empty where nobody asked.
        at_once: Signals end what is going on by an exception, as Ctrl-C does in any Python program. Otherwise they
            wait to be asked for.
        waits: Something is waited for that may take minutes: a signal ends the wait (:func:`until_asked`).
    """

    def __init__(self) -> None:
        self.asked = ""
        self.at_once = True
        self.waits = False
        self._pid = os.getpid()
        self._since = 0.0

    def remember(self, name: str) -> None:
        """Take down which signal it was; those that follow are no news."""
        self.asked, self._since = name, time.monotonic()

    def hear(self, number: int, frame: FrameType | None = None) -> None:
        """Take in a signal; the handler of all of them."""
        if os.getpid() != self._pid:  # a forked process that has no handlers of its own yet: its parent decides
            return
        name = signal.Signals(number).name
        if self.asked:
            if name == "SIGINT" and time.monotonic() - self._since > DEAF_SECONDS:
                raise KeyboardInterrupt
            return
        self.remember(name)
        if self.at_once and name == "SIGINT":
            raise KeyboardInterrupt
        if self.at_once:
            raise interruption(name, "what was saved stays")
        if name == "SIGINT" and _is_main():  # bytes to the descriptor: a handler may interrupt any print
            os.write(2, b"\nstopping where it can be saved; Ctrl-C again ends at once\n")
        if self.waits:
            raise _AskedError


@contextmanager
def listening(names: Iterable[str] = SIGNALS) -> Iterator[Listener]:
    """Listen to signals for as long as the block lasts.

    What is inside another such block listens with it. Outside the main thread, where Python has no handlers, nothing
    is heard; a signal that the program was started to ignore stays ignored.

    Args:
        names: Of the signals; with none of them, whatever is in the block is ended as any program is.
    """
    global _active  # noqa: PLW0603 - signals come to the process, not to an object
    if _active is not None:
        yield _active
        return
    listener, before = Listener(), {}
    if threading.current_thread() is threading.main_thread():
        for number in (getattr(signal, name) for name in names if hasattr(signal, name)):
            if signal.getsignal(number) not in {signal.SIG_IGN, None}:  # None: of another language
                before[number] = signal.signal(number, listener.hear)
    _active = listener
    try:
        yield listener
    finally:
        _active = None
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def patiently() -> Iterator[None]:
    """Let signals wait until :func:`asked_to_stop` is called, for as long as the block lasts.

    After an error they wait until nobody listens any more: launchers end all processes when one has died, and what
    went wrong has to be said, not that the others were told to end.
    """
    listener = _active
    was = listener is None or listener.at_once
    if listener is not None:
        listener.at_once = False
    yield
    if listener is not None:
        listener.at_once = was


@contextmanager
def stoppable(folder: RunFolder) -> Iterator[None]:
    """Listen, and leave a note in a run's folder where something in the block was interrupted.

    There is none where several processes were ended by SIGTERM while they started: launchers send it as well when one
    of them has died, which would be tried again without end.

    Args:
        folder: It need not exist yet.
    """
    with listening() as listener:
        try:
            yield
        except RunInterruptedError as error:
            may_be_a_crash = listener.at_once and listener.asked == "SIGTERM" and not _is_alone()
            if not error.is_told and _is_main() and not may_be_a_crash:
                folder.note_interruption(str(error), error.exit_code)
            raise


def asked_to_stop() -> str:
    """Name the signal that has asked this process to stop; empty where none has."""
    return "" if _active is None else _active.asked


def until_asked(items: Iterable[_T]) -> Iterator[_T]:
    """Give items one by one until this process is asked to stop, also while it waits for one.

    Args:
        items: Are left behind in the middle of the next one then.
    """
    iterator = iter(items)
    while (found := _next_of(iterator)) is not None:
        yield found[0]


def _next_of(items: Iterator[_T]) -> tuple[_T] | None:
    """Wait for the next item; None where there is none, or the process is asked to stop."""
    listener = _active if _active is not None and not _active.at_once else Listener()
    try:
        try:
            listener.waits = True  # first: a signal from here on ends the wait, one before is seen below
            return None if listener.asked else (next(items),)
        finally:
            listener.waits = False
    except StopIteration:
        return None
    except _AskedError:  # outside, for a signal may come while the inner block ends
        listener.waits = False
        return None


def stop_if_asked(*others: str) -> None:
    """End what is going on if a process was asked to stop: for places between two steps of long work.

    Args:
        *others: What other processes say that :func:`asked_to_stop` gave; all of them must be told all.

    Raises:
        RunInterruptedError: This process was asked, or another.
    """
    if name := max([asked_to_stop(), *others], key=("", *SIGNALS).index):
        raise interruption(name, "what was not finished is done again")


def interruption(name: str, saved: str, *, is_told: bool = False) -> RunInterruptedError:
    """Make the error that a signal leads to.

    Args:
        name: Of the signal.
        saved: What became of the work, a half sentence.
        is_told: See :class:`~everest.errors.RunInterruptedError`.
    """
    if _active is not None and not _active.asked:  # another process was, and launchers end all of them when one ends
        _active.remember(name)
    by, code = ("Ctrl-C", EXIT_CTRL_C) if name == "SIGINT" else (name, EXIT_AGAIN)
    message = f"stopped by {by}: {saved}; the same command goes on from there"
    return RunInterruptedError(message, code, is_told=is_told or not _is_main())


def _is_main() -> bool:
    """Whether this is the process that writes and prints, as launchers say it."""
    return os.environ.get("RANK", "0") == "0"


def _is_alone() -> bool:
    """Whether launchers have started no other process of the run."""
    return os.environ.get("WORLD_SIZE", "1") == "1"
