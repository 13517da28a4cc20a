"""Timelines as pictures, and below the frames of a video."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from everest.datasets import load_data
from everest.errors import VideoError
from everest.inference import ClipPrediction, Timeline
from everest.video.encode import psnr
from everest.video.reader import VideoReader
from everest.visualize.annotated import annotate_video
from everest.visualize.charts import COLORS
from everest.visualize.timeline import HATCH_COLOR, OTHER_COLOR, class_colors, draw_timeline, frames_over_time
from live_sources import repack

CLIP = load_data("bundled").records[0].path


def timeline(*best: str, seconds: float = 1.0, failures: tuple[tuple[float, float, str], ...] = ()) -> Timeline:
    windows = tuple(
        ClipPrediction(CLIP, ((name, 0.6), ("$odd_{name", 0.4)), n * seconds, (n + 1) * seconds, 0.0)
        for n, name in enumerate(best)
    )
    return Timeline(CLIP, windows, failures)


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


def has_color(picture: np.ndarray, color: str) -> bool:
    wanted = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)])
    return bool((abs(picture - wanted).max(axis=-1) < 12).sum() > 200)


def test_each_class_has_a_colour_and_the_least_are_grey() -> None:
    eight = timeline("a", "a", *"bcdefgh")
    colors = class_colors(eight)
    assert next(iter(colors)) == "a"
    assert len({color for color in colors.values() if color != OTHER_COLOR}) == 6
    assert [colors[name] for name in "gh"] == [OTHER_COLOR] * 2
    picture = pixels(draw_timeline(eight))
    assert all(has_color(picture, color) for color in colors.values())
    legend = picture[-60:]  # below the axes
    assert has_color(legend, OTHER_COLOR)
    assert not has_color(pixels(draw_timeline(timeline(*"abcdef")))[-60:], OTHER_COLOR)


def hatched(picture: np.ndarray) -> list[int]:
    """Pixels in the colour of hatches in each third of the picture, from the left."""
    is_hatch = (abs(picture - int(HATCH_COLOR[1:3], 16)).max(axis=-1) < 12).sum(axis=0)
    return [int(third.sum()) for third in np.array_split(is_hatch, 3)]


@pytest.mark.parametrize("place", [0, 1, 2])
def test_what_cannot_be_read_is_hatched_at_its_time(place: int) -> None:
    spans = [(0.0, 1.0), (1.0, 2.0), (2.0, 3.0)]
    whole = timeline("a", "a", "a")
    windows = whole.windows[:place] + whole.windows[place + 1 :]
    torn = Timeline(CLIP, windows, ((*spans[place], "torn"),))
    assert (torn.start_seconds, torn.seconds) == (0.0, 3.0)
    known, found = hatched(pixels(draw_timeline(whole))), hatched(pixels(draw_timeline(torn)))
    more = [after - before for before, after in zip(known, found, strict=True)]
    assert more[place] > 300
    assert more[place] > 4 * sum(more[:place] + more[place + 1 :])


def test_time_that_another_window_saw_is_not_hatched() -> None:
    one, _, two = timeline("a", "a", "a").windows
    first, last = replace(one, end_seconds=2.0), replace(two, start_seconds=2.0, end_seconds=4.0)
    seen = Timeline(CLIP, (first, last), ((1.0, 3.0, "torn"),))
    assert len(seen.segments()) == 1
    assert seen.unread() == ()
    assert hatched(pixels(draw_timeline(seen))) == hatched(pixels(draw_timeline(replace(seen, failures=()))))


@pytest.mark.parametrize("is_read", [True, False])
def test_lines_end_where_nothing_was_read(is_read: bool) -> None:
    whole = timeline("a", "a", "a")
    given = whole if is_read else replace(whole, windows=(whole.windows[0], whole.windows[2]))
    picture = pixels(draw_timeline(given))[:-60]  # without the legend
    width = picture.shape[1]
    assert has_color(picture[:, round(0.47 * width) : round(0.58 * width)], COLORS[0]) == is_read


def test_frames_stand_above_their_time(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    given = timeline("a", "b")
    frames = frames_over_time(given, CLIP, num_frames=4)
    assert [seconds for seconds, _ in frames] == [0.25, 0.75, 1.25, 1.75]
    plain, with_frames = pixels(draw_timeline(given)), pixels(draw_timeline(given, frames))
    assert with_frames.shape[0] > plain.shape[0]
    assert not caplog.text
    assert frames_over_time(given, Path("none.mp4")) == []
    assert "10 of the 10 frames above the timeline cannot be read: none.mp4: no such file" in caplog.text


def test_a_frame_that_cannot_be_read_leaves_its_place_empty(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "torn.mp4"
    repack(CLIP, path, "mp4", {"movflags": "faststart"})  # its index comes first, so that it opens
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 7 // 10])
    given = timeline("a", "a", "a", seconds=1.3)
    frames = frames_over_time(given, path)
    assert [seconds for seconds, _ in frames] == pytest.approx([0.195 + 0.39 * number for number in range(10)])
    is_there = [frame is not None for _, frame in frames]
    assert is_there == sorted(is_there, reverse=True)
    assert 3 <= sum(is_there) <= 8
    assert f"{CLIP}: {10 - sum(is_there)} of the 10 frames above the timeline cannot be read: " in caplog.text
    picture = pixels(draw_timeline(given, frames))[30:130]
    is_empty = (picture > 250).all(axis=(0, 2))
    assert is_empty[-150:].all()
    assert is_empty[150:300].mean() < 0.2


@pytest.mark.parametrize("seconds", [1.0, 30.0])
def test_an_annotated_video_shows_the_same_frames_and_the_class_below(tmp_path: Path, seconds: float) -> None:
    given = timeline("walk", "a very long name of a class that no banner has room for " * 3, seconds=seconds)
    done: list[tuple[int, int]] = []
    count = annotate_video(CLIP, given, tmp_path / "out.mp4", on_progress=lambda *at: done.append(at))
    with VideoReader(CLIP) as before, VideoReader(tmp_path / "out.mp4") as after:
        assert count == before.info.num_frames == after.info.num_frames
        assert done[-1] == (count, count)
        indices = [0, count // 2, count - 1]
        known, found = before.read(indices).frames, after.read(indices).frames
    H, W = known.shape[1:3]
    left = (found.shape[2] - W) // 2
    assert psnr(known, found[:, :H, left : left + W]) > 30
    bar = found[:, -3:].float().mean(dim=(1, 2))  # of each frame
    assert (bar - bar[0]).abs().max() < 25  # the whole bar stands below every frame
    cursor = [int(frame[-3:].float().mean(dim=(0, 2)).argmax()) for frame in found]
    assert cursor == sorted(cursor)
    assert cursor[0] < 10 < found.shape[2] - 12 < cursor[-1]


def test_what_cannot_be_read_or_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="no such file"):
        annotate_video(Path("none.mp4"), timeline("a"), tmp_path / "out.mp4")
    with pytest.raises(VideoError, match="cannot be encoded"):
        annotate_video(CLIP, timeline("a"), tmp_path / "no folder" / "out.mp4")
