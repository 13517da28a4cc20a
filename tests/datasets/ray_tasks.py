"""Tasks for workers of a Ray cluster, which have to find them in a module."""

import faulthandler
import os
import signal
import threading
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

from everest.errors import VideoError


def act(task: object) -> object:
    """Do what the item says."""
    if task == "hang":
        threading.Event().wait()
    if task == "crash":
        faulthandler.disable()
        os.kill(os.getpid(), signal.SIGSEGV)
    if task == "worker":  # the process of Ray, of which this one is a child
        os.kill(os.getppid(), signal.SIGKILL)
        threading.Event().wait()
    if task == "video":
        raise VideoError("a.mp4: the file is empty")
    if task == "memory":
        raise MemoryError
    if task == "mistake":
        raise ZeroDivisionError("in the task")
    return task


def slowly(number: int) -> int:
    """Take a while."""
    time.sleep(0.05)
    return 2 * number


def in_steps(seconds: float) -> Generator[None, None, str]:
    """Take many times as long as a single step."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        yield
    return "done"


@dataclass(frozen=True)
class WriteTask:
    """A text and the file that it goes to."""

    text: str
    target: Path


def write(task: WriteTask) -> str:
    """Write the text, except an empty one."""
    if task.text == "crash":
        task.target.write_text("half of it")
        act("crash")
    if task.text:
        task.target.write_text(task.text)
    return str(task.target)
