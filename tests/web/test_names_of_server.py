"""What a server is called, and what it is not."""

import socket

import pytest

from everest.errors import ConfigError
from everest.web.names import LOOPBACK, Names, is_loopback, names_of

EVIL = ("evil.example", "127.0.0.1.evil.example", "[::1].evil.example", "localhost.evil", "", ":80", "1:2:3", "0x7f.1")


@pytest.mark.parametrize(
    ("host", "is_own"),
    [
        ("127.0.0.1", True),
        ("127.1.2.3", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.0.7", False),
        ("example.org", False),
    ],
)
def test_loopback_is_known(host: str, is_own: bool) -> None:
    assert is_loopback(host) is is_own


@pytest.mark.parametrize(
    ("host", "address", "further"),
    [
        ("127.0.0.1", "127.0.0.1", set()),
        ("localhost", "127.0.0.1", set()),
        ("127.0.0.2", "127.0.0.2", {"127.0.0.2"}),
        ("::1", "::1", set()),
        ("192.168.0.7", "192.168.0.7", {"192.168.0.7"}),
        ("Box.Lab", "192.168.0.7", {"box.lab", "192.168.0.7"}),
        ("2001:db8::7", "2001:db8::7", {"[2001:db8::7]"}),
    ],
)
def test_an_address_answers_to_its_names_only(host: str, address: str, further: set[str]) -> None:
    names = names_of(host, address)
    assert names == Names(LOOPBACK | further)
    assert all(names.include(name) and names.include(f"{name.upper()}:8000") for name in names.known)
    for name in (*EVIL, "10.1.1.1", "[fe80::1]:80", socket.gethostname() + ".x"):
        assert not names.include(name)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "0"])
def test_all_networks_are_reached_by_numbers_and_own_names(host: str) -> None:
    names = names_of(host, "::" if ":" in host else "0.0.0.0", ["Box.lab.example"])
    own = ("192.168.0.7", "[fe80::1]:7860", "localhost:7860", socket.gethostname(), "box.lab.example:80")
    assert [name for name in own if not names.include(name)] == []
    assert [name for name in EVIL if names.include(name)] == []
    assert not names.include("other.lab.example")


@pytest.mark.parametrize("name", ["", "http://box", "box:80", "a b", "*", ".lab"])
def test_what_is_no_name_is_an_error(name: str) -> None:
    with pytest.raises(ConfigError, match="--name takes a name"):
        names_of("127.0.0.1", "127.0.0.1", [name])
