"""What a driver says when something at a URL cannot be read: what it means, and whether trying again may help."""

import asyncio
import errno
import http
import re
import socket
import ssl
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

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

# Errors of drivers that are not those of Python. Only a driver that was imported can have raised one.
_DRIVER_ERRORS = {
    "aiohttp": ("ClientError",),
    "botocore.exceptions": ("BotoCoreError", "ClientError"),
    "gcsfs.retry": ("HttpError",),
    "google.auth.exceptions": ("GoogleAuthError",),
    "azure.core.exceptions": ("AzureError",),
    "huggingface_hub.errors": ("HfHubHTTPError",),
    "paramiko.ssh_exception": ("SSHException",),
}
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
_LASTING_NAMES = re.compile("Credential|Auth|Invalid|Certificate|SSL|Redirect|Param|Profile|Region")


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


def driver_errors() -> tuple[type[BaseException], ...]:
    """Everything that reading a URL may raise: errors of Python's own, and those of the drivers in use."""
    found: list[type[BaseException]] = [OSError, ValueError, ImportError, asyncio.TimeoutError]
    for module, names in _DRIVER_ERRORS.items():
        if module in sys.modules:
            found += [getattr(sys.modules[module], name) for name in names if hasattr(sys.modules[module], name)]
    return tuple(found)


def problem_of(error: BaseException) -> Problem:
    """Find out what an error of :func:`driver_errors` means."""
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
    except ValueError:
        return None


def _text(error: BaseException) -> str:
    if isinstance(error, TimeoutError) and not error.args:
        return "no answer in time"
    if type(error).__name__ in _WORDS:
        return _WORDS[type(error).__name__]
    given = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return hide_secrets(" ".join(str(given).split())).rstrip(".")
