"""The fast way to single frames: only what they depend on is decoded.

A video is a row of groups of pictures, each of which starts with a key frame and depends on no other. Wanted frames
are found group by group: its packets are read, their time stamps tell which of them answer, packets after the last
that is wanted are never decoded, and pictures that nobody wants and no other picture refers to are passed over. Where
a file is not made so, or anything is out of the ordinary, :meth:`Groups.pick` gives up, and the caller decodes frame by
frame (see ``decoding.py``), which gives the same frames.
"""

import time
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Literal

from av.container import InputContainer
from av.error import FFmpegError
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from everest.video.opening import packets_of
from everest.video.timing import Deadline

# Packets of a group that are held in memory; longer groups are decoded frame by frame.
_MAX_PACKETS = 2000
# Packets after a key frame that are looked at for pictures that are shown before it.
_MAX_LEADING = 32
# A jump costs about as much as reading this many packets and throwing them away.
_JUMP_PACKETS = 24
# How far before the wanted time a key frame is looked for, in frames: key frames are indexed by time of decoding.
_LOOK_BACK = (0, 16, 64)

Clock = Literal["pts", "dts"]
AnyPacket = Any  # av.Packet, whose type parameter differs between versions of PyAV


@dataclass(frozen=True)
class Found:
    """A frame that was wanted, as it came from the decoder, and its time stamp in units of the stream."""

    stamp: int
    frame: VideoFrame


@dataclass
class _Group:
    """The packets from one key frame to the next, in the order of decoding, each with its time stamp."""

    packets: list[tuple[int, AnyPacket]]
    next_key: int | None = None  # time stamp of the next group; None at the end of the file
    is_partial: bool = False  # reading stopped early, because no later packet can answer

    @property
    def start(self) -> int:
        return self.packets[0][0]

    def holds(self, stamp: int) -> bool:
        return self.start <= stamp and (self.next_key is None or stamp < self.next_key)


class _Irregular(Exception):  # noqa: N818  # not an error: a reason to take the plain way
    """The file is not a row of independent groups."""


class Groups:
    """Reads single frames of an open file, in rising order of their time stamps.

    Args:
        container: Just opened, or read up to the packets in ``head``.
        stream: The moving picture, with presentation time stamps.
        head: Packets that were read already, from the first on.
        origin: Time stamp of the first frame that is shown.
        ticks: Units of the time stamps from one frame to the next.
        clock: Which time stamps are right: those of presentation or those of decoding.
        deadline: Looked at with every packet.

    Attributes:
        num_decoded: Frames that the decoder has given out.
        seek_seconds: Time spent on finding groups.
    """

    def __init__(
        self,
        container: InputContainer,
        stream: VideoStream,
        head: Sequence[AnyPacket],
        *,
        origin: int,
        ticks: float,
        clock: Clock = "pts",
        deadline: Deadline,
    ) -> None:
        self.num_decoded = 0
        self.seek_seconds = 0.0
        self._deadline = deadline
        self._container, self._stream = container, stream
        self._context: Any = stream.codec_context
        self._origin, self._ticks = origin, ticks
        self._stamp: Callable[[Any], int | None] = attrgetter(clock)
        self._can_jump = True
        self._packets = self._chain(head)
        self._ahead: deque[AnyPacket] = deque()  # packets that were looked at, and are still to be read
        self._pending: AnyPacket | None = self._next()  # the key frame of the next group
        self._group: _Group | None = None

    def pick(self, latest: Sequence[int]) -> list[Found] | None:
        """Find the frames that are on show at given times.

        Args:
            latest: Time stamps, rising: each asks for the last frame whose own is not above it.

        Returns:
            One frame for each; the same object where the same frame answers twice. None where this file has to be
            decoded frame by frame.
        """
        found: list[Found] = []
        try:
            while len(found) < len(latest):
                started = time.perf_counter()
                group = self._group_of(latest[len(found)], latest[-1])
                self.seek_seconds += time.perf_counter() - started
                rows = [t for t in latest[len(found) :] if group.next_key is None or t < group.next_key]
                found += self._decode(group, rows)
        except (_Irregular, FFmpegError):
            return None
        finally:
            self._context.skip_frame = "DEFAULT"
        return found

    def close(self) -> None:
        """Forget all packets. The container stays open."""
        self._packets = iter(())
        self._ahead.clear()
        self._pending = self._group = None

    def _group_of(self, first: int, last: int) -> _Group:
        """Read the group that holds a time stamp, jumping ahead or back where it is far."""
        group = self._group
        if group is not None and group.is_partial and group.start <= first:
            group = self._read_group(last, group.packets)  # the later part may be needed this time
        if group is not None and group.holds(first):
            return group
        if group is not None and first < group.start:
            self._jump(first)
        while True:
            if self._is_far(first):
                self._jump(first)
            group = self._read_group(last, [])
            if first < group.start:
                raise _Irregular
            if group.holds(first):
                return group

    def _read_group(self, last: int, packets: list[tuple[int, AnyPacket]]) -> _Group:
        """Read on to the next key frame, or until no packet to come can be shown before ``last``."""
        group = self._group = _Group(packets)
        if self._pending is not None:
            self._append(group, self._pending)
            self._pending = None
        while (packet := self._next()) is not None:
            if packet.is_keyframe and packets:
                self._pending, group.next_key = packet, self._stamp(packet)
                if self._is_led(packet):
                    raise _Irregular
                break
            self._append(group, packet)
            if packet.dts is not None and packet.dts > last:  # nothing is shown before it is decoded
                group.is_partial = True
                break
        _check(group)
        return group

    def _is_led(self, key: AnyPacket) -> bool:
        """Tell whether pictures that come after a key frame are shown before it, and belong to neither group."""
        shown = self._stamp(key)
        ahead: list[AnyPacket] = []
        while shown is not None and len(ahead) < _MAX_LEADING and (packet := self._next()) is not None:
            ahead.append(packet)
            stamp = self._stamp(packet)
            if stamp is not None and stamp < shown and not packet.is_discard:
                return True
            # Nothing is shown before it is decoded.
            if packet.is_keyframe or packet.dts is None or packet.dts >= shown:
                break
        self._ahead.extendleft(reversed(ahead))
        return False

    def _next(self) -> AnyPacket | None:
        return self._ahead.popleft() if self._ahead else next(self._packets, None)

    def _append(self, group: _Group, packet: AnyPacket) -> None:
        self._deadline.check()
        stamp = self._stamp(packet)
        is_wrong = stamp is None or packet.is_corrupt or not (group.packets or packet.is_keyframe)
        if stamp is None or is_wrong or len(group.packets) >= _MAX_PACKETS:
            raise _Irregular
        group.packets.append((stamp, packet))

    def _decode(self, group: _Group, rows: Sequence[int]) -> list[Found]:
        """Decode what answers, and what that depends on."""
        stamps = sorted(stamp for stamp, packet in group.packets if not packet.is_discard)
        if group.next_key is None and not group.is_partial and rows[-1] - stamps[-1] > self._ticks:
            raise _Irregular  # beyond the end of the file: what that means is decided elsewhere
        answers = [stamps[bisect_right(stamps, row) - 1] for row in rows]
        wanted = set(answers)
        end = max(i for i, (stamp, _) in enumerate(group.packets) if stamp in wanted) + 1
        found: dict[int, Found] = {}
        try:
            for stamp, packet in group.packets[:end]:
                self._deadline.check()
                self._context.skip_frame = "DEFAULT" if stamp in wanted else "NONREF"
                self._keep(packet.decode(), wanted, found)
            self._keep(self._context.decode(None), wanted, found)
        finally:
            self._context.flush_buffers()
        if len(found) < len(wanted):
            raise _Irregular
        return [found[answer] for answer in answers]

    def _keep(self, frames: Sequence[Any], wanted: set[int], found: dict[int, Found]) -> None:
        self.num_decoded += len(frames)
        for frame in frames:
            stamp = self._stamp(frame)
            if stamp in wanted:
                found[stamp] = Found(stamp, frame)

    def _is_far(self, first: int) -> bool:
        """Tell whether a jump to the group of a time stamp saves more packets than it costs."""
        pending = None if self._pending is None else self._stamp(self._pending)
        if not self._can_jump or pending is None:
            return False
        ahead = (first - pending) / self._ticks
        if ahead < _JUMP_PACKETS:
            return False
        entries: Any = getattr(self._stream, "index_entries", ())
        if len(entries) > 1 and "mp4" in self._container.format.name:
            nearest = entries.search_timestamp(first, backward=True)
            return bool(nearest >= 0 and entries[nearest].timestamp - pending >= _JUMP_PACKETS * self._ticks)
        return ahead >= 4 * _JUMP_PACKETS

    def _jump(self, first: int) -> None:
        """Go to the last key frame that is shown at or before a time stamp."""
        before = None if self._pending is None else self._stamp(self._pending)
        for frames in _LOOK_BACK:
            stamp = max(round(first - frames * self._ticks), self._origin)
            self._container.seek(stamp, stream=self._stream, backward=True)
            self._packets = self._chain(())
            self._ahead.clear()
            self._pending = self._next()
            landed = None if self._pending is None else self._stamp(self._pending)
            if landed is None:
                raise _Irregular
            if landed <= first:
                if before is not None and before <= first:
                    self._can_jump = landed > before  # else key frames are rare, or the index is poor
                self._group = None
                return
        raise _Irregular

    def _chain(self, head: Sequence[AnyPacket]) -> Iterator[AnyPacket]:
        for packets in (head, packets_of(self._container, self._stream)):
            yield from (packet for packet in packets if packet.size)  # an empty one stands at the end


def _check(group: _Group) -> None:
    """Refuse groups that depend on others, or whose time stamps do not tell the order."""
    stamps = [stamp for stamp, packet in group.packets if not packet.is_discard]
    starts_late = min(stamps, default=group.start - 1) < group.start or group.packets[0][1].is_discard
    ends_late = group.next_key is not None and max(stamps, default=0) >= group.next_key
    if starts_late or ends_late or len(set(stamps)) < len(stamps):
        raise _Irregular
