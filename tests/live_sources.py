"""Senders of video: what a camera on the network does, on this machine."""

import io
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import av


def as_transport_stream(path: Path) -> bytes:
    """Put the pictures of a file, as they are, into the container that broadcasts have."""
    buffer = io.BytesIO()
    repack(path, buffer, "mpegts")
    return buffer.getvalue()


def write_playlist(path: Path, folder: Path) -> None:
    """Cut a file into the pieces of a playlist, ``live.m3u8``, as web servers offer broadcasts."""
    options = {"hls_time": "1", "hls_list_size": "0", "hls_playlist_type": "vod"}
    repack(path, str(folder / "live.m3u8"), "hls", options)


def repack(
    path: Path, target: io.BytesIO | str | Path, container: str | None = None, options: dict[str, str] | None = None
) -> None:
    """Put the pictures of a file, as they are, into another container."""
    with av.open(str(path)) as source, av.open(target, "w", format=container, options=options or {}) as out:
        given = source.streams.video[0]
        stream = out.add_stream_from_template(given)
        for packet in source.demux(given):
            if packet.dts is not None:
                packet.stream = stream
                out.mux(packet)


@contextmanager
def sending(content: bytes, *, silent_seconds: float = 0.0, torn: bool = False) -> Iterator[str]:
    """Send bytes to the first who connects.

    Args:
        content: What is sent.
        silent_seconds: Nothing comes for so long after it.
        torn: The connection is reset in the end.

    Yields:
        The address.
    """
    listening = socket.create_server(("127.0.0.1", 0))

    def send() -> None:
        connection, _ = listening.accept()
        with connection:
            connection.sendall(content)
            time.sleep(silent_seconds)
            if torn:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    with listening:
        yield f"tcp://127.0.0.1:{listening.getsockname()[1]}"
    thread.join(5)


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving_folder(folder: Path) -> Iterator[str]:
    """Serve the files of a folder by HTTP; gives the address."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=folder)) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
