"""Starts of the program that can be killed: a server that has imported everything, and forks a process for each.

A new Python needs seconds to import torch; a forked one needs none. The server itself computes nothing, so that no
thread is lost in the fork.
"""

import io
import json
import multiprocessing
import os
import re
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

FILE_EVENTS = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate"}
END = b"end"
SOURCE = Path(__file__).parents[2] / "src"


@dataclass
class Start:
    """One start of the program.

    Attributes:
        pid: Its process, which leads a group of its own.
        output: File with what it printed.
    """

    pid: int
    output: Path
    server: "Starts"

    def signal(self, number: int) -> None:
        """Send a signal to the process, not to its workers."""
        os.kill(self.pid, number)

    def kill(self) -> int:
        """Kill it, if it has not ended; gives its exit code."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        return self.wait()

    def wait(self, timeout: float = 120.0) -> int:
        """Wait for its end; gives its exit code, or minus the signal that ended it."""
        return self.server.code_of(self.pid, timeout)

    @property
    def has_ended(self) -> bool:
        """Whether it has ended by now."""
        return self.server.has_ended(self.pid)

    def wait_until(self, is_so: Callable[[], bool], timeout: float = 60.0) -> bool:
        """Wait until something is so, or the process has ended; gives whether it is so."""
        deadline = time.monotonic() + timeout
        while not is_so():
            if self.has_ended or time.monotonic() > deadline:
                return is_so()
            time.sleep(0.005)
        return True

    def leaves_nothing(self, timeout: float = 10.0) -> None:
        """Check that a process that has ended has left no worker and no shared memory."""
        deadline = time.monotonic() + timeout
        while any(True for _ in _group(self.pid)):
            assert time.monotonic() < deadline, f"workers of {self.pid} go on"
            time.sleep(0.01)
        shared = [path.name for path in Path("/dev/shm").glob("*") if str(self.pid) in re.split(r"\D+", path.name)]
        assert shared == []

    @property
    def printed(self) -> str:
        """What it printed so far."""
        return self.output.read_text() if self.output.exists() else ""


def _group(pid: int) -> Iterator[int]:
    """The processes of the group that a process led."""
    for place in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            state, _, group = (place / "stat").read_text().rpartition(")")[2].split()[:3]
            if int(group) == pid and state != "Z":
                yield int(place.name)


@dataclass
class Starts:
    """The server, from outside. Close it at the end."""

    folder: Path
    _codes: dict[int, int] = field(default_factory=dict)
    _count: int = 0

    def __post_init__(self) -> None:
        env = os.environ | {"PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        self._server = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env, bufsize=0
        )
        self._buffer = b""

    def begin(
        self,
        *arguments: object,
        kill_at: int | None = None,
        stop_in: str = "",
        by: int = signal.SIGKILL,
        environment: Mapping[str, str] | None = None,
    ) -> Start:
        """Start ``everest ARGUMENTS``.

        Args:
            *arguments: Of the program; the one after ``--out`` is where files are counted.
            kill_at: The process kills itself before its n-th change of a file in that folder, n from 0.
            stop_in: ``MODULE:FUNCTION`` that stops the process when it is called, ``:N`` for the call after N others;
                ``half:N`` kills it when half of a training state is written.
            by: The signal that is sent there, to the process and its workers.
            environment: What it finds there beside that of the tests.
        """
        self._count += 1
        output = self.folder / f"output-{self._count}.txt"
        request = {"arguments": list(map(str, arguments)), "output": str(output), "kill_at": kill_at}
        request |= {"stop_in": stop_in, "by": int(by), "environment": dict(environment or {})}
        assert self._server.stdin is not None
        self._server.stdin.write((json.dumps(request) + "\n").encode())
        return Start(self._read(60.0, "pid"), output, self)

    def begin_all(self, *arguments: object, num_processes: int = 2, stopping: int = 0, **how: Any) -> list[Start]:
        """Start one run in several processes, as launchers do; gives them by rank.

        Args:
            *arguments: As for :meth:`begin`.
            num_processes: How many.
            stopping: The rank that ``stop_in`` of the other arguments is for.
            **how: As for :meth:`begin`.
        """
        with closing(socket.create_server(("127.0.0.1", 0))) as probe:
            place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(probe.getsockname()[1])}
        place |= {"WORLD_SIZE": str(num_processes), "LOCAL_WORLD_SIZE": str(num_processes)}
        started = []
        for rank in range(num_processes):
            stop_in = how.get("stop_in", "") if rank == stopping else ""
            environment = place | {"RANK": str(rank), "LOCAL_RANK": str(rank)}
            started.append(self.begin(*arguments, **how | {"stop_in": stop_in, "environment": environment}))
        return started

    def run(self, *arguments: object, **how: Any) -> tuple[int, str]:
        """Start the program and wait for its end; gives its exit code and what it printed."""
        start = self.begin(*arguments, **how)
        return start.wait(), start.printed

    def code_of(self, pid: int, timeout: float) -> int:
        """Wait for the end of a process."""
        while pid not in self._codes:
            self._read(timeout, "ended")
        return self._codes[pid]

    def has_ended(self, pid: int) -> bool:
        """Whether a process has ended by now."""
        while pid not in self._codes and select.select([self._server.stdout], [], [], 0)[0]:
            self._read(10.0, "ended")
        return pid in self._codes

    def _read(self, timeout: float, wanted: str) -> int:
        """Read messages of the server up to one of the wanted kind."""
        deadline = time.monotonic() + timeout
        assert self._server.stdout is not None
        while True:
            while b"\n" not in self._buffer:
                left = deadline - time.monotonic()
                if left <= 0 or not select.select([self._server.stdout], [], [], left)[0]:
                    raise AssertionError(f"nothing was {wanted} in {timeout:.0f} s")
                data = os.read(self._server.stdout.fileno(), 65536)
                assert data, "the server has died"
                self._buffer += data
            line, _, self._buffer = self._buffer.partition(b"\n")
            message = json.loads(line)
            if "ended" in message:
                self._codes[message["ended"]] = message["code"]
            if wanted in message:
                return int(message[wanted])

    def close(self) -> None:
        """End the server and all that it started."""
        assert self._server.stdin is not None
        self._server.stdin.write(END + b"\n")  # others may hold a copy of the pipe: its end may not come
        self._server.stdin.close()
        self._server.wait(60)


def serve() -> None:
    """Fork a process for each line of standard input, and say when it has ended."""
    import torch._dynamo  # noqa: F401 - building an optimiser imports it
    from accelerate.accelerator import Accelerator  # noqa: F401
    from torch.utils.tensorboard import SummaryWriter  # noqa: F401

    import everest.api
    import everest.cli  # noqa: F401

    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    context = multiprocessing.get_context("fork")
    children: dict[int, Any] = {}
    lines = b""
    while True:
        ready = wait([0, *children])
        for sentinel in ready:
            if sentinel in children:
                child = children.pop(sentinel)
                child.join()
                print(json.dumps({"ended": child.pid, "code": child.exitcode}), file=answers)
        if 0 in ready:
            data = os.read(0, 65536)
            lines += data
            while b"\n" in lines:
                line, _, lines = lines.partition(b"\n")
                if line == END:
                    data = b""
                    break
                child = context.Process(target=_run, args=(json.loads(line),))
                child.start()
                children[child.sentinel] = child
                print(json.dumps({"pid": child.pid}), file=answers)
            if not data:
                for child in children.values():
                    child.kill()
                return


def _run(request: dict[str, Any]) -> None:
    """Be the program."""
    import torch

    from everest.cli import main

    os.setpgid(0, 0)
    os.environ.update(request["environment"])
    output = os.open(request["output"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(output, 1)
    os.dup2(output, 2)
    sys.stdout, sys.stderr = os.fdopen(1, "w", buffering=1), os.fdopen(2, "w", buffering=1)
    torch.set_num_threads(1)
    os.fsync = lambda descriptor: None  # takes long, and what a kill leaves does not depend on it
    arguments: list[str] = request["arguments"]
    if request["kill_at"] is not None:
        _kill_before_change(Path(arguments[arguments.index("--out") + 1]), request["kill_at"])
    if request["stop_in"].startswith("half"):
        _kill_half_way(int(request["stop_in"].partition(":")[2]))
    elif request["stop_in"]:
        _stop_in(request["by"], *request["stop_in"].split(":"))
    code = main(arguments)
    if request["kill_at"] is not None:
        print(f"\nchanges of files: {_changes[0]}")
    sys.exit(code)


_changes = [0]


def _kill_before_change(folder: Path, number: int) -> None:
    """Kill this process before its n-th change of a file in a folder."""
    process = os.getpid()

    def audit(event: str, arguments: tuple[Any, ...]) -> None:
        if event not in FILE_EVENTS or os.getpid() != process or threading.current_thread() is not main:
            return
        path = arguments[0]
        if event == "open":
            written = isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
            if not written:
                return
        if isinstance(path, str | bytes | os.PathLike) and os.fsdecode(path).startswith(str(folder)):
            if _changes[0] == number:
                print(f"killed before {event} {Path(os.fsdecode(path)).name}")
                os.kill(process, signal.SIGKILL)
            _changes[0] += 1

    main = threading.main_thread()
    sys.addaudithook(audit)


def _stop_in(number: int, module: str, name: str, after: str = "0") -> None:
    """Send a signal to this process and its workers when a function is called, after some other calls."""
    import importlib

    where: Any = importlib.import_module(module)
    *owners, last = name.split(".")
    for owner in owners:
        where = getattr(where, owner)
    before, calls = getattr(where, last), [0]

    def instead(*arguments: Any, **named: Any) -> Any:
        calls[0] += 1
        if calls[0] == int(after) + 1:
            os.killpg(0, number)
        return before(*arguments, **named)

    is_static = isinstance(vars(where).get(last), staticmethod)
    setattr(where, last, staticmethod(instead) if is_static else instead)


def _kill_half_way(after: int) -> None:
    """Kill this process when half of a training state is written, after some others that are written in full."""
    import torch

    before, calls = torch.save, [0]

    def instead(state: Any, file: Any) -> None:
        if calls[0] < after:
            calls[0] += 1
            before(state, file)
            return
        content = io.BytesIO()
        before(state, content)
        file.write(content.getvalue()[: content.tell() // 2])
        file.flush()
        os.kill(os.getpid(), signal.SIGKILL)

    torch.save = instead


if __name__ == "__main__":
    serve()
