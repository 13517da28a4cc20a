"""Where the page can be reached, and what is said about it."""

import asyncio
import http.client
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from everest.cli import main
from everest.errors import ConfigError
from everest.web import serving
from everest.web.looking import Choice
from everest.web.serving import listen, serve

HAS_IPV6 = socket.has_ipv6 and Path("/proc/net/if_inet6").exists()
IPV6 = pytest.mark.skipif(not HAS_IPV6, reason="no IPv6 here")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", pytest.param("::1", marks=IPV6)])
def test_an_address_is_listened_at_and_no_other(host: str) -> None:
    with listen(host, 0) as sock:
        assert sock.getsockname()[0] == host


def test_a_port_that_is_taken_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["ui", "--port", str(port)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: 127.0.0.1:")
    assert "choose another --port" in error
    with pytest.raises(ConfigError, match="--port takes 0 to 65535"):
        listen("127.0.0.1", 70000)
    for size in (0, -1, float("nan")):
        with pytest.raises(ConfigError, match="--max-megabytes"):
            serve(max_megabytes=size)


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(serving, "find_spec", lambda _: None)
    assert main(["ui"]) == 2
    assert "pip install 'everest-video[ui]'" in capsys.readouterr().err


def test_a_checkpoint_that_is_none_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ui", str(tmp_path / "nothing"), "--port", "0"]) == 2
    assert "nothing" in capsys.readouterr().err


def status(port: str, host: str) -> int:
    """Ask for the page by a name that leads there, as a browser does."""
    connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=30)
    connection.request("GET", "/", headers={"Host": host})
    return connection.getresponse().status


ALL = ["--host", "0.0.0.0", "--name", "box.lab"]
ENDS = {"SIGINT": [], "SIGTERM": ALL, "SIGHUP": []}  # a signal, and options of the server that it ends
ONE_AFTER_ANOTHER = """
import json, signal, sys
from everest.cli import main
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # whoever runs tests under nohup has it ignored
for options in json.loads(sys.argv[1]):
    assert main(["ui", "--port", "0", "--device", "cpu", *options]) == 0
    print("ended", file=sys.stderr, flush=True)
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple["subprocess.Popen[str]", Path]]:
    """A process that serves once for each signal, as starting one takes long; and its folder for passing files."""
    pytest.importorskip("aiohttp")
    folder = tmp_path_factory.mktemp("passing")
    command = [sys.executable, "-c", ONE_AFTER_ANOTHER, json.dumps(list(ENDS.values()))]
    environment = {"TMPDIR": str(folder), "PYTHONPATH": ":".join(sys.path), "OMP_NUM_THREADS": "1", "PATH": ""}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, env=environment, text=True, **pipes) as server:  # type: ignore[call-overload]
        yield server, folder
        server.kill()  # has ended, unless a test has failed


@pytest.mark.parametrize("end", ENDS)
def test_it_answers_here_and_ends_without_a_trace(end: str, server: tuple["subprocess.Popen[str]", Path]) -> None:
    """By its own names only; an address of all networks is warned of. No passing file is left behind."""
    process, folder = server
    try:
        serves_and_ends(process, folder, end)
    except BaseException:
        process.kill()  # or the next case would wait for it
        raise
    if end == list(ENDS)[-1]:
        assert process.wait(30) == 0


def serves_and_ends(process: "subprocess.Popen[str]", folder: Path, end: str) -> None:
    options = ENDS[end]
    line = process.stdout.readline()  # type: ignore[union-attr]
    found = re.fullmatch(r"everest ui: http://([\d.]+):(\d+)  \(Ctrl-C ends it\)\n", line)
    assert found
    host, port = found.groups()
    assert host == (options[1] if options else "127.0.0.1")
    assert len(list(folder.glob("everest-ui-*"))) == 1
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/") as page:
        assert b"Drop a video here" in page.read()
    assert [status(port, f"{name}:{port}") for name in ("localhost", "evil.example")] == [200, 403]
    assert [status(port, name) for name in ("192.168.0.7", "box.lab")] == ([200] * 2 if options else [403] * 2)
    for _ in range(2 if end == "SIGHUP" else 1):  # a shell and its terminal send one each
        process.send_signal(signal.Signals[end])
    told = ""
    while not told.endswith("ended\n"):
        told += (line := process.stderr.readline())  # type: ignore[union-attr]
        assert line, f"it ended for good, with {process.wait(30)}"
    assert list(folder.glob("everest-ui-*")) == []
    assert ("can be reached from other machines" in told) == bool(options)
    assert "Traceback" not in told


def test_a_question_that_nobody_waits_for_is_not_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As serve runs the application; servers of tests cancel what nobody waits for by themselves."""
    web = pytest.importorskip("aiohttp").web
    from aiohttp import ClientSession

    from everest.web.app import Page

    begun, may_end = threading.Event(), threading.Event()
    waiting: list[float] = []
    left: list[float] = []
    computed: list[float] = []
    run = Page._run

    def think(_: Page, __: object, choice: Choice) -> dict[str, None]:
        computed.append(choice.keep_ratio)
        begun.set()
        assert may_end.wait(30)
        return {}

    async def noting(thread: Any, work: Any, *given: Any) -> Any:
        ratio = getattr(given[-1], "keep_ratio", 0.0)
        waiting.append(ratio)
        try:
            return await run(thread, work, *given)
        except asyncio.CancelledError:
            left.append(ratio)
            raise

    async def story(app: Any, sock: socket.socket, options: dict[str, Any]) -> None:
        runner = web.AppRunner(app, **options)
        await runner.setup()
        await web.SockSite(runner, sock).start()
        async with asyncio.timeout(30), ClientSession(f"http://127.0.0.1:{sock.getsockname()[1]}") as session:
            key = (await (await session.post("/api/examples/0", json={})).json())["key"]

            def ask(ratio: float, what: str = "think") -> Any:
                return session.post(f"/api/videos/{key}/{what}", json={"choice": {"keep_ratio": ratio}})

            await ask(0.1, "look")
            first = asyncio.create_task(ask(0.2))
            while not begun.is_set():
                await asyncio.sleep(0.01)
            second = asyncio.create_task(ask(0.3))
            while 0.3 not in waiting:
                await asyncio.sleep(0.01)
            second.cancel()
            for _ in range(500):
                if left:
                    break
                await asyncio.sleep(0.01)
            may_end.set()
            await first
            await ask(0.4)
        await runner.cleanup()

    def run_app(app: Any, *, sock: socket.socket, **options: Any) -> None:
        known = {name: options[name] for name in ("access_log", "handler_cancellation") if name in options}
        asyncio.run(story(app, sock, known))

    monkeypatch.setattr(Page, "_think", think)
    monkeypatch.setattr(Page, "_run", staticmethod(noting))
    monkeypatch.setattr(web, "run_app", run_app)
    serve(port=0, device="cpu")
    assert computed == [0.2, 0.4]
    assert left == [0.3]
