"""A web server of this machine that is as far away as one wants: it waits before it answers, and sends slowly."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

_CHUNK_BYTES = 2**16


@dataclass
class FarAway:
    """A folder behind a server.

    Attributes:
        folder: Its files are served, and nothing below or above it.
        latency_seconds: Before each answer.
        bytes_per_second: Of each connection.
        url: Where it is.
        num_requests: For files that are there, so far.
        num_bytes: Sent so far.
    """

    folder: Path
    latency_seconds: float = 0.0
    bytes_per_second: float = float("inf")
    url: str = ""
    num_requests: int = 0
    num_bytes: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        """Answer a request for a file, or for a part of one."""
        time.sleep(self.latency_seconds)
        path = self.folder / handler.path.rpartition("/")[2]
        if not path.is_file():
            handler.send_error(HTTPStatus.NOT_FOUND)
            return
        size, asked = path.stat().st_size, handler.headers.get("Range", "").removeprefix("bytes=")
        first, _, last = asked.partition("-")
        start, end = int(first or 0), min(int(last or size - 1), size - 1) + 1
        with self._lock:
            self.num_requests += 1
        handler.send_response(HTTPStatus.PARTIAL_CONTENT if asked else HTTPStatus.OK)
        handler.send_header("Content-Length", str(end - start))
        handler.send_header("Accept-Ranges", "bytes")
        handler.send_header("Content-Type", "application/octet-stream")
        if asked:
            handler.send_header("Content-Range", f"bytes {start}-{end - 1}/{size}")
        handler.end_headers()
        if handler.command == "GET":
            self._send(handler, path, start, end)

    def _send(self, handler: BaseHTTPRequestHandler, path: Path, start: int, end: int) -> None:
        began = time.perf_counter()
        with path.open("rb") as file:
            file.seek(start)
            for place in range(start, end, _CHUNK_BYTES):
                handler.wfile.write(file.read(min(_CHUNK_BYTES, end - place)))
                with self._lock:
                    self.num_bytes += min(_CHUNK_BYTES, end - place)
                late = (place - start) / self.bytes_per_second - (time.perf_counter() - began)
                time.sleep(max(0.0, late))


@contextmanager
def serve(folder: Path, latency_seconds: float = 0.0, bytes_per_second: float = float("inf")) -> Iterator[FarAway]:
    """Serve a folder on a free port of this machine, to this machine only, for as long as the block lasts."""
    place = FarAway(folder, latency_seconds, bytes_per_second)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"  # connections stay open
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            place.answer(self)

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, *_: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: Any) -> None:  # a client that went away
            pass

    with Server(("127.0.0.1", 0), Handler) as server:
        place.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield place
        finally:
            server.shutdown()
