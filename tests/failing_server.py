"""A web server that fails on purpose, and remembers what it was asked."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Request:
    """What was asked: ``number`` counts all requests, ``time`` those for the same bytes, both from 0."""

    path: str
    start: int | None
    port: int  # of the client: one for each connection
    number: int
    time: int
    seconds: float
    headers: Mapping[str, str]


@dataclass(frozen=True)
class Fault:
    """How an answer goes wrong."""

    status: int = 0  # answer with it
    headers: Mapping[str, str] = field(default_factory=dict)
    drop: bool = False  # close in the middle of the body
    close: bool = False  # close without a word
    short: bool = False  # a whole answer with half of the bytes
    wrong: bool = False  # other bytes
    whole: bool = False  # the whole file, whatever part was asked for
    slow_seconds: float = 0.0  # before the answer


FaultOf = Callable[[Request], Fault | None]


class FailingServer:
    """Serves ``files``; ``fault_of`` says what goes wrong with a request."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.requests: list[Request] = []
        self.fault_of: FaultOf = lambda request: None
        self.url = ""
        self._lock = threading.Lock()

    def asked(self, ending: str = "") -> list[Request]:
        return [request for request in self.requests if request.path.partition("?")[0].endswith(ending)]

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        path, given = handler.path, handler.headers.get("Range")
        content = self.files.get(path.partition("?")[0].lstrip("/"))
        start, end = (None, None) if given is None else (int(n) for n in given.removeprefix("bytes=").split("-"))
        with self._lock:
            before = sum((r.path, r.start) == (path, start) for r in self.requests)
            port, headers = handler.client_address[1], dict(handler.headers)
            request = Request(path, start, port, len(self.requests), before, time.monotonic(), headers)
            self.requests.append(request)
        fault = self.fault_of(request) or Fault()
        time.sleep(fault.slow_seconds)
        if fault.close:
            handler.close_connection = True
            return
        if content is None or fault.status:
            self._send(handler, fault.status or 404, b"sorry", fault.headers)
            return
        is_part = start is not None and end is not None and not fault.whole
        body = content[start : end + 1] if is_part else content
        body = body[: len(body) // 2] if fault.short else body
        body = bytes(255 - byte for byte in body) if fault.wrong else body
        self._send(handler, 206 if is_part else 200, body, {}, dropped=fault.drop)

    def _send(
        self,
        handler: BaseHTTPRequestHandler,
        status: int,
        body: bytes,
        headers: Mapping[str, str],
        dropped: bool = False,
    ) -> None:
        handler.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(body[: len(body) // 2] if dropped else body)
        handler.close_connection = handler.close_connection or dropped


@contextmanager
def serving() -> Iterator[FailingServer]:
    """Serve on a free port of this machine for a while."""
    store = FailingServer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"  # connections stay open
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            store.answer(self)

        def log_message(self, *_: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: Any) -> None:  # clients that went away
            pass

    server = Server(("127.0.0.1", 0), Handler)
    store.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield store
    finally:
        server.shutdown()
        server.server_close()
