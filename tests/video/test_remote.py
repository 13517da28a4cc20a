"""Bytes at URLs: what passes is asked for again, what does not is said at once, and only the right bytes come out."""

import email.utils
import hashlib
import os
import random
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing import get_context

import fsspec
import pytest
import torch

from everest.errors import RemoteError, VideoError
from everest.video import remote
from everest.video.remote import Patience, read_url, read_url_if_there
from everest.video.source import ShardMember, fetch_member, open_member
from everest.video.urls import Url
from failing_server import FailingServer, Fault, FaultOf, serving

CONTENT = random.Random(0).randbytes(3000)
QUICK = Patience(total_seconds=4.0, first_wait_seconds=0.01, longest_wait_seconds=0.05, stall_seconds=0.3)


@pytest.fixture
def server() -> Iterator[FailingServer]:
    with serving() as found:
        found.files["shard.tar"] = CONTENT
        yield found


def member(server: FailingServer, **changed: object) -> ShardMember:
    place = {"shard": f"{server.url}/shard.tar", "name": "a.mp4", "offset": 100, "num_bytes": 1900}
    return ShardMember(**{**place, "sha256": hashlib.sha256(CONTENT[100:2000]).hexdigest(), **changed})


def at_first(fault: Fault, times: int = 2) -> FaultOf:
    return lambda request: fault if request.time < times else None


@pytest.mark.parametrize(
    "fault",
    [
        Fault(status=500),
        Fault(status=503),
        Fault(status=429),
        Fault(status=408),
        Fault(drop=True),
        Fault(close=True),
        Fault(short=True),
        Fault(wrong=True),
        Fault(slow_seconds=0.6),
    ],
    ids=lambda fault: str({k: v for k, v in vars(fault).items() if v}),
)
def test_what_passes_is_asked_for_again(server: FailingServer, fault: Fault) -> None:
    server.fault_of = at_first(fault)
    waited: list[float] = []
    found = fetch_member(member(server), QUICK, lambda problem, seconds: waited.append(seconds))
    assert found == CONTENT[100:2000]
    assert 1 <= len(waited) <= 2  # a request whose connection was closed is repeated by the client itself
    assert len(server.requests) >= 3


@pytest.mark.parametrize(
    ("status", "told"),
    [
        (404, "404 Not"),
        (403, "403 Forbidden"),
        (401, "401 Unauthorized"),
        (400, "400 Bad"),
        (501, "501 Not Implemented"),
    ],
)
def test_what_does_not_pass_is_said_at_once(server: FailingServer, status: int, told: str) -> None:
    server.fault_of = lambda request: Fault(status=status)
    with pytest.raises(VideoError, match=f"shard.tar/a.mp4: the shard cannot be read: {told}") as raised:
        open_member(member(server))
    assert len(server.requests) == 1
    assert not raised.value.is_passing


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (Fault(status=503), "503 Service Unavailable"),
        (Fault(drop=True), "broke in the middle"),
        (Fault(slow_seconds=0.5), "no answer in time"),
        (Fault(short=True), "ends early: 950 of 1900 bytes"),
        (Fault(wrong=True), "was the shard replaced"),
    ],
)
def test_tries_are_limited_in_number_and_time(server: FailingServer, fault: Fault, told: str) -> None:
    server.fault_of = lambda request: fault
    began = time.monotonic()
    with pytest.raises(RemoteError, match=rf"{told}.*\(asked [3-5] times in") as raised:
        fetch_member(member(server), Patience(1.5, 5, 3, 0.02, 0.05, 0.2))
    assert time.monotonic() - began < 3
    assert raised.value.is_passing
    assert 3 <= len(server.requests) <= 5


def test_waits_grow_and_are_not_all_the_same() -> None:
    patience = Patience(first_wait_seconds=1, longest_wait_seconds=6)
    waits = [[patience.wait_seconds(number, None) for _ in range(50)] for number in range(1, 6)]
    for longest, found in zip((1, 2, 4, 6, 6), waits, strict=True):
        assert longest / 2 <= min(found) < max(found) <= longest
        assert len(set(found)) > 40
    assert patience.wait_seconds(1, 9.0) == 9.0


def test_asking_again_draws_no_random_numbers_of_the_run(server: FailingServer) -> None:
    server.fault_of = at_first(Fault(status=503), 3)
    before = random.getstate(), torch.get_rng_state()
    fetch_member(member(server), QUICK)
    assert before[0] == random.getstate()
    assert torch.equal(before[1], torch.get_rng_state())


@pytest.mark.parametrize("given", ["1", "date"])
def test_a_server_is_left_alone_for_as_long_as_it_asks(server: FailingServer, given: str) -> None:
    given = email.utils.formatdate(time.time() + 2, usegmt=True) if given == "date" else given
    server.fault_of = at_first(Fault(status=429, headers={"Retry-After": given}), 1)
    fetch_member(member(server), QUICK)
    first, second = server.requests
    assert 0.9 < second.seconds - first.seconds < 3


def test_a_server_that_asks_for_too_long_is_not_waited_for(server: FailingServer) -> None:
    server.fault_of = lambda request: Fault(status=503, headers={"retry-after": "3600"})
    with pytest.raises(RemoteError, match=r"503 .*; the server asks to wait 3600 s"):
        fetch_member(member(server), QUICK)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "given", ["Mon, 01 Jan 99999999999999999999 00:00:00 GMT", "Mon, 01 Jan 0001 00:00:00", "soon"]
)
def test_a_time_to_wait_that_is_none_is_not_looked_at(server: FailingServer, given: str) -> None:
    server.fault_of = at_first(Fault(status=503, headers={"Retry-After": given}))
    assert fetch_member(member(server), QUICK) == CONTENT[100:2000]
    assert len(server.requests) == 3


@pytest.mark.parametrize(("answer", "told"), [("421 Too many users", "error_temp"), ("530 Who are you?", "error_perm")])
def test_what_other_drivers_say_is_a_problem_like_any_other(answer: str, told: str) -> None:
    """FTP has errors of its own, which are none of Python's; this one is in its standard library."""
    num_asked = 0

    def serve(server: socket.socket) -> None:
        nonlocal num_asked
        with suppress(OSError):  # the end of the test
            while True:
                connection, _ = server.accept()
                num_asked += 1
                connection.sendall(f"{answer}\r\n".encode())
                connection.close()

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=serve, args=(server,), daemon=True).start()
        with pytest.raises(RemoteError, match=f"{told}: {answer[:8]}") as raised:
            read_url(f"ftp://127.0.0.1:{server.getsockname()[1]}/x.tar", 0, 10, patience=QUICK)
    assert raised.value.is_passing == (told == "error_temp")
    assert num_asked == (QUICK.num_tries if raised.value.is_passing else 1)


def test_a_defect_is_no_problem_of_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> bytes:
        raise KeyError("ours")

    monkeypatch.setattr(remote, "_ask", fail)
    with pytest.raises(KeyError, match="ours"):
        read_url("https://nowhere/x")


def test_a_server_that_knows_no_parts_of_files_is_named(server: FailingServer) -> None:
    server.fault_of = lambda request: Fault(whole=True)
    with pytest.raises(VideoError, match="3000 bytes where 1900 were asked for"):
        fetch_member(member(server), QUICK)
    assert len(server.requests) == 1


def test_a_part_without_a_hash_is_measured_by_its_length(server: FailingServer) -> None:
    assert fetch_member(member(server, sha256=""), QUICK) == CONTENT[100:2000]
    with pytest.raises(VideoError, match="ends early: 1000 of 1900 bytes"):
        fetch_member(member(server, sha256="", offset=2000), QUICK)


def test_secrets_are_sent_and_never_told(server: FailingServer) -> None:
    url = Url(f"{server.url.replace('://', '://user:hunter2@')}/shard.tar?sig=TOKEN")
    secret = member(server, shard=url)
    assert fetch_member(secret, QUICK) == CONTENT[100:2000]
    assert server.requests[0].path == "/shard.tar?sig=TOKEN"
    assert server.requests[0].headers["Authorization"].startswith("Basic ")
    for fault in (
        Fault(status=404),
        Fault(status=403),
        Fault(status=500),
        Fault(status=418),
        Fault(close=True),
        Fault(short=True),
    ):
        server.fault_of = lambda request, fault=fault: fault
        with pytest.raises(VideoError) as raised:
            fetch_member(secret, QUICK)
        for told in (str(raised.value), repr(raised.value), repr(secret)):
            assert "hunter2" not in told
            assert "TOKEN" not in told


def test_missing_drivers_and_hosts_say_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(url: str) -> None:
        raise ImportError("Install s3fs to access S3")

    with pytest.raises(RemoteError, match="'nosuch' is not a protocol"):
        read_url("nosuch://x")

    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(fsspec, "url_to_fs", missing)
    for scheme, package in (("s3", "s3fs"), ("gs", "gcsfs"), ("https", "everest-video")):
        told = f"{scheme}:// needs a driver that is not installed: pip install '{package}"
        with pytest.raises(RemoteError, match=told):
            read_url(f"{scheme}://x/y")
    monkeypatch.setattr(remote, "_ask", unknown)
    with pytest.raises(RemoteError, match=r"Name or service not known$"):  # asked once
        read_url("https://nowhere/x")


def test_only_what_is_not_there_is_not_there(server: FailingServer) -> None:
    assert read_url_if_there(f"{server.url}/shard.tar") == CONTENT
    assert read_url_if_there(f"{server.url}/nothing") is None
    server.fault_of = lambda request: Fault(status=403)  # as stores say to those who may not list
    assert read_url_if_there(f"{server.url}/shard.tar") is None
    server.fault_of = at_first(Fault(status=503), 1)
    assert read_url_if_there(f"{server.url}/shard.tar") == CONTENT
    server.fault_of = lambda request: Fault(status=400)
    with pytest.raises(RemoteError, match="400"):
        read_url_if_there(f"{server.url}/shard.tar")


def read_in_child(url: str, start: int) -> None:
    for _ in range(2):
        read_url(url, start, start + 10)
    os._exit(0)


def test_forked_processes_have_connections_of_their_own(server: FailingServer) -> None:
    url = f"{server.url}/shard.tar"

    def ports(start: int) -> set[int]:
        return {request.port for request in server.requests if request.start == start}

    read_url(url, 0, 10)
    children = [get_context("fork").Process(target=read_in_child, args=(url, 100 * number)) for number in (1, 2)]
    for child in children:
        child.start()
    began = time.monotonic()
    read_url(url, 0, 10)  # over the connection that was open when they were forked
    for child in children:
        child.join(20)
        assert child.exitcode == 0
    read_url(url, 0, 10)
    assert time.monotonic() - began < 15
    assert len(ports(0)) == len(ports(100)) == len(ports(200)) == 1
    assert not ports(0) & (ports(100) | ports(200))
    assert not ports(100) & ports(200)
