"""Start the page: models, a place for uploads, an address."""

import os
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from everest.config.serving import UI_HOST, UI_MEGABYTES, UI_PORT
from everest.errors import ConfigError
from everest.web.models import load_lookers
from everest.web.names import in_address, is_loopback, names_of
from everest.web.videos import Videos

TOTAL_OF_LARGEST = 8  # all uploads together, in videos of the largest size
WARNING = (
    "warning: {host} can be reached from other machines: whoever reaches port {port} can use this page and have videos "
    "decoded here. There is no password and no encryption; leave out --host to serve this machine alone."
)


def serve(
    checkpoints: Sequence[str | Path] = (),
    *,
    host: str = UI_HOST,
    port: int = UI_PORT,
    device: str = "auto",
    max_megabytes: float = UI_MEGABYTES,
    names: Sequence[str] = (),
    say: Callable[[str], None] = print,
) -> None:
    """Serve the page until Ctrl-C, SIGTERM, or the end of the terminal.

    Args:
        checkpoints: A pre-trained one, a classifier, one of each, or none.
        host: The address to listen at.
        port: Of the page; 0 takes a free one.
        device: Where models compute.
        max_megabytes: The largest video that is accepted.
        names: What this machine is called where it is reached, beside its address and its own name.
        say: Takes the address of the page, once it answers.

    Raises:
        ConfigError: aiohttp is missing; the address cannot be used; the size or a name is none.
        WeightsError: A checkpoint cannot be used.
    """
    if find_spec("aiohttp") is None:
        raise ConfigError("everest ui needs aiohttp: pip install 'everest-video[ui]'")
    if not 0 < max_megabytes < 1e6:
        raise ConfigError(f"--max-megabytes must lie above 0 and below a million, given: {max_megabytes:g}")
    from aiohttp import web

    from everest.web.app import Page

    with listen(host, port) as sock:
        where, port = sock.getsockname()[:2]
        own = names_of(host, where, names)
        lookers = load_lookers(checkpoints, device)
        if not is_loopback(where):
            print(WARNING.format(host=where, port=port), file=sys.stderr)
        with tempfile.TemporaryDirectory(prefix="everest-ui-") as folder, ended_with_its_terminal():
            max_bytes = int(max_megabytes * 1e6)
            videos = Videos(Path(folder), max_bytes, TOTAL_OF_LARGEST * max_bytes)
            web.run_app(
                Page(lookers, videos, own).app(),
                sock=sock,
                print=lambda *_: say(f"everest ui: http://{in_address(where)}:{port}  (Ctrl-C ends it)"),
                access_log=None,
                handler_cancellation=True,
                shutdown_timeout=2.0,
            )


def listen(host: str, port: int) -> socket.socket:
    """Take the address, before anything large is loaded.

    Raises:
        ConfigError: It cannot be had.
    """
    if not 0 <= port < 2**16:
        raise ConfigError(f"--port takes 0 to 65535, given: {port}")
    try:
        family, *_, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(where[:2], family=family)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ConfigError(f"{host}:{port} cannot be listened at ({reason}): choose another --port or --host") from None


@contextmanager
def ended_with_its_terminal() -> Iterator[None]:
    """Take the end of the terminal for SIGTERM, so that nothing is left behind; under nohup it stays ignored."""
    hang_up = getattr(signal, "SIGHUP", None)
    if hang_up is None or signal.getsignal(hang_up) == signal.SIG_IGN:
        yield
        return

    def end(*_: object) -> None:
        signal.signal(hang_up, signal.SIG_IGN)  # shells send another one, which must not break off tidying up
        os.kill(os.getpid(), signal.SIGTERM)

    before = signal.signal(hang_up, end)
    try:
        yield
    finally:
        signal.signal(hang_up, before)
