"""One video file as a stream of decoded frames, each with its place on a constant time grid.

The grid has a position every 1/fps seconds from the first frame on, so frame i of a file of constant frame rate is at
position i, whatever the container did to its time stamps. :class:`FrameStream` decodes forward and jumps to key
frames; which frame answers to which grid position is decided in ``reader.py``.
"""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from typing import Any

from av.error import FFmpegError
from av.video.frame import VideoFrame

from everest.errors import VideoError
from everest.video.groups import AnyPacket, Clock, Groups
from everest.video.opening import Closing, count_pictures, frame_rate, open_stream, packets_of, say_reason
from everest.video.source import VideoSource
from everest.video.timing import Deadline

# Without an index, jumping pays only over more positions than a common distance of key frames.
_BLIND_JUMP = 64
# With an index the saving is known; a jump has to save this many positions to be worth its cost.
_INDEXED_JUMP = 4
# FFmpeg's name of the container whose time stamps are partly made up.
_PROGRAM_STREAM = "mpeg"
# Time stamps of pictures that follow each other step by step may span so many steps more than there are pictures.
_MAX_ROUNDING = 2
# Packets that are looked at to find out which frame is shown first.
_MAX_HEAD = 64
# How far before the wanted time a key frame is looked for, in seconds: key frames are indexed by decoding time,
# which may be before or after the time at which they are shown.
_LOOK_BACK = (0.0, 0.5, 2.0, 8.0)
# How pixels are stored that PyAV and torchcodec convert to the same RGB; with 10 bits their colours differ at edges.
_PLAIN_PIXELS = {"yuv420p", "yuvj420p", "yuv422p", "yuvj422p", "yuv444p", "yuvj444p", "gbrp", "gray"}


@dataclass(frozen=True)
class PlacedFrame:
    """A decoded frame and where it is shown.

    Attributes:
        position: Distance from the first frame in units of the average frame duration.
        frame: As decoded: not converted, not rotated.
    """

    position: float
    frame: VideoFrame


class FrameStream(Closing):
    """The frames of the first moving picture of a file, in the order in which they are shown.

    Time stamps are those of presentation, else of decoding, else the frames are counted. AVI stores no times of
    presentation: there the decoding times are used, and where frames are reordered (B-frames) these say nothing about
    a single frame, so frames are counted from the start and the file is never jumped in.

    MPEG program streams (.mpg, .mpeg, .vob) keep a time stamp for some pictures only; FFmpeg makes up the others as it
    reads, and other ones after a jump. They are never jumped in either, and as their header knows no length, all
    packets are read once to count the pictures.

    Attributes:
        path: The file.
        fps: Average frames per second, the unit of all positions.
        is_constant: The frame rate is constant as far as the header tells.
        current: The frame that was reached last.
        upcoming: The frame after it; None at the end of the file.
        num_decoded: Frames decoded so far, including those that nobody asked for.
        seek_seconds: Time spent on jumps and on finding groups of pictures.
        num_positions: Positions of the grid, where the pictures had to be counted to know it; else None.
        failure: Why nothing can be decoded after ``current``, where that is not the end of the file; else empty.

    Raises:
        VideoError: The file cannot be opened, has no moving picture, or its first frame cannot be decoded; later: the
            time is over.
    """

    def __init__(self, path: VideoSource, time_limit_seconds: float | None = None) -> None:
        self.path = path
        self.num_decoded = 0
        self.seek_seconds = 0.0
        self._deadline = Deadline(path, time_limit_seconds)
        self._head: list[AnyPacket] = []  # packets that were read before it was known how to decode
        self._groups: Groups | None = None
        self._frames: Iterator[VideoFrame] = iter(())
        self._container, self.stream = open_stream(self.path)
        try:
            self._rate = frame_rate(self.stream, path)
            self.fps = float(self._rate)
            guessed = float(self.stream.guessed_rate or self._rate)
            self.is_constant = abs(self.fps - guessed) <= 0.01 * guessed
            self.upcoming: PlacedFrame | None = None
            self._is_avi = self._container.format.name == "avi"
            self._counts = self._is_avi and self.stream.codec_context.has_b_frames
            self.num_positions = self._survey() if self._container.format.name == _PROGRAM_STREAM else None
            self._can_jump = not self._counts and self.num_positions is None
            self._can_jump_blind = True
            self._has_jumped = False
            self._origin: int | None = None
            if not self._start_by_groups():
                self._start()
        except BaseException:
            self.close()
            raise

    def _survey(self) -> int:
        """Find the length of a program stream, and whether its time stamps can be trusted to say more than the order.

        They can where pictures are shown for longer than one step of the grid, as films are that were made for
        television; they cannot where they start anew or jump by hours, as the parts of a DVD do.
        """
        num_pictures, span = count_pictures(self.path, self._deadline)
        num_steps = 0 if span is None else math.floor(span * self.fps + 0.5) + 1
        self._counts = not num_pictures + _MAX_ROUNDING < num_steps <= 2 * num_pictures
        return num_pictures if self._counts else num_steps

    def _start_by_groups(self) -> bool:
        """Decode nothing but the first frame of a freshly opened file; False where that cannot be done so simply."""
        if not self._can_jump:
            return False
        clock: Clock = "dts" if self._is_avi else "pts"
        try:
            for packet in packets_of(self._container, self.stream):
                self._head.append(packet)
                stamp, first = getattr(packet, clock), getattr(self._head[0], clock)
                is_plain = packet.size and stamp is not None and not packet.is_discard and stamp >= first
                if not is_plain or not self._head[0].is_keyframe or len(self._head) > _MAX_HEAD:
                    return False
                if self._is_avi or (packet.dts is not None and packet.dts > first):
                    break  # nothing that comes later is shown before the first packet
        except FFmpegError:
            return False
        context: Any = self.stream.codec_context
        try:
            frames = [*self._head[0].decode(), *context.decode(None)]
        except FFmpegError:
            frames = []
        context.flush_buffers()
        self.num_decoded += len(frames)
        if len(frames) != 1 or getattr(frames[0], clock) != first:
            return False
        self._origin, self._count = first, 1
        self.current = PlacedFrame(0.0, frames[0])
        ticks = float(1 / (self._time_base * self._rate))
        self._groups = Groups(
            self._container,
            self.stream,
            tuple(self._head),
            origin=first,
            ticks=ticks,
            clock=clock,
            deadline=self._deadline,
        )
        return True

    def pick(self, latest: Sequence[float]) -> list[PlacedFrame] | None:
        """Find single frames by decoding only what they depend on.

        Args:
            latest: Positions, rising: each asks for the last frame that is shown at or before it.

        Returns:
            One frame for each; None where the file has to be decoded frame by frame, with :meth:`go_near` and
            :meth:`advance`.
        """
        if self._groups is None:
            return None
        before = self._groups.num_decoded, self._groups.seek_seconds
        found = self._groups.pick([self._stamp(position) for position in latest])
        self.num_decoded += self._groups.num_decoded - before[0]
        self.seek_seconds += self._groups.seek_seconds - before[1]
        self._head = []
        if found is None:
            return None
        placed = {id(f): PlacedFrame(self._position(f.stamp), f.frame) for f in found}
        return [placed[id(f)] for f in found]

    def _decode_all(self) -> None:
        """Go over to decoding frame by frame, from the first one on."""
        if self._groups is None:
            return
        self._groups.close()
        self._groups = None
        if self._head:
            self._start()
        else:
            self._rewind()

    def _start(self) -> None:
        """Decode the first frame of a freshly opened file, and the one after it."""
        self._count = 0
        self._frames = self._decode(self._head)
        self._head = []
        first = self._next()
        if first is None:
            raise VideoError(f"{self.path}: no frame can be decoded ({self.failure or 'there is none'})")
        self.current = self.upcoming = first
        self.upcoming = self._next()

    def _decode(self, head: Sequence[AnyPacket] = ()) -> Iterator[VideoFrame]:
        """Decode packets that were read already, and then from wherever the container stands."""
        self.failure = ""
        try:
            for packet in chain(head, packets_of(self._container, self.stream)):
                for frame in packet.decode():
                    self.num_decoded += 1
                    yield frame
        except FFmpegError as error:
            self.failure = say_reason(error)

    def _next(self) -> PlacedFrame | None:
        """Decode one frame and place it; frames whose time runs backward are not shown and are passed over."""
        for frame in self._frames:
            self._deadline.check()
            position = self._place(frame)
            self._count += 1
            newest = self.upcoming
            if newest is None or position > newest.position:
                return PlacedFrame(position, frame)
        return None

    def _place(self, frame: VideoFrame) -> float:
        """Compute the grid position of a frame."""
        stamp = frame.pts if frame.pts is not None and not self._is_avi else frame.dts
        if stamp is None:
            stamp = frame.pts
        if self._origin is None and not self._counts:
            self._counts = stamp is None
            self._can_jump = self._can_jump and stamp is not None
            self._origin = stamp
        if self._counts:
            return float(self._count)
        if stamp is None:  # a single frame without a time follows the one before
            return self.upcoming.position + 1.0 if self.upcoming else 0.0
        return self._position(stamp)

    def _position(self, stamp: int) -> float:
        """Convert a time stamp to a grid position."""
        return float((stamp - (self._origin or 0)) * self._time_base * self._rate)

    @property
    def _time_base(self) -> Fraction:
        return self.stream.time_base or 1 / self._rate

    @property
    def has_good_times(self) -> bool:
        """Whether the container keeps the time of presentation of every frame: mp4, mov, mkv and webm do."""
        return not self._counts and any(name in self._container.format.name for name in ("mp4", "matroska"))

    @property
    def has_plain_pixels(self) -> bool:
        """Whether all decoders turn the pictures into the same RGB; in others they fill in colours differently."""
        context = self.stream.codec_context
        return context.pix_fmt in _PLAIN_PIXELS and context.width % 2 == context.height % 2 == 0

    @property
    def container_seconds(self) -> float | None:
        """Length of the whole file, sound included; None where the header does not state it."""
        return self._container.duration / 1e6 if self._container.duration else None

    @property
    def current_end(self) -> float:
        """Position at which ``current`` stops being shown; at least one step after its own."""
        ticks = self.current.frame.duration or 0
        return self.current.position + max(1.0, float(ticks * self._time_base * self._rate))

    def advance(self) -> bool:
        """Go to the next frame.

        Returns:
            False at the end of the file, where nothing changes.
        """
        self._decode_all()
        if self.upcoming is None:
            return False
        self.current = self.upcoming
        self.upcoming = self._next()
        return True

    def go_near(self, position: float) -> None:
        """Go to a frame at or before a position, by a jump to a key frame where that saves decoding.

        Args:
            position: Where the wanted frame is. Afterwards ``current`` is at or before it, or is the first frame.
        """
        self._decode_all()
        is_behind = position < self.current.position
        if self._can_jump and (is_behind or self._jump_pays(position)):
            started = time.perf_counter()
            has_jumped = self._jump(position)
            self.seek_seconds += time.perf_counter() - started
            if has_jumped:
                return
        if position < self.current.position:
            self._rewind()

    def _jump_pays(self, position: float) -> bool:
        """Tell whether a key frame lies well between here and a position ahead."""
        if self.upcoming is None:
            return False
        ahead = position - self.upcoming.position
        entries: Any = getattr(self.stream, "index_entries", ())  # PyAV before version 17 lacks it
        # Only these two containers load their whole index when they are opened.
        if len(entries) > 1 and (self._is_avi or "mp4" in self._container.format.name):
            nearest = entries.search_timestamp(self._stamp(position), backward=True)
            if nearest < 0:
                return False
            # mp4 indexes by time of decoding, which is at most a few frames before that of showing.
            key = float((entries[nearest].timestamp - (self._origin or 0)) * self._time_base * self._rate)
            return key - self.upcoming.position >= _INDEXED_JUMP
        return self._can_jump_blind and ahead >= _BLIND_JUMP

    def _stamp(self, position: float) -> int:
        """Convert a position to the time base of the stream, rounded down."""
        return (self._origin or 0) + math.floor(Fraction(position) / self._rate / self._time_base)

    def _jump(self, position: float) -> bool:
        """Seek to the last key frame that is shown at or before a position; False where the file does not allow it."""
        before = self.current.position
        for seconds in _LOOK_BACK:
            stamp = max(self._stamp(position - seconds * self.fps), self._origin or 0)
            try:
                self._container.seek(stamp, stream=self.stream, backward=True)
                self._has_jumped = True
                self.upcoming = None
                self._frames = self._decode()
            except FFmpegError:
                break
            landed = self._next()
            if landed is not None and landed.position <= position:
                if before <= position and landed.position <= before:
                    self._can_jump_blind = False  # nothing was saved: key frames are rare in this file
                self.current = self.upcoming = landed
                self.upcoming = self._next()
                return True
            if stamp <= (self._origin or 0):
                break
        self._can_jump = False
        self._rewind()
        return True

    def jump_no_more(self) -> bool:
        """Go back to the start, to decode on from there: a damaged file may have more frames than a jump finds.

        Returns:
            False where nothing was ever jumped over, and nothing changes.
        """
        if not self._has_jumped:
            return False
        self._can_jump = self._has_jumped = False
        self._rewind()
        return True

    def _rewind(self) -> None:
        """Open the file again: the one way back to the start that every container allows."""
        self._container.close()
        self._container, self.stream = open_stream(self.path)
        self.upcoming = None
        self._start()

    def close(self) -> None:
        """Close the file. Closing twice is allowed."""
        # Generators refer to this object: without a cut, frames and packets would stay until the garbage collector
        # comes round, and memory would grow with the number of files.
        self._frames = iter(())
        if self._groups is not None:
            self._groups.close()
        self._groups = None
        self._head = []
        self._container.close()
