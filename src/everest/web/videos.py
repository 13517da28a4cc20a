"""The videos that people have open: uploaded ones lie in a folder of the server, and go when they are not used."""

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from everest.datasets import ClipRecord, load_data
from everest.errors import ConfigError, VideoError
from everest.texts import printable
from everest.web.clips import Clips
from everest.web.looking import VideoLook

MAX_VIDEOS = 64
IDLE_SECONDS = 30 * 60.0
MAX_NAME = 80
GONE = "this video is not here any more, after half an hour in which nobody looked at it: open it again"
EXAMPLES = (
    ("Fall/Subject1_Fall_13.mp4", "falls", 1.0),
    ("Fall/Subject1_Fall_15.mp4", "falls", 2.6),
    ("Fall/Subject2_Fall_13.mp4", "falls", 3.8),
    ("ADL/Subject1_ADL_10.mp4", "walks", 2.0),
    ("ADL/Subject1_ADL_16.mp4", "bends", 1.3),
    ("ADL/Subject2_ADL_23.mp4", "sits", 4.0),
)
"""Bundled videos of people that no model of the demo was trained on: what happens in them, and when, in seconds."""


@dataclass(eq=False)
class OpenVideo:
    """A video that somebody looks at.

    Attributes:
        key: Nobody can guess it, so it is known to the page that opened the video and no other.
        name: What to call it: as the file was called where it came from.
        look: What was seen of it.
        upload: The file that goes with it; None for an example, which stays.
        num_bytes: Of that file.
        used: When it was looked at last, on the clock of :func:`time.monotonic`.
    """

    key: str
    name: str
    look: VideoLook
    upload: Path | None = None
    num_bytes: int = 0
    used: float = field(default_factory=time.monotonic)

    def told(self, error: Exception) -> str:
        """Say what is wrong without a path of this machine."""
        return tell(error, self.look.record.path, self.name)


class Videos:
    """All videos that are open.

    Args:
        folder: Where uploaded files go: empty, and nobody else's.
        max_bytes: The largest video that is accepted.
        max_total_bytes: Of all uploaded files together, also while they are received; those that were not used for
            longest make room.
        clock: Seconds that never go back.
    """

    def __init__(
        self, folder: Path, max_bytes: int, max_total_bytes: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.folder, self.max_bytes, self.max_total_bytes = folder, max_bytes, max_total_bytes
        self.clips = Clips()
        self._clock = clock
        self._videos: dict[str, OpenVideo] = {}
        self._received: dict[Path, int] = {}  # files that are on their way, and what they may take

    def __len__(self) -> int:
        return len(self._videos)

    def new_path(self, num_bytes: int) -> Path:
        """A name for a file that is being received; chosen here, whatever it was called elsewhere.

        Room for it is made now, and taken until :meth:`add` or :meth:`give_up`.

        Raises:
            VideoError: Other files that are being received take the room.
        """
        if len(self._received) >= MAX_VIDEOS or self._num_received + num_bytes > self.max_total_bytes:
            raise VideoError("too many videos are being received: try again in a minute")
        self._make_room(num_bytes)
        path = self.folder / secrets.token_hex(16)
        self._received[path] = num_bytes
        return path

    def give_up(self, path: Path) -> None:
        """Delete a file that was being received."""
        self._received.pop(path, None)
        path.unlink(missing_ok=True)

    def add(self, name: str, look: VideoLook, upload: Path | None = None) -> OpenVideo:
        """Open a video for one page; what was not used for longest makes room for it."""
        num_bytes = upload.stat().st_size if upload is not None else 0
        key = secrets.token_urlsafe(24)
        video = OpenVideo(key, shown_name(name), look, upload, num_bytes, self._clock())
        if upload is not None:
            self._received.pop(upload, None)
        self._make_room(num_bytes)
        self._videos[key] = video
        return video

    @property
    def _num_received(self) -> int:
        return sum(self._received.values())

    def _make_room(self, num_bytes: int) -> None:
        """Close what was not used for longest, until one more video finds room."""
        oldest_first = sorted(self._videos.values(), key=lambda other: other.used)
        total = num_bytes + self._num_received + sum(other.num_bytes for other in oldest_first)
        for other in oldest_first:
            if len(self._videos) + len(self._received) < MAX_VIDEOS and total <= self.max_total_bytes:
                break
            total -= other.num_bytes
            self.close(other.key)

    def get(self, key: str) -> OpenVideo:
        """Give an open video.

        Raises:
            VideoError: There is none of this key, or no more.
        """
        if key not in self._videos:
            raise VideoError(GONE)
        video = self._videos[key]
        video.used = self._clock()
        return video

    def close(self, key: str) -> None:
        """Forget a video and delete its file; one that is not there any more is forgotten already."""
        video = self._videos.pop(key, None)
        if video is not None:
            self.clips.drop(video.look)
        if video is not None and video.upload is not None:
            video.upload.unlink(missing_ok=True)

    def close_idle(self) -> None:
        """Close videos that nobody has looked at for long."""
        limit = self._clock() - IDLE_SECONDS
        for video in [video for video in self._videos.values() if video.used < limit]:
            self.close(video.key)


def open_example(number: int, clips: Clips | None = None) -> VideoLook:
    """Open a bundled video by its place in the list of examples; clips of it are kept with others.

    Raises:
        ConfigError: There is no such place.
    """
    if not 0 <= number < len(EXAMPLES):
        raise ConfigError(f"there are examples 0 to {len(EXAMPLES) - 1}, given: {number}")
    name, _, moment = EXAMPLES[number]
    return VideoLook(ClipRecord(load_data("bundled").source.parent / name), moment, clips)


def shown_name(name: str) -> str:
    """The name of an uploaded file, without folders, on one line, not too long."""
    short = printable(name.replace("\\", "/").rsplit("/", 1)[-1]).strip() or "video"
    return short if len(short) <= MAX_NAME else f"{short[: MAX_NAME - 1]}…"


def tell(error: Exception, path: Path, name: str) -> str:
    """Say what is wrong with a file, by the name that its owner knows."""
    text = " ".join(str(error).split())
    return text.replace(str(path), name).replace(path.name, name).replace(f"{path.parent}", "")
