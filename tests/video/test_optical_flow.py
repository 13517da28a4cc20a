"""Optical flow against motion that is known, and its way into bytes and back."""

import sys

import numpy as np
import pytest
from numpy.typing import NDArray

from everest.errors import ConfigError, DataError
from everest.video.optical_flow import FlowEstimator, FlowGrid, decode, encode, flow_of, load_opencv, pack, unpack

GRID = FlowGrid(32, 40)


def texture(num_frames: int, right: float, down: float, height: int = 128, width: int = 160) -> NDArray[np.uint8]:
    """A texture of waves that moves by so many pixels from frame to frame: [T, H, W, 3]."""
    random = np.random.default_rng(0)
    y, x = np.mgrid[:height, :width].astype(np.float64)
    waves = [(random.uniform(-0.6, 0.6), random.uniform(-0.6, 0.6), random.uniform(0, 6.3)) for _ in range(30)]
    frames = [sum(np.sin(a * (x - t * right) + b * (y - t * down) + c) for a, b, c in waves) for t in range(num_frames)]
    grey = np.stack(frames) * 15 + 128
    return np.repeat(grey.clip(0, 255).round().astype(np.uint8)[..., None], 3, axis=-1)


@pytest.mark.parametrize(("right", "down"), [(1.0, 0.0), (-0.5, 0.25), (3.0, -2.0), (0.0, 6.0)])
def test_a_moving_texture_is_followed(right: float, down: float) -> None:
    steps = np.stack(list(flow_of(texture(3, right, down), FlowEstimator(GRID))))
    assert steps.shape == (2, 2, 32, 40)
    flow, trusted = decode(steps)
    pixels = flow * np.array([160, 128])[:, None, None]
    inside = np.s_[:, 4:-4, 4:-4]
    assert trusted[inside].mean() > 0.97
    for channel, wanted in ((0, right), (1, down)):
        errors = np.abs(pixels[:, channel][inside][trusted[inside]] - wanted)
        assert np.median(errors) < 0.06
        assert np.quantile(errors, 0.95) < 0.25


def test_what_stands_still_has_no_flow() -> None:
    (step,) = flow_of(texture(1, 0, 0).repeat(2, axis=0), FlowEstimator(GRID))
    assert not step.any()


def test_what_is_covered_is_not_trusted() -> None:
    frames = texture(2, 0, 0)
    frames[1, 32:96, 48:112] = np.random.default_rng(1).integers(0, 256, (64, 64, 1), dtype=np.uint8)
    (step,) = flow_of(frames, FlowEstimator(GRID))
    _, trusted = decode(step[None])
    assert trusted[0, 12:20, 16:24].mean() < 0.5
    assert trusted[0, :, 34:].all()


def test_frames_of_any_size_are_scaled() -> None:
    frames = np.repeat(np.repeat(texture(2, 2.0, 0.0), 2, axis=1), 2, axis=2)  # 256 x 320: 4 pixels a step
    flow, trusted = decode(np.stack(list(flow_of(frames, FlowEstimator(FlowGrid.of_frames(256, 320))))))
    assert flow.shape == (1, 2, 32, 40)
    assert np.median(flow[0, 0][trusted[0]]) * 320 == pytest.approx(4.0, abs=0.1)


@pytest.mark.parametrize(
    ("height", "width", "rows", "columns"),
    [(128, 160, 32, 40), (1080, 1920, 32, 57), (320, 240, 43, 32), (8, 8, 32, 32)],
)
def test_the_short_side_has_32_nodes(height: int, width: int, rows: int, columns: int) -> None:
    assert FlowGrid.of_frames(height, width) == FlowGrid(rows, columns)


def test_bytes_are_fine_for_slow_and_coarse_for_fast_motion() -> None:
    pixels = np.concatenate([np.linspace(-16, 16, 2001), [40.0, -40.0]]).astype(np.float32)
    values = np.stack([pixels, pixels[::-1]])[:, None]  # [2, 1, 2003]
    flow, trusted = decode(encode(values, np.ones((1, 2003), dtype=np.bool_))[None])
    assert trusted.all()
    found = flow[0, 0, 0] * 2003 * 4
    allowed = 0.022 + 0.011 * np.abs(pixels)
    assert (np.abs(found - pixels)[:-2] <= allowed[:-2]).all()
    assert found[-2:].tolist() == pytest.approx([16.0, -16.0])


def test_zero_stays_zero_and_what_is_lost_is_told_apart() -> None:
    trusted = np.array([[True, False]])
    flow, found = decode(encode(np.zeros((2, 1, 2), dtype=np.float32), trusted)[None])
    assert not flow.any()
    assert found[0].tolist() == trusted.tolist()


def test_packing_can_be_undone() -> None:
    steps = np.random.default_rng(0).integers(-128, 128, (3, 2, 32, 40), dtype=np.int8)
    assert (unpack([pack(step) for step in steps], GRID) == steps).all()
    assert unpack([], GRID).shape == (0, 2, 32, 40)


@pytest.mark.parametrize("spoil", [lambda p: p[:-9], lambda p: b"\0" + p, lambda p: p[:50] + b"?" + p[51:]])
def test_damage_is_noticed(spoil) -> None:  # type: ignore[no-untyped-def]
    packed = pack(np.random.default_rng(0).integers(-128, 128, (2, 32, 40), dtype=np.int8))
    with pytest.raises(DataError, match="damaged"):
        unpack([spoil(packed)], GRID)
    with pytest.raises(DataError, match="damaged"):
        unpack([packed], FlowGrid(32, 41))


def test_without_opencv_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(ConfigError, match=r"pip install 'everest-video\[flow\]'"):
        load_opencv()
