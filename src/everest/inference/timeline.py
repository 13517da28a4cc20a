"""What happens when in a long video: windows of it with their classes, and what they say together.

Shapes: none; a timeline is made of predictions.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from everest.inference.predictions import ClipPrediction, FailedPrediction
from everest.video.source import say_location

_TOLERANCE = 1e-6  # seconds; windows that follow each other meet, but for rounding


@dataclass(frozen=True)
class Segment:
    """A stretch of time in which windows agree on the most probable class.

    Attributes:
        start_seconds: Where it begins.
        end_seconds: Where it ends.
        name: The class.
        probability: Mean over its windows, 0 to 1.
        num_windows: Windows that it is made of.
    """

    start_seconds: float
    end_seconds: float
    name: str
    probability: float
    num_windows: int


@dataclass(frozen=True, repr=False)
class Timeline:
    """The windows of one video.

    Attributes:
        source: The file, as it was given.
        windows: Predictions in the order of time, each with its span.
        failures: Spans in seconds that cannot be read, with the reason; without times, where it is all of the video.
    """

    source: Path
    windows: tuple[ClipPrediction, ...]
    failures: tuple[tuple[float | None, float | None, str], ...] = field(default=())

    @property
    def start_seconds(self) -> float:
        """Where the first window begins, or what cannot be read before it; 0 where there is neither."""
        return min((start for start, _ in self._looked_at()), default=0.0)

    @property
    def seconds(self) -> float:
        """Where the last window ends, or what cannot be read behind it; 0 where there is neither."""
        return max((end for _, end in self._looked_at()), default=0.0)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Classes that are most probable in some window, the one with the longest time first."""
        total: dict[str, float] = {}
        for segment in self.segments():
            total[segment.name] = total.get(segment.name, 0.0) + segment.end_seconds - segment.start_seconds
        return tuple(sorted(total, key=lambda name: (-total[name], name)))

    def segments(self) -> tuple[Segment, ...]:
        """Join neighbouring windows of the same best class.

        Where windows overlap, each moment belongs to the one whose middle is nearest. Where nothing could be read, or
        windows leave gaps, there is no segment.
        """
        parts: list[list[tuple[float, float, ClipPrediction]]] = []
        for part in self._parts():
            joined = bool(parts) and parts[-1][-1][1] == part[0] and parts[-1][-1][2].best == part[2].best
            if joined:
                parts[-1].append(part)
            else:
                parts.append([part])
        return tuple(
            Segment(
                some[0][0],
                some[-1][1],
                some[0][2].best,
                sum(window.classes[0][1] for _, _, window in some) / len(some),
                len(some),
            )
            for some in parts
        )

    def unread(self) -> tuple[tuple[float, float], ...]:
        """Stretches from and to that no window could read, in seconds; what other windows saw is left out."""
        found = []
        for start, end in _joined(self._failed()):
            at = start
            for part in self.segments():
                found.append((at, min(part.start_seconds, end)))
                at = max(at, part.end_seconds)
            found.append((at, end))
        return tuple((start, end) for start, end in found if end - start > _TOLERANCE)

    def runs(self) -> tuple[tuple[ClipPrediction, ...], ...]:
        """Windows between which nothing is left out: each begins before the one before it ends, or where it does."""
        found: list[list[ClipPrediction]] = []
        for window in self.windows:
            if found and _touch(_span(found[-1][-1]), _span(window)):
                found[-1].append(window)
            else:
                found.append([window])
        return tuple(map(tuple, found))

    def _failed(self) -> list[tuple[float, float]]:
        return [(start, end) for start, end, _ in self.failures if start is not None and end is not None]

    def _looked_at(self) -> list[tuple[float, float]]:
        return [_span(window) for window in self.windows] + self._failed()

    def _parts(self) -> list[tuple[float, float, ClipPrediction]]:
        """Give each window the time that belongs to it: from half way to the one before to half way to the next."""
        parts = []
        for run in self.runs():
            ends = [_span(window) for window in run]
            cuts = [_between(one, following) for one, following in pairwise(ends)]
            parts += list(zip([ends[0][0], *cuts], [*cuts, ends[-1][1]], run, strict=True))
        return parts

    def to_row(self) -> dict[str, Any]:
        """Give everything as plain values that JSON can hold."""
        row: dict[str, Any] = {"video": say_location(self.source), "start": self.start_seconds, "end": self.seconds}
        row["segments"] = [
            {
                "start": segment.start_seconds,
                "end": segment.end_seconds,
                "name": segment.name,
                "probability": segment.probability,
                "num_windows": segment.num_windows,
            }
            for segment in self.segments()
        ]
        rows = (window.to_row() for window in self.windows)
        row["windows"] = [{key: window[key] for key in ("start", "end", "classes")} for window in rows]
        if self.failures:
            row["failures"] = [{"start": start, "end": end, "error": why} for start, end, why in self.failures]
        return row

    def __repr__(self) -> str:
        num_segments, num_failures = len(self.segments()), len(self.failures)
        fate = f", {num_failures} failures" if num_failures else ""
        return f"Timeline({self.source.name!r}: {len(self.windows)} windows, {num_segments} segments{fate})"


def make_timeline(source: Path, results: Sequence[ClipPrediction | FailedPrediction], spans: Sequence[Any]) -> Timeline:
    """Put the results of the windows of one video together.

    Args:
        source: The video, as it was given.
        results: One for each window.
        spans: The windows, with ``start_seconds`` and ``end_seconds``.
    """
    windows = sorted((result for result in results if isinstance(result, ClipPrediction)), key=_span)
    failures = tuple(
        (span.start_seconds, span.end_seconds, result.reason)
        for span, result in zip(spans, results, strict=True)
        if isinstance(result, FailedPrediction)
    )
    return Timeline(source, tuple(windows), failures)


def _span(window: ClipPrediction) -> tuple[float, float]:
    return window.start_seconds or 0.0, window.end_seconds or 0.0


def _touch(one: tuple[float, float], following: tuple[float, float]) -> bool:
    return following[0] <= one[1] + _TOLERANCE


def _joined(spans: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Make one of stretches that overlap or meet."""
    found: list[tuple[float, float]] = []
    for span in sorted(spans):
        if found and _touch(found[-1], span):
            found[-1] = (found[-1][0], max(found[-1][1], span[1]))
        else:
            found.append(span)
    return found


def _between(one: tuple[float, float], following: tuple[float, float]) -> float:
    """Find the moment that is as far from the middle of one window as from that of the next."""
    return (sum(one) + sum(following)) / 4


def say_time(seconds: float) -> str:
    """Write a time as people read it: 1:02:03.5, or 2:03.5 within the first hour."""
    tenths = round(seconds * 10)
    minutes, rest = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    return (f"{hours}:{minutes:02d}" if hours else f"{minutes}") + f":{rest / 10:04.1f}"
