"""Sliding windows over long videos."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everest.config import CheckpointInfo, ClipConfig, ModelConfig, SelectionConfig
from everest.datasets import load_data
from everest.errors import ConfigError, VideoError
from everest.inference.windows import Windows, spans

INFO = CheckpointInfo(
    task="finetune",
    model=ModelConfig(size="tiny"),
    clip=ClipConfig(num_frames=4, height=32, width=32, stride=2),
    selection=SelectionConfig(keep_ratio=0.5, encode_ratio=0.5),
)


@given(st.floats(0, 100, allow_subnormal=False), st.floats(0.5, 60), st.floats(0.1, 5), st.floats(0.1, 5))
def test_windows_cover_the_video_and_are_of_one_length(first: float, seconds: float, window: float, hop: float) -> None:
    found = list(spans(first, first + seconds, window, hop))
    assert found[0][0] == pytest.approx(first)
    assert found[-1][1] == pytest.approx(first + seconds)
    for start, end in found:
        assert end - start == pytest.approx(min(window, seconds), abs=2e-3)
        assert first <= start < end <= first + seconds + 1e-9
    for one, following in pairwise(found[:-1]):
        assert following[0] - one[0] == pytest.approx(hop)
    if hop <= window:  # no gap
        assert all(following[0] <= one[1] + 1e-9 for one, following in pairwise(found))


def test_nothing_has_no_windows() -> None:
    with pytest.raises(VideoError, match="nothing from 3 s to 3 s"):
        list(spans(3.0, 3.0, 1.0, 1.0))


@pytest.mark.parametrize("window", [{"window_seconds": 0.0}, {"hop_seconds": -1.0}, {"window_seconds": float("nan")}])
def test_windows_without_length_are_refused(window: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=r"must be 0\.001 seconds or more"):
        Windows(**window)


def test_a_part_of_a_video_is_cut_inside_itself() -> None:
    record = load_data("bundled").records[0]
    assert record.start_seconds is not None
    assert record.end_seconds is not None
    cut = Windows(0.5).cut(record, INFO)
    assert cut[0].start_seconds == record.start_seconds
    assert cut[-1].end_seconds == pytest.approx(record.end_seconds, abs=0.1)
    assert {(each.path, each.label) for each in cut} == {(record.path, record.label)}
    own = Windows(hop_seconds=0.1).cut(record, INFO)[0]
    assert own.end_seconds - own.start_seconds == pytest.approx(4 * 2 / 30, abs=0.1)
