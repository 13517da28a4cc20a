"""Memory stays flat however many clips are read."""

import ctypes
import gc
import os
import sys
from pathlib import Path

import pytest

from everest.config import AugmentConfig, ClipConfig, EvaluationConfig, PretrainConfig
from everest.datasets import TrainClips, ViewClips, build_train_loader, load_data
from everest.settings import parse

BUNDLED = load_data("bundled")
CLIP = ClipConfig(num_frames=8, height=48, width=48, stride=3)
NUM_WARM, NUM_CLIPS = 300, 2200


def resident_mb() -> float:
    """What this process holds; the allocator gives back first what it keeps free, some 10 MB that come and go."""
    gc.collect()
    if hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)
    return resident_mb_of(os.getpid())


def resident_mb_of(pid: int) -> float:
    pages = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()
    return (int(pages[1]) - int(pages[2])) * 4096 / 1e6  # without what is shared: batches on their way come and go


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
    assert resident_mb() - before < 2.0


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_of_the_loader_and_its_workers_is_flat() -> None:
    settings = {
        "model": {"size": "tiny"},
        "clip": CLIP.model_dump(),
        "selection": {"keep_ratio": 0.5, "encode_ratio": 0.25},
        "augment": {},
        "data": {"batch_size": 8, "num_workers": 2},
        "optim": {"global_batch_size": 8},
    }
    loader = build_train_loader(BUNDLED, parse(PretrainConfig, settings))
    sizes: list[list[float]] = []
    for epoch in range(20):  # 2,400 clips
        for _ in loader.epoch(epoch):
            pass
        kept = loader._workers._kept
        assert kept is not None
        pids = [worker.pid for worker in kept._iterator._workers]  # type: ignore[union-attr]
        sizes.append([resident_mb(), *(resident_mb_of(pid) for pid in pids)])
    growth = [after - before for before, after in zip(sizes[5], sizes[-1], strict=True)]
    assert max(growth) < 4.0, growth
