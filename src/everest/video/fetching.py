"""A file at a URL copied to this machine, part by part, so that it need not fit into memory."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from everest.links import open_new
from everest.video.problems import Problem
from everest.video.remote import DEFAULT_PATIENCE, OnRetry, Patience, read_url

PART_BYTES = 32 * 2**20


def fetch_file(
    url: str,
    path: Path,
    size: int | None,
    *,
    patience: Patience = DEFAULT_PATIENCE,
    on_bytes: Callable[[int], None] = lambda done: None,
    on_retry: OnRetry = lambda problem, seconds: None,
) -> int:
    """Copy a file.

    Args:
        url: What fsspec can open.
        path: Where the copy goes; what has the name is replaced.
        size: Its bytes, from :func:`~everest.video.remote.size_of_url`; None: it is asked for as a whole.
        patience: With each part.
        on_bytes: Called after each part with the bytes that are there.
        on_retry: Called before every wait.

    Returns:
        Its bytes.

    Raises:
        RemoteError: It cannot be read, or not as a whole.
        OSError: The copy cannot be written.
    """
    done = 0
    with open_new(path) as file:
        while True:
            if size is None or size <= PART_BYTES:  # as a whole: servers that know no requests for a part do as well
                start, end, expected = None, None, size
            else:
                start, end = done, min(done + PART_BYTES, size)
                expected = end - start
            check = partial(_what_is_wrong, expected)
            file.write(content := read_url(url, start, end, patience=patience, check=check, on_retry=on_retry))
            done += len(content)
            on_bytes(done)
            if end is None or end == size:
                return done


def _what_is_wrong(expected: int | None, content: bytes) -> Problem | None:
    if expected is None or len(content) == expected:
        return None
    return Problem(f"{len(content)} bytes came where {expected} were asked for", is_passing=True)
