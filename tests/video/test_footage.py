"""Every video of a folder is read out of order: the bundled clips, or the folder that EVEREST_FOOTAGE names."""

import os
import random
from pathlib import Path

import torch
from video_files import FALLS

from everest.datasets.records import is_video
from everest.errors import VideoError
from everest.video import VideoReader

MAX_FRAMES, NUM_READS = 200, 25


def find_videos() -> list[Path]:
    folder = Path(os.environ.get("EVEREST_FOOTAGE") or FALLS)
    return sorted(path for path in folder.rglob("*") if is_video(path))


def test_every_frame_is_that_of_decoding_from_the_start() -> None:
    """With a reader that has read nothing else; the one with the whole file is a plain forward read."""
    num_read, wrong = 0, []
    for path in find_videos():
        try:
            with VideoReader(path) as reader:
                num = min(reader.info.num_frames, MAX_FRAMES)
                expected = reader.read(range(num)).frames
        except VideoError:
            continue  # whatever is wrong with it, `everest data check` says it
        num_read += 1
        draw = random.Random(str(path.name))
        alone = [[index] for index in draw.sample(range(num), min(num, NUM_READS))]
        spread = [[min(start + step, num - 1) for step in (0, 4, 8)] for start in draw.sample(range(num), min(num, 10))]
        for indices in alone + spread:
            with VideoReader(path) as reader:
                if not torch.equal(reader.read(indices).frames, expected[indices]):
                    wrong.append((str(path), indices))
    assert num_read > 0
    assert not wrong
