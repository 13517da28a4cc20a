"""Windows put together: which class when."""

import json
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everest.inference import ClipPrediction, FailedPrediction, Timeline
from everest.inference.timeline import make_timeline, say_time
from everest.inference.windows import spans


def window(start: float, end: float, best: str, probability: float = 0.5) -> ClipPrediction:
    return ClipPrediction(Path("a.mp4"), ((best, probability), ("other", 1 - probability)), start, end, 0.0)


def told(timeline: Timeline) -> list[tuple[float, float, str]]:
    return [(part.start_seconds, part.end_seconds, part.name) for part in timeline.segments()]


def test_neighbours_of_one_class_are_one_segment() -> None:
    windows = (window(0, 2, "walk", 0.6), window(2, 4, "walk", 0.8), window(4, 6, "fall", 0.9))
    timeline = Timeline(Path("a.mp4"), windows)
    assert told(timeline) == [(0, 4, "walk"), (4, 6, "fall")]
    first, second = timeline.segments()
    assert (first.probability, first.num_windows) == (pytest.approx(0.7), 2)
    assert (second.probability, second.num_windows) == (0.9, 1)
    assert timeline.class_names == ("walk", "fall")
    assert timeline.seconds == 6


def test_a_moment_of_several_windows_belongs_to_the_one_whose_middle_is_nearest() -> None:
    windows = (window(0, 4, "walk"), window(1, 5, "fall"), window(2, 6, "fall"))
    assert told(Timeline(Path("a.mp4"), windows)) == [(0, 2.5, "walk"), (2.5, 6, "fall")]


@given(st.floats(0, 50), st.floats(0.5, 60), st.floats(0.2, 5), st.floats(0.1, 5), st.randoms(use_true_random=False))
def test_segments_follow_each_other_and_cover_what_windows_do(first, seconds, length, hop, random) -> None:  # type: ignore[no-untyped-def]
    cut = list(spans(first, first + seconds, length, hop))
    timeline = Timeline(Path("a.mp4"), tuple(window(*span, random.choice("abc")) for span in cut))
    segments = timeline.segments()
    assert sum(part.num_windows for part in segments) == len(cut)
    assert segments[0].start_seconds == cut[0][0]
    assert segments[-1].end_seconds == cut[-1][1]
    for one, following in pairwise(segments):
        assert one.start_seconds < one.end_seconds <= following.start_seconds + 1e-6
        if hop <= length:
            assert one.end_seconds == pytest.approx(following.start_seconds, abs=1e-6)
            assert one.name != following.name


def test_what_cannot_be_read_leaves_a_gap_and_is_told() -> None:
    cut = [window(0, 2, "walk"), window(2, 4, "?"), window(4, 6, "walk")]
    results = [cut[0], FailedPrediction(Path("a.mp4"), "torn"), cut[2]]
    timeline = make_timeline(Path("a.mp4"), results, cut)
    assert told(timeline) == [(0, 2, "walk"), (4, 6, "walk")]
    assert timeline.failures == ((2, 4, "torn"),)
    row = json.loads(json.dumps(timeline.to_row()))
    assert row["failures"] == [{"start": 2, "end": 4, "error": "torn"}]
    assert [part["name"] for part in row["segments"]] == ["walk", "walk"]
    assert row["windows"][0]["classes"][0] == {"name": "walk", "probability": 0.5}
    assert "1 failures" in repr(timeline)


def test_only_what_no_window_saw_is_unread() -> None:
    windows = (window(0, 2, "walk"), window(4, 6, "walk"), window(6, 8, "sit"))
    failures = ((1, 3, "torn"), (2, 4, "torn"), (3, 5, "torn"), (7.5, 9, "torn"), (10, 11, "torn"), (None, None, "?"))
    timeline = Timeline(Path("a.mp4"), windows, failures)
    assert timeline.unread() == ((2, 4), (8, 9), (10, 11))
    assert (timeline.start_seconds, timeline.seconds) == (0, 11)
    assert [len(run) for run in timeline.runs()] == [1, 2]
    early = Timeline(Path("a.mp4"), windows[1:], ((2, 4, "torn"),))
    assert (early.unread(), early.start_seconds, early.seconds) == (((2, 4),), 2, 8)
    assert (Timeline(Path("a.mp4"), ()).start_seconds, Timeline(Path("a.mp4"), ()).seconds) == (0, 0)


@given(st.sets(st.integers(0, 20), min_size=1), st.integers(1, 5), st.randoms(use_true_random=False))
def test_what_was_read_and_what_was_not_are_all_the_time_and_no_moment_is_both(
    starts: set[int], length: int, random: Random
) -> None:
    cut = [window(start, start + length, random.choice("ab")) for start in sorted(starts)]
    results = [each if random.random() < 0.5 else FailedPrediction(Path("a.mp4"), "torn") for each in cut]
    timeline = make_timeline(Path("a.mp4"), results, cut)
    parts = [(part.start_seconds, part.end_seconds) for part in timeline.segments()]
    known = sorted([*parts, *timeline.unread()])
    for moment in (second + 0.3 for second in range(26)):
        is_covered = any(start <= moment <= start + length for start in starts)
        assert sum(start <= moment <= end for start, end in known) == is_covered


def test_times_are_written_as_people_read_them() -> None:
    assert [say_time(s) for s in (0, 9.96, 59.96, 3599.9, 3723.45)] == [
        "0:00.0",
        "0:10.0",
        "1:00.0",
        "59:59.9",
        "1:02:03.4",
    ]
