"""Where the page can be reached, and what is said about it."""

import re
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from everest.cli import main
from everest.errors import ConfigError
from everest.web import serving
from everest.web.serving import is_loopback, listen, own_names, serve


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


def test_names_of_this_machine() -> None:
    assert own_names("127.0.0.1") == {"127.0.0.1", "localhost", "[::1]"}
    assert own_names("127.0.0.2") == {"127.0.0.1", "127.0.0.2", "localhost", "[::1]"}
    assert own_names("::1") == {"127.0.0.1", "localhost", "[::1]"}


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


def test_it_answers_here_and_ends_without_a_trace(tmp_path: Path) -> None:
    """Also: an address of all networks is warned of. Nothing is left in the folder for passing files."""
    pytest.importorskip("aiohttp")
    command = [sys.executable, "-m", "everest", "ui", "--port", "0", "--device", "cpu", "--host", "0.0.0.0"]
    environment = {"TMPDIR": str(tmp_path), "PYTHONPATH": ":".join(sys.path), "OMP_NUM_THREADS": "1", "PATH": ""}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, env=environment, text=True, **pipes) as server:  # type: ignore[call-overload]
        try:
            found = re.match(r"everest ui: http://0\.0\.0\.0:(\d+)  \(Ctrl-C ends it\)", server.stdout.readline())
            assert found
            assert len(list(tmp_path.glob("everest-ui-*"))) == 1
            with urllib.request.urlopen(f"http://127.0.0.1:{found[1]}/") as page:
                assert b"Drop a video here" in page.read()
        finally:
            server.send_signal(signal.SIGTERM)
        _, told = server.communicate(timeout=30)
    assert server.returncode == 0
    assert list(tmp_path.glob("everest-ui-*")) == []
    assert "can be reached from other machines" in told
    assert "Traceback" not in told
