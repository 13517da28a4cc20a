"""Optical flow between neighbouring frames: how it is computed, and how a step of it becomes bytes.

Shapes: T frames, H height, W width, C channels (3), h x w nodes, each in the middle of a part of the frame.
"""

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from everest.errors import ConfigError, DataError

SHORT_SIDE = 128
"""Of the frames between which flow is computed, in pixels."""
NODE_SIZE = 4
"""Height and width of the part of such a frame that one value stands for."""
_EVEN, _LONGEST, _LARGEST = 2.0, 16.0, 127  # pixels up to which numbers are about evenly spaced; the last; its byte
_LOST = -128  # the byte where forward and backward flow do not agree
_SLACK, _OFFSET = 0.01, 0.5  # how far they may be apart: share of their squared lengths, and squared pixels
_LEVEL = 6  # of zlib


@dataclass(frozen=True)
class FlowGrid:
    """Numbers of nodes from top to bottom and from left to right."""

    rows: int
    columns: int

    @classmethod
    def of_frames(cls, height: int, width: int) -> "FlowGrid":
        """Choose the nodes for frames of a size: 32 over the short side."""
        scale = SHORT_SIDE / NODE_SIZE / min(height, width)
        return cls(max(1, round(height * scale)), max(1, round(width * scale)))


class FlowEstimator:
    """Dense inverse search (DIS) of OpenCV, forward and backward.

    Args:
        grid: Nodes of the result.

    Raises:
        ConfigError: OpenCV is not installed.
    """

    def __init__(self, grid: FlowGrid) -> None:
        self._cv2: Any = load_opencv()
        self._grid = grid
        self._dis = self._cv2.DISOpticalFlow_create(self._cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        rows, columns = np.indices((grid.rows * NODE_SIZE, grid.columns * NODE_SIZE), dtype=np.float32)
        self._places = np.stack([columns, rows], axis=-1)  # [H, W, 2]

    def prepare(self, frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Make of a frame [H, W, C] what :meth:`between` takes: grey, in whole nodes."""
        size = (self._grid.columns * NODE_SIZE, self._grid.rows * NODE_SIZE)
        small = frame if frame.shape[1::-1] == size else self._cv2.resize(frame, size, interpolation=self._how(frame))
        grey: NDArray[np.uint8] = self._cv2.cvtColor(small, self._cv2.COLOR_RGB2GRAY)
        return grey

    def between(self, one: NDArray[np.uint8], other: NDArray[np.uint8]) -> NDArray[np.int8]:
        """Find out where the pixels of one prepared frame are in the other: bytes for :func:`decode`, [2, h, w]."""
        there = self._dis.calc(one, other, None)  # [H, W, 2], to the right and down
        back = self._dis.calc(other, one, None)
        at = self._places + there
        back = self._cv2.remap(back, at, None, self._cv2.INTER_LINEAR, borderMode=self._cv2.BORDER_REPLICATE)
        lengths = np.square(there).sum(axis=-1) + np.square(back).sum(axis=-1)
        agrees = np.square(there + back).sum(axis=-1) <= _SLACK * lengths + _OFFSET  # [H, W]
        trusted = self._nodes(agrees[..., None].astype(np.float32))[0] >= 0.5
        return encode(self._nodes(there), trusted)

    def _nodes(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Average over the part of each node: [H, W, K] to [K, h, w]."""
        grid = self._grid
        parts = values.reshape(grid.rows, NODE_SIZE, grid.columns, NODE_SIZE, -1)  # [h, 4, w, 4, K]
        means: NDArray[np.float32] = parts.mean(axis=(1, 3)).transpose(2, 0, 1)
        return means

    def _how(self, frame: NDArray[np.uint8]) -> int:
        smaller = min(frame.shape[:2]) >= SHORT_SIDE
        return int(self._cv2.INTER_AREA if smaller else self._cv2.INTER_LINEAR)


def encode(flow: NDArray[np.float32], trusted: NDArray[np.bool_]) -> NDArray[np.int8]:
    """Turn flow in pixels [2, h, w] into bytes of that shape; one that is not trusted [h, w] has a byte of its own."""
    scale = _LARGEST / np.arcsinh(_LONGEST / _EVEN)
    values = np.rint(np.arcsinh(flow / _EVEN) * scale).clip(-_LARGEST, _LARGEST).astype(np.int8)
    return np.where(trusted, values, np.int8(_LOST))


def decode(values: NDArray[np.int8]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Turn bytes [K, 2, h, w] back into flow as shares of the frame's width and height, and where it is trusted.

    Returns:
        float32 of shape [K, 2, h, w], 0 where it is not trusted, and bool of shape [K, h, w].
    """
    scale = np.arcsinh(_LONGEST / _EVEN) / _LARGEST
    numbers = np.arange(-_LARGEST - 1, _LARGEST + 1, dtype=np.float64)
    table = np.where(numbers == _LOST, 0.0, np.sinh(numbers * scale) * _EVEN).astype(np.float32)
    pixels = table[values.astype(np.int16) + _LARGEST + 1]
    h, w = values.shape[-2:]
    size = np.array([w * NODE_SIZE, h * NODE_SIZE], dtype=np.float32)[:, None, None]
    return pixels / size, values[:, 0] != _LOST


def pack(values: NDArray[np.int8]) -> bytes:
    """Compress one step, [2, h, w]."""
    return zlib.compress(values.tobytes(), _LEVEL)


def unpack(packed: Sequence[bytes], grid: FlowGrid) -> NDArray[np.int8]:
    """Undo :func:`pack` for several steps: [K, 2, h, w].

    Raises:
        DataError: They are damaged.
    """
    shape = (2, grid.rows, grid.columns)
    try:
        steps = [np.frombuffer(zlib.decompress(each), dtype=np.int8).reshape(shape) for each in packed]
    except (zlib.error, ValueError) as error:
        raise DataError(f"the flow is damaged: {error}") from None
    return np.stack(steps) if steps else np.empty((0, *shape), dtype=np.int8)


def flow_of(frames: NDArray[np.uint8], estimator: FlowEstimator) -> Iterator[NDArray[np.int8]]:
    """Compute the steps between neighbours of frames [T, H, W, C], each [2, h, w]."""
    before = None
    for frame in frames:
        grey = estimator.prepare(frame)
        if before is not None:
            yield estimator.between(before, grey)
        before = grey


def load_opencv() -> ModuleType:
    """Import OpenCV, told to use one thread: the work is done in many processes.

    Raises:
        ConfigError: It is not installed, or cannot be imported.
    """
    try:
        import cv2
    except ImportError as error:
        raise ConfigError(
            f"optical flow needs OpenCV, which cannot be imported ({error}): pip install 'everest-video[flow]', or "
            "opencv-python-headless"
        ) from None
    cv2.setNumThreads(1)
    return cv2
