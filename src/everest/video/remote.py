"""Bytes from URLs: asked for again where that may help, and never handed on when they are not what was asked for."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import fsspec
import fsspec.asyn

from everest.errors import RemoteError
from everest.video.problems import DRIVERS, Asking, Problem
from everest.video.protocols import expect_store
from everest.video.urls import Url, address_of

_T = TypeVar("_T")

_CHANCE = random.SystemRandom()  # of its own: a run's random numbers stay what they are, and forked workers differ
_NOT_THERE = {401, 403, 404, 410}
_KEPT: dict[int, Any] = {}  # see _filesystem


@dataclass(frozen=True)
class Patience:
    """How long something at a URL is asked for again.

    Attributes:
        total_seconds: From the first try to the end of the last.
        num_tries: At most.
        num_tries_of_wrong_bytes: At most, where a server answers well but with too little, or with other bytes.
        first_wait_seconds: Between the first two tries, at most; it doubles from one to the next. Between half of it
            and all of it is waited, by chance, so that many processes do not come back at the same moment.
        longest_wait_seconds: No wait is longer, but for what a server asks for.
        stall_seconds: A web server that says nothing for so long is asked again.
    """

    total_seconds: float = 30.0
    num_tries: int = 8
    num_tries_of_wrong_bytes: int = 3
    first_wait_seconds: float = 0.5
    longest_wait_seconds: float = 10.0
    stall_seconds: float = 10.0

    def wait_seconds(self, num_tried: int, asked_for: float | None) -> float:
        """Seconds to wait after so many tries, and at least what the server asked for."""
        longest = min(self.longest_wait_seconds, self.first_wait_seconds * 2 ** (num_tried - 1))
        return float(max(longest * _CHANCE.uniform(0.5, 1.0), asked_for or 0.0))


OnRetry = Callable[[Problem, float], None]  # what went wrong, and the seconds until it is tried again
DEFAULT_PATIENCE = Patience()


def read_url(
    url: str,
    start: int | None = None,
    end: int | None = None,
    *,
    patience: Patience = DEFAULT_PATIENCE,
    check: Callable[[bytes], Problem | None] = lambda content: None,
    on_retry: OnRetry = lambda problem, seconds: None,
) -> bytes:
    """Read bytes from a URL.

    Broken connections, silence, a busy server (429, 5xx) and bytes that are not the right ones are tried again, a
    longer time apart each time; what will not be there (404) or may not be read (401, 403) is not.

    Args:
        url: What fsspec can open.
        start: The first byte; None: that of the file.
        end: After the last byte; None: the end of the file.
        patience: How often, and how long.
        check: Finds out what is wrong with the bytes; None: nothing is.
        on_retry: Called before every wait.

    Raises:
        RemoteError: It cannot be read; the message begins with what the last try met.
    """
    return _ask_again(lambda left: _ask(url, start, end, patience, left), patience, check, on_retry)


def size_of_url(
    url: str, *, patience: Patience = DEFAULT_PATIENCE, on_retry: OnRetry = lambda problem, seconds: None
) -> int | None:
    """Look up the bytes of a file at a URL; None where its server does not tell.

    Raises:
        RemoteError: As for :func:`read_url`.
    """

    def ask(left: float) -> int | None:
        filesystem, path = _filesystem(url)
        if isinstance(filesystem, fsspec.asyn.AsyncFileSystem):
            look_up = partial(filesystem._info, path)
            found = fsspec.asyn.sync(filesystem.loop, look_up, timeout=max(left, 1.0))  # type: ignore[no-untyped-call]
        else:
            found = filesystem.info(path)
        return None if found.get("size") is None else int(found["size"])

    return _ask_again(ask, patience, lambda size: None, on_retry)


def _ask_again(
    ask: Callable[[float], _T], patience: Patience, check: Callable[[_T], Problem | None], on_retry: OnRetry
) -> _T:
    """Ask until the answer is a good one, or nothing is to be hoped for.

    Args:
        ask: Takes the seconds that are left.
        patience: How often, and how long.
        check: Finds out what is wrong with an answer.
        on_retry: Called before every wait.
    """
    began = time.monotonic()
    deadline = began + patience.total_seconds
    number = 0
    while True:
        number += 1
        num_tries = patience.num_tries
        with Asking() as asking:
            answer = ask(deadline - time.monotonic())
        problem = asking.problem
        if problem is None:
            problem, num_tries = check(answer), patience.num_tries_of_wrong_bytes
            if problem is None:
                return answer
        seconds = patience.wait_seconds(number, problem.retry_after_seconds)
        in_time = time.monotonic() + seconds < deadline
        if not problem.is_passing or number >= num_tries or not in_time:
            break
        on_retry(problem, seconds)
        time.sleep(seconds)
    text = problem.text
    if number > 1:
        text += f" (asked {number} times in {time.monotonic() - began:.0f} s)"
    if problem.retry_after_seconds and not in_time:
        text += f"; the server asks to wait {problem.retry_after_seconds:.0f} s"
    raise RemoteError(text, problem.is_passing, problem.status)


def read_url_if_there(url: str, *, on_retry: OnRetry = lambda problem, seconds: None) -> bytes | None:
    """Read a file that need not be there; None where it is not.

    Some stores say of a file that does not exist that it may not be read, to those who may not list the folder.

    Raises:
        RemoteError: Whether it is there cannot be told.
    """
    try:
        return read_url(url, on_retry=on_retry)
    except RemoteError as error:
        if error.http_status not in _NOT_THERE:
            raise
    return None


def _ask(url: str, start: int | None, end: int | None, patience: Patience, left: float) -> bytes:
    """Ask once, for no longer than there are seconds left."""
    filesystem, path = _filesystem(url)
    if not isinstance(filesystem, fsspec.asyn.AsyncFileSystem):  # of this machine, or an older kind of driver
        return bytes(filesystem.cat_file(path, start=start, end=end))
    options: dict[str, Any] = {}
    if "http" in filesystem.protocol:
        import aiohttp

        stall = patience.stall_seconds
        options["timeout"] = aiohttp.ClientTimeout(total=None, sock_connect=stall, sock_read=stall)
    ask = partial(filesystem._cat_file, path, start=start, end=end, **options)
    return bytes(fsspec.asyn.sync(filesystem.loop, ask, timeout=max(left, 1.0)))  # type: ignore[no-untyped-call]


def _filesystem(url: str) -> tuple[Any, str]:
    """Find what reads a URL; each process has connections of its own.

    After a fork fsspec makes new ones, and forgets those that were inherited. They are kept here all the same: if they
    were collected, the child would close connections that its parent still uses.

    Raises:
        ImportError: The driver is not installed; the message says how to.
        ValueError: It is no URL of a store.
    """
    expect_store(address_of(url))
    try:
        filesystem, path = fsspec.url_to_fs(address_of(url))  # type: ignore[no-untyped-call]
    except ImportError as error:
        scheme = Url(url).scheme
        advice = f"pip install {DRIVERS[scheme]!r}" if scheme in DRIVERS else str(error)
        raise ImportError(f"{scheme}:// needs a driver that is not installed: {advice}") from None
    _KEPT[id(filesystem)] = filesystem
    return filesystem, str(path)
