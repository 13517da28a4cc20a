"""The inside of a worker process of the pool: take a task, do it, send back what came of it."""

import gc
import multiprocessing
import os
import signal
import threading
import traceback
from collections.abc import Callable, Generator
from contextlib import suppress
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, Literal

import torch

from everest.errors import EverestError

Kind = Literal["ready", "alive", "result", "error", "failure"]  # of a message to the parent


class _Forward:
    """Sends what goes wrong in a block to the other end of a pipe, instead of raising it."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if value is None:
            return False
        with suppress(BrokenPipeError):  # nobody listens any more
            if isinstance(value, EverestError | MemoryError):
                self._connection.send(("error", value))
            else:
                self._connection.send(("failure", "".join(traceback.format_exception(kind, value, trace))))
        return True


def work(function: Callable[[Any], Any], connection: Connection) -> None:
    """Do tasks until told to end, or until the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C stops the program, which stops its workers
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # the parent may have had plans of its own for it
    gc.freeze()  # what the parent left is never collected here
    torch.set_num_threads(1)
    threading.Thread(target=end_with_parent, daemon=True).start()
    with suppress(BrokenPipeError):
        connection.send(("ready", None))
    while True:
        try:
            message = connection.recv()
        except (EOFError, ConnectionResetError):  # the parent is gone
            return
        if message is None:
            return
        with _Forward(connection):
            steps = steps_of(function, *message)
            while True:
                try:
                    next(steps)
                except StopIteration as stop:
                    connection.send(("result", stop.value))
                    break
                connection.send(("alive", None))


def end_with_parent() -> None:
    """Not even a task that hangs goes on when the program is gone, which cannot tell anybody when it is killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def steps_of(function: Callable[[Any], Any], item: Any) -> Generator[None, None, Any]:
    """Make a generator of a task, whether it is one or not."""
    result = function(item)
    if isinstance(result, Generator):
        return (yield from result)
    return result
