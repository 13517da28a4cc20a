"""URLs that may be shown: what only their owner should know is kept apart from what is printed."""

import hashlib
import re
from typing import Self

_WEB = re.compile(r"(?:^|::)(?:https?|ftps?|webdavs?)://", re.IGNORECASE)  # where a "?" begins a query
_USER = re.compile(r"(?<=://)[^/?#\s]*@")
_IN_TEXT = re.compile(r"[A-Za-z][\w+.-]*://[^\s'\"<>)\]}]+")
_TO_THE_END = re.compile(r"[A-Za-z][\w+.-]*://.*", re.DOTALL)
_AS_PATH = re.compile(r"\b(https?|ftps?|webdavs?|s3a?|gc?s):/(?!/)", re.IGNORECASE)  # what pathlib makes of a URL


class Url(str):
    """A URL as people may see it: without user, password and query, of which one may be a signature.

    As text it is what may stand in messages, logs, reports and lists. Only :attr:`address` opens it.

    Attributes:
        address: All of the URL, as it was given.

    Args:
        given: The URL. One that is a :class:`Url` already stays as it is.
    """

    address: str

    def __new__(cls, given: str) -> Self:
        """Take apart what may be shown."""
        url = super().__new__(cls, given if isinstance(given, cls) else _shown(given))
        url.address = given.address if isinstance(given, cls) else str(given)
        return url

    @classmethod
    def with_mark(cls, given: str) -> Self:
        """Take a URL whose query may be all that tells it from others: eight digits of its hash are shown."""
        query = _cut(given)[1]
        mark = f"?{hashlib.sha256(query.encode()).hexdigest()[:8]}" if query else ""
        return cls._of(f"{_shown(given)}{mark}", given)

    @classmethod
    def _of(cls, shown: str, address: str) -> Self:
        url = super().__new__(cls, shown)
        url.address = address
        return url

    def __reduce__(self) -> tuple[object, ...]:
        return Url._of, (str(self), self.address)

    def beside(self, name: str) -> "Url":
        """Name something in the same folder; what this URL has of passwords and queries belongs to it as well."""
        place, query = _cut(self.address)
        return Url._of(f"{self.rpartition('/')[0]}/{name}", f"{place.rpartition('/')[0]}/{name}{query}")

    def below(self, name: str) -> "Url":
        """Name something in the folder that this URL names; likewise."""
        place, query = _cut(self.address)
        return Url._of(f"{self.rstrip('/')}/{name}", f"{place.rstrip('/')}/{name}{query}")

    @property
    def has_secret(self) -> bool:
        """Whether there is more to it than may be shown."""
        return self.address != str(self)

    @property
    def scheme(self) -> str:
        """How it is read: ``s3``, ``https`` and the like; of chained URLs the last one."""
        return self.rpartition("://")[0].rpartition("::")[2].lower()


def address_of(location: str) -> str:
    """Give what opens a URL, or a path as it is."""
    return location.address if isinstance(location, Url) else location


def hide_secrets(text: str, *, of_any_kind: bool = False) -> str:
    """Take users, passwords and queries out of all URLs in a text, such as the message of a driver.

    Args:
        text: Also with URLs that were taken for paths on the way, and so lost a stroke.
        of_any_kind: URLs are not of stores only but, say, of databases, whose passwords may stand in a query.
    """
    hide = _without_all if of_any_kind else _marked
    return _IN_TEXT.sub(lambda found: hide(found[0]), _AS_PATH.sub(r"\1://", text))


def hide_in_word(word: str, *, of_any_kind: bool = False) -> str:
    """Do so in a word of a command line or of the environment: a URL ends where it ends, whatever signs it holds."""
    hide = _without_all if of_any_kind else _marked
    return hide_secrets(_TO_THE_END.sub(lambda found: hide(found[0]), word), of_any_kind=of_any_kind)


def _marked(url: str) -> str:
    return _shown(url) + ("?..." if _cut(url)[1] else "")


def _without_all(url: str) -> str:
    place, mark, _ = url.partition("?")
    return _USER.sub("", place) + ("?..." if mark else "")


def _cut(url: str) -> tuple[str, str]:
    """Cut a URL before its query; object stores know none, and may have a question mark in a name."""
    place, mark, query = url.partition("?")
    return (place, mark + query) if mark and _WEB.search(place) else (url, "")


def _shown(url: str) -> str:
    def without(found: "re.Match[str]") -> str:
        # abfs://container@account has a container there, and no user
        return "" if ":" in found[0] or _WEB.search(url) else found[0]

    return _USER.sub(without, _cut(url)[0])
