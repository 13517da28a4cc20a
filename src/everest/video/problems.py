"""What a driver says when something at a URL cannot be read: what it means, and whether trying again may help."""

import errno
import http
import re
import socket
import ssl
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any, Self

from everest.video.urls import hide_secrets

DRIVERS = {
    "http": "everest-video[remote]",
    "https": "everest-video[remote]",
    "s3": "s3fs",
    "s3a": "s3fs",
    "gs": "gcsfs",
    "gcs": "gcsfs",
    "abfs": "adlfs",
    "az": "adlfs",
    "sftp": "paramiko",
}
"""Scheme of a URL -> what is to be installed to read it."""

_ERRORS_OF_PYTHON = (OSError, EOFError, ValueError, ImportError)  # that drivers raise as well as their own
_NOT_OF_DRIVERS = ("builtins", "everest")
_PASSING_STATUSES = {408, 425, 429}
_OWN_FAULTS = 500  # from here on it is the server's fault, which passes
_LASTING_STATUSES = {501, 505}  # what it cannot do
_ADVICE = {
    401: "name and password are missing or wrong",
    403: "it may not be read with these credentials, or a signature has run out",
}
_LASTING_ERRNOS = {
    errno.EACCES,
    errno.EINVAL,
    errno.EISDIR,
    errno.ELOOP,
    errno.ENAMETOOLONG,
    errno.ENOENT,
    errno.ENOSPC,
    errno.ENOTDIR,
    errno.EPERM,
}
_WORDS = {
    "TooManyRedirects": "the server sends from one address to the next, without end",
    "ClientPayloadError": "the connection broke in the middle",
}
_LASTING_NAMES = re.compile("Credential|Auth|Invalid|Certificate|SSL|Redirect|Param|Profile|Region|error_perm")


@dataclass(frozen=True)
class Problem:
    """Why something could not be read.

    Attributes:
        text: In a few words, without secrets.
        is_passing: Asked again it may work.
        status: What a server answered with, as HTTP counts; None where none did.
        retry_after_seconds: How long the server wants to be left alone.
    """

    text: str
    is_passing: bool
    status: int | None = None
    retry_after_seconds: float | None = None


class Asking:
    """A ``with`` statement around what asks a driver: what the driver raises is kept as a problem.

    Drivers are of many projects, each with errors of its own that descend from nothing else. So every error that is
    neither defined by Python itself nor by this program is a driver's. Others of Python's than those that reading may
    well raise are defects, and go on as they are.

    Attributes:
        problem: What went wrong; None where nothing did.
    """

    def __init__(self) -> None:
        self.problem: Problem | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if not isinstance(value, Exception) or not _is_of_driver(value):
            return False
        self.problem = problem_of(value)
        return True


def _is_of_driver(error: Exception) -> bool:
    defined_in = type(error).__module__.partition(".")[0]
    return isinstance(error, _ERRORS_OF_PYTHON) or defined_in not in _NOT_OF_DRIVERS


def problem_of(error: BaseException) -> Problem:
    """Find out what an error that a driver raised means."""
    status, headers = _answer(error)
    if status is None and isinstance(error, FileNotFoundError):
        status = http.HTTPStatus.NOT_FOUND
    if status is None and isinstance(error, PermissionError):
        status = http.HTTPStatus.FORBIDDEN
    if status is not None:
        text = " ".join(filter(None, (str(int(status)), _phrase(status))))
        advice = f": {_ADVICE[status]}" if status in _ADVICE else ""
        is_passing = status in _PASSING_STATUSES or (status >= _OWN_FAULTS and status not in _LASTING_STATUSES)
        return Problem(text + advice, is_passing, int(status), _retry_after(headers))
    if isinstance(error, ImportError):
        return Problem(str(error), is_passing=False)
    return Problem(_text(error), _is_passing(error))


def _is_passing(error: BaseException) -> bool:
    """Whether something that is no answer of a server may go by."""
    chain = list(_chain(error))
    if any(isinstance(each, socket.gaierror) and each.errno == socket.EAI_NONAME for each in chain):
        return False  # nobody has this name
    if any(isinstance(each, ssl.SSLCertVerificationError) for each in chain):
        return False
    if isinstance(error, OSError):  # also those of aiohttp that are of the connection
        return error.errno not in _LASTING_ERRNOS
    return not isinstance(error, ValueError) and not _LASTING_NAMES.search(type(error).__name__)


def _answer(error: BaseException) -> tuple[int | None, Mapping[str, Any]]:
    """Find the status that a server answered with, and its headers, wherever the driver keeps them."""
    for each in _chain(error):
        response = getattr(each, "response", None)
        if isinstance(response, Mapping):  # boto's
            meta = response.get("ResponseMetadata", {})
            status, headers = meta.get("HTTPStatusCode"), meta.get("HTTPHeaders")
        else:
            # a code may be anything; that of gcsfs is a status, that of aiohttp's parser is not
            names = ("status", "status_code", *(("code",) if type(each).__module__.startswith("gcsfs") else ()))
            given = [getattr(place, name, None) for place in (each, response) for name in names]
            status = next((value for value in given if isinstance(value, int)), None)
            headers = getattr(each, "headers", None) or getattr(response, "headers", None)
        if isinstance(status, int) and status >= http.HTTPStatus.MULTIPLE_CHOICES:
            return status, headers if isinstance(headers, Mapping) else {}
    return None, {}


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Give an error and those that it came from."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)


def _phrase(status: int) -> str:
    try:
        return http.HTTPStatus(status).phrase
    except ValueError:
        return ""


def _retry_after(headers: Mapping[str, Any]) -> float | None:
    """Read how long a server wants to be left alone: seconds, or a date."""
    given = next((str(value) for name, value in headers.items() if name.lower() == "retry-after"), "").strip()
    if given.isdecimal():
        return float(given)
    try:
        return max(0.0, parsedate_to_datetime(given).timestamp() - time.time())
    except (ValueError, OverflowError, OSError):  # a year may be any number
        return None


def _text(error: BaseException) -> str:
    if isinstance(error, TimeoutError) and not error.args:
        return "no answer in time"
    if type(error).__name__ in _WORDS:
        return _WORDS[type(error).__name__]
    given = getattr(error, "strerror", None) or str(error)
    if not given or not isinstance(error, _ERRORS_OF_PYTHON):  # a driver's own may need its name to be understood
        given = ": ".join(filter(None, (type(error).__name__, str(given))))
    return hide_secrets(" ".join(str(given).split())).rstrip(".")
