"""What the name of a place may make the program do: which stores a URL may name, and which files a file may open.

Lists, shards and videos come from other people. A list says where its shards are; some of fsspec's file systems run
templates or read pickles on the way there (``reference``, caches of older versions), so those that a store needs are
named here and the others refused. A file that looks like a video may be a list of addresses to play, or ask to listen
for a broadcast; FFmpeg would do so.
"""

from functools import cache

STORES = frozenset(
    {"file", "local", "memory", "http", "https", "ftp", "sftp", "ssh", "s3", "s3a", "gs", "gcs", "az", "abfs", "abfss"}
    | {"adl", "hf", "hdfs", "webhdfs", "webdav", "webdavs", "smb", "oci", "oss", "tos", "box", "dropbox", "gdrive"}
)
"""Where bytes may be read from by URL."""
_BEFORE_ANOTHER = frozenset({"simplecache"})  # as in simplecache::https://
_OF_THIS_MACHINE = frozenset({"file", "local"})
_PLAYLISTS = frozenset({"concat", "dash", "hls", "imf", "lavfi", "rtp", "rtsp", "sap", "sdp", "vobsub"})
"""Of FFmpeg's formats those that open other files or addresses."""
BROADCASTS = frozenset({"rtsp", "rtsps", "rtmp", "rtmps", "rtp", "udp", "tcp", "srt"})
"""Protocols of senders that go on while nobody reads: who is too slow loses something."""
# No "file" and no "concat": what a broadcast or a playlist names is not read from this machine.
_OF_THE_NETWORK = sorted(BROADCASTS | {"rtmpt", "tls", "srtp", "http", "https", "httpproxy", "crypto", "data"})


def expect_store(url: str) -> None:
    """Refuse a URL that is not one of a store.

    Raises:
        ValueError: As for a protocol that nobody knows.
    """
    *before, last = url.split("::")
    store = last.partition("://")[0].lower()
    unknown = [name for name in map(str.lower, before) if name not in _BEFORE_ANOTHER]
    unknown += [] if store in STORES else [store]
    if unknown:
        raise ValueError(
            f"{unknown[0]!r} is not a protocol that clips are read by; accepted: {', '.join(sorted(STORES))}, and "
            "simplecache:: before one of them"
        )


def is_of_this_machine(url: str) -> bool:
    """Whether a URL names a file of the machine that reads it."""
    return url.rpartition("::")[2].partition("://")[0].lower() in _OF_THIS_MACHINE


@cache
def ffmpeg_options(*, is_file: bool) -> dict[str, str]:
    """Give the options that keep FFmpeg to the bytes of one video.

    Args:
        is_file: Whether FFmpeg opens a file by its name; else it is handed the bytes and has nothing to open.
    """
    from av import formats_available

    formats = sorted(name for name in formats_available if not _PLAYLISTS & set(name.split(",")))
    return {"protocol_whitelist": "file" if is_file else "none", "format_whitelist": ",".join(formats)}


def live_options(url: str) -> dict[str, str]:
    """Give the options that keep FFmpeg to the network where it plays a broadcast or a playlist."""
    options = {"protocol_whitelist": ",".join(_OF_THE_NETWORK)}
    if url.lower().startswith("rtsp"):
        options["rtsp_transport"] = "tcp"  # by UDP pictures come torn
    return options
