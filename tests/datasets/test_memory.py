"""Memory stays flat however many clips are read."""

import gc
import sys
from pathlib import Path

import pytest

from everest.config import AugmentConfig, ClipConfig, EvaluationConfig
from everest.datasets import TrainClips, ViewClips, load_data

BUNDLED = load_data("bundled")
CLIP = ClipConfig(num_frames=8, height=48, width=48, stride=3)
NUM_WARM, NUM_CLIPS = 300, 2200


def resident_mb() -> float:
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * 4096 / 1e6


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_is_flat_over_thousands_of_clips() -> None:
    """Garbage that waits for the collector would cost some 7 kB a clip here, and far more for large videos."""
    training = TrainClips(BUNDLED.records, CLIP, AugmentConfig(flip=True))
    views = ViewClips(BUNDLED.records, CLIP, EvaluationConfig(num_segments=2, num_crops=1))
    before = 0.0
    for number in range(NUM_CLIPS):
        index = number % len(BUNDLED)
        training[0, number, index]
        if number % 10 == 0:
            views[index]
        if number == NUM_WARM:
            before = resident_mb()
    assert resident_mb() - before < 6.0
