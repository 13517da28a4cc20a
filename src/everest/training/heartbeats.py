"""Signs of life of every process of a run, so that one that ends without a word is named.

RUN/ranks/rank-R.json says who the process of rank R is and what it works on. It is replaced every few seconds, marked
when the process ends with an error, and removed when it ends well. A file without a mark that the next start finds is
of a process that was killed, or of a machine that went down.
"""

import json
import os
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from everest.errors import RunError
from everest.links import write_new
from everest.training.files import folder_is_gone, list_files

INTERVAL_SECONDS = 5.0  # between two signs of life
ANSWER_SECONDS = 3.0  # in which the others notice as well that a process is gone


@dataclass(frozen=True)
class Heartbeat:
    """What a process said of itself last.

    Attributes:
        rank: Its number.
        host: The machine that it ran on.
        pid: The process there.
        step: The optimiser step that it worked on.
        files: The videos of its batch.
        seconds: When, in seconds since 1970 by the clock of its machine. For people: nothing is decided by it.
        ended: How it ended; empty as long as it runs, and where it ended without a word.
        evaluates: Whether it evaluated the videos; else it learnt from them.
    """

    rank: int
    host: str
    pid: int
    step: int
    files: tuple[str, ...]
    seconds: float
    ended: str = ""
    evaluates: bool = False

    def __str__(self) -> str:
        when = datetime.fromtimestamp(self.seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        doing = "evaluated" if self.evaluates else "worked on"
        working = f" while it {doing} {list_files(self.files)}" if self.files else ""
        return (
            f"rank {self.rank} on {self.host} (process {self.pid}), last heard of at {when}, at step {self.step:,}"
            f"{working}"
        )


_active: "Heart | None" = None


class Heart:
    """Writes the signs of life of this process.

    Args:
        run: The folder of the run.
        rank: Number of this process.
        clock: Seconds from any fixed moment, never set back.
    """

    def __init__(self, run: Path, rank: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._run, self._rank, self._clock = run, rank, clock
        self._path = _file_of(run, rank)
        self._due = -float("inf")
        self._last = Heartbeat(rank, socket.gethostname(), os.getpid(), 0, (), 0.0)

    def begin(self, step: int = 0) -> None:
        """Say that this process is there, before it has anything to work on."""
        global _active  # noqa: PLW0603 - what evaluates does not know of which run it is a part
        _active = self
        self._last = replace(self._last, step=step, files=(), seconds=time.time())
        self._write()

    def beat(self, step: int, files: Callable[[], Sequence[str]]) -> None:
        """Say what this process works on, unless it did so a moment ago.

        Args:
            step: The optimiser step.
            files: Gives the videos of the batch; only asked where they are written.

        Raises:
            RunError: The folder of the run was deleted or moved.
        """
        self._beat(step, files, evaluates=False)

    def reach(self, step: int) -> None:
        """Take down that so many steps are done, for the next sign of life."""
        self._last = replace(self._last, step=step)

    def evaluate(self, file: str) -> None:
        """Say which video this process evaluates, at once after it has learnt, and then as :meth:`beat` does."""
        self._beat(self._last.step, lambda: [file], evaluates=True)

    def _beat(self, step: int, files: Callable[[], Sequence[str]], *, evaluates: bool) -> None:
        now = self._clock()
        if now < self._due and evaluates == self._last.evaluates:
            return
        self._due = now + INTERVAL_SECONDS
        if not self._run.is_dir():
            raise folder_is_gone(self._run)
        named = tuple(dict.fromkeys(files()))
        self._last = replace(self._last, step=step, files=named, seconds=time.time(), evaluates=evaluates)
        self._write()

    def end(self, reason: str = "") -> None:
        """Remove the file, or write down why the process ends before its time."""
        global _active  # noqa: PLW0603 - see above
        _active = None
        if reason:
            self._last = replace(self._last, ended=reason, seconds=time.time())
            self._write()
            return
        with suppress(OSError):
            self._path.unlink()
        with suppress(OSError):  # the last one removes the folder
            self._path.parent.rmdir()

    def _write(self) -> None:
        partial = self._path.with_name(f".{self._path.name}.tmp")
        # A sign of life that cannot be written stops nothing: if the disk is full, the next line of metrics says so.
        with suppress(OSError):
            self._path.parent.mkdir(exist_ok=True)
            write_new(partial, json.dumps(asdict(self._last)))
            partial.replace(self._path)


def now_evaluating(file: str) -> None:
    """Note that this process evaluates a video, if it is one of a run.

    Raises:
        RunError: The folder of the run was deleted or moved.
    """
    if _active is not None:
        _active.evaluate(file)


def read_heartbeats(run: Path) -> list[Heartbeat]:
    """Read what the processes of a run said last, by rank; what a dying machine left half written is left out."""
    found = []
    for path in sorted(_folder_of(run).glob("rank-*.json")):
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            found.append(Heartbeat(**values | {"files": tuple(values["files"])}))
        except (OSError, ValueError, TypeError, KeyError):
            continue
    return sorted(found, key=lambda each: each.rank)


def clear_heartbeats(run: Path) -> list[Heartbeat]:
    """Give the processes of the last start that ended without a word, and forget that start.

    Call it in one process, before any of this start writes its own.
    """
    silent = [each for each in read_heartbeats(run) if not each.ended]
    for path in _folder_of(run).glob("*rank-*.json*"):
        with suppress(OSError):
            path.unlink()
    return silent


def find_dead(run: Path, rank: int, world_size: int, wait_seconds: float = ANSWER_SECONDS) -> list[str]:
    """Say which processes are gone, from one that has lost them and has marked its own file.

    Whoever lives loses the connection as well and marks its file, a moment earlier or later; that is waited for.

    Args:
        run: The folder of the run.
        rank: This process.
        world_size: How many there were.
        wait_seconds: How long the others have.

    Returns:
        A text for each process that is dead, or, where none is known to be, for each that has not answered.
    """
    deadline = time.monotonic() + wait_seconds
    while True:
        known = {each.rank: each for each in read_heartbeats(run)}
        silent = [n for n in range(world_size) if n != rank and not (n in known and known[n].ended)]
        dead = [n for n in silent if n in known and _is_dead(known[n])]
        if dead == silent or time.monotonic() >= deadline:
            break
        time.sleep(0.1)
    named = dead or silent
    return [f"{known[n]}" if n in known else f"rank {n}, which left no sign of life" for n in named]


def lost_processes(run: Path, rank: int, world_size: int, step: int, error: BaseException) -> RunError:
    """Make the error of a process that has lost others: who they are, and how to go on."""
    gone = find_dead(run, rank, world_size)
    problem = str(error).split(". ", 1)[0].split("\n", 1)[0]
    named = "; ".join(gone) if gone else "all of them said that they had ended; look for the first error above"
    return RunError(
        f"rank {rank} has lost the connection to other processes at step {step:,}. Gone: {named}. What was saved "
        "stays: start the same command again, or let torchrun do so (--max-restarts). The system said: "
        f"{problem}"
    )


def _is_dead(beat: Heartbeat) -> bool:
    """Whether a process is known to be gone: of this machine, and no more, or a zombie that nobody has buried yet."""
    if beat.host != socket.gethostname():
        return False
    try:
        os.kill(beat.pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    try:
        state = Path(f"/proc/{beat.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return False
    return state in {"Z", "X"}


def _folder_of(run: Path) -> Path:
    return run / "ranks"


def _file_of(run: Path, rank: int) -> Path:
    return _folder_of(run) / f"rank-{rank}.json"
