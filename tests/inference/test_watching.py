"""Streams are told as files are: the same windows get the same classes."""

import threading
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_predictors import INFO, a_predictor
from torch import Tensor

from everest.config import EvaluationConfig
from everest.datasets import load_data
from everest.errors import ConfigError, VideoError
from everest.inference import ClipPrediction, Windows
from everest.inference import live as live_module
from everest.inference.live import LiveWindows, watch
from everest.video.live import LiveFrame
from live_sources import as_transport_stream, sending, serving_folder, write_playlist

BUNDLED = load_data("bundled")
CLIP = max({record.path for record in BUNDLED.records}, key=lambda path: path.stat().st_size)
PREDICTOR = a_predictor()


@pytest.mark.parametrize("views", [EvaluationConfig(num_segments=1, num_crops=1), EvaluationConfig(num_segments=2)])
@pytest.mark.parametrize("windows", [Windows(1.0, 0.4), Windows(), Windows(0.5, 1.0)])
def test_a_stream_is_told_as_the_file_is(
    views: EvaluationConfig, windows: Windows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_module, "is_pushed", lambda location: False)  # it comes at once, not as it is filmed
    with sending(as_transport_stream(CLIP)) as address:
        found = list(watch(PREDICTOR, address, windows, views=views, top=9))
    known = PREDICTOR.timeline(CLIP, windows, views=views, top=9).windows
    assert len(known) - 1 <= len(found) <= len(known)  # the last window of a file ends with it
    assert len(found) > 1
    for one, other in zip(found[:-1], known, strict=False):
        assert (one.start_seconds, one.end_seconds) == pytest.approx((other.start_seconds, other.end_seconds))
        assert dict(one.classes) == pytest.approx(dict(other.classes), abs=1e-5)
    assert str(found[0].source) == address.replace("://", ":/")


def test_a_playlist_is_told_to_its_end(tmp_path: Path) -> None:
    write_playlist(CLIP, tmp_path)
    with serving_folder(tmp_path) as url:
        found = list(watch(PREDICTOR, f"{url}/live.m3u8", Windows(1.0)))
    known = PREDICTOR.timeline(CLIP, Windows(1.0)).windows
    assert [window.best for window in found[:-1]] == [window.best for window in known[: len(found) - 1]]


def test_who_is_slower_than_the_sender_sees_the_newest(monkeypatch: pytest.MonkeyPatch) -> None:
    content = as_transport_stream(CLIP)
    real = live_module._classify

    def slow(*given: object) -> Tensor:
        time.sleep(0.5)
        return real(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(live_module, "_classify", slow)
    with sending(content) as address:
        found = [window.start_seconds for window in watch(PREDICTOR, address, Windows(0.6, 0.1))]
    last = PREDICTOR.timeline(CLIP, Windows(0.6, 0.1)).windows[-1].start_seconds
    assert found == sorted(set(found))
    assert len(found) < 10
    assert found[-1] == pytest.approx(last, abs=0.25)


def test_reading_ends_when_nobody_looks_any_more_and_after_the_time_that_was_asked_for() -> None:
    content = as_transport_stream(CLIP)
    with sending(content) as address:
        watching = watch(PREDICTOR, address, Windows(0.5))
        next(watching)
        watching.close()  # type: ignore[attr-defined]
    with sending(content) as address:
        found = list(watch(PREDICTOR, address, Windows(0.5), max_seconds=1.2))
    assert [window.end_seconds for window in found] == pytest.approx([0.5, 1.0])
    assert all("_read" not in str(thread.name) for thread in threading.enumerate())


def test_what_came_before_a_stream_broke_off_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_module, "is_pushed", lambda location: False)  # it comes at once, not as it is filmed
    content = as_transport_stream(CLIP)
    found: list[ClipPrediction] = []
    with (
        sending(content[: len(content) * 3 // 4], silent_seconds=0.2, torn=True) as address,
        pytest.raises(VideoError, match=rf"^{address}: broke off: connection reset by peer$"),
    ):
        found.extend(watch(PREDICTOR, address, Windows(0.5), top=9))
    known = PREDICTOR.timeline(CLIP, Windows(0.5), top=9).windows
    assert len(known) > len(found) > len(known) // 2
    for one, other in zip(found, known, strict=False):
        assert one.start_seconds == pytest.approx(other.start_seconds)
        assert dict(one.classes) == pytest.approx(dict(other.classes), abs=1e-5)


def test_a_defect_is_raised_once_where_the_windows_are_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def stumble(*_: object) -> None:
        raise RuntimeError("stumbled")

    shown: list[object] = []
    monkeypatch.setattr(threading, "excepthook", shown.append)
    monkeypatch.setattr(LiveWindows, "add", stumble)
    with sending(as_transport_stream(CLIP)) as address, pytest.raises(RuntimeError, match="stumbled"):
        list(watch(PREDICTOR, address, Windows(0.5)))
    assert not shown


def test_streams_without_a_window_and_numbers_without_sense_are_errors() -> None:
    content = as_transport_stream(CLIP)
    with (
        sending(content[: len(content) * 3 // 4], silent_seconds=0.2) as address,
        pytest.raises(VideoError, match=r"ended before a window of 60 s was full"),
    ):
        list(watch(PREDICTOR, address, Windows(60.0)))
    with pytest.raises(ConfigError, match="expected 1 or more"):
        list(watch(PREDICTOR, "tcp://127.0.0.1:1", top=0))
    with pytest.raises(VideoError, match="cannot be opened"):
        list(watch(PREDICTOR, "tcp://127.0.0.1:1"))


@dataclass(frozen=True)
class Numbered(LiveFrame):
    """A frame whose pixels are its number."""

    number: int = 0

    def pixels(self) -> Tensor:
        return torch.full((32, 48, 3), self.number, dtype=torch.uint8)


@settings(deadline=None)
@given(st.lists(st.floats(0.01, 0.3), min_size=20, max_size=80), st.floats(0.3, 2.0), st.floats(0.1, 2.0))
def test_each_place_of_a_window_shows_the_frame_that_is_nearest(steps: list[float], length: float, hop: float) -> None:
    fps = 10.0
    cut = LiveWindows(INFO, Windows(length, hop), EvaluationConfig(num_segments=1, num_crops=1), fps)
    times = [sum(steps[:number]) for number in range(len(steps))]
    full = []
    for number, seconds in enumerate(times):
        full += cut.add(Numbered(seconds, None, (32, 48), number))
    full += cut.end()
    for number, window in enumerate(sorted(full, key=lambda window: window.start_seconds)):
        assert window.start_seconds == pytest.approx(number * hop)
        for index in window.wanted:
            shown = int(window.frames[index].flatten()[0])
            assert times[shown] * fps <= index + 0.5
            assert shown + 1 == len(times) or times[shown + 1] * fps > index + 0.5
