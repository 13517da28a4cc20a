"""What a server may be called: a page from elsewhere could have its own name lead here and read the answers."""

import ipaddress
import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass

from everest.errors import ConfigError

LOOPBACK = frozenset({"127.0.0.1", "localhost", "[::1]"})


@dataclass(frozen=True)
class Names:
    """The names that a server answers to.

    Attributes:
        known: As they stand in a ``Host`` header, in lower case and without a port: a tunnel may have another one.
        any_address: Also every number. Nobody can have a number lead elsewhere, as a name can be made to.
    """

    known: frozenset[str] = LOOPBACK
    any_address: bool = False

    def include(self, host: str) -> bool:
        """Whether a ``Host`` header names this server."""
        name, _, port = host.lower().rpartition(":")
        name = name if name and port.isdecimal() else host.lower()
        return name in self.known or (self.any_address and _is_address(name))


def names_of(host: str, address: str, others: Sequence[str] = ()) -> Names:
    """Say what a server is called.

    Args:
        host: Where it was told to listen.
        address: Where it listens.
        others: What else it is called, in networks that it cannot know of.

    Raises:
        ConfigError: One of the others is no name.
    """
    for name in others:
        if not re.fullmatch(r"[\w-]+(\.[\w-]+)*", name, re.ASCII):
            message = (
                "--name takes a name as it stands in an address, such as box.lab.example, without http:// and port"
            )
            raise ConfigError(f"{message}; given: {name!r}")
    known = {*LOOPBACK, in_address(host), in_address(address), *map(str.lower, others)}
    if not ipaddress.ip_address(address).is_unspecified:
        return Names(frozenset(known))
    return Names(frozenset({*known, socket.gethostname().lower()} - {""}), any_address=True)


def in_address(host: str) -> str:
    """Write a host as an address of a page does."""
    return f"[{host}]" if ":" in host else host.lower()


def is_loopback(host: str) -> bool:
    """Whether an address leads to this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return True
