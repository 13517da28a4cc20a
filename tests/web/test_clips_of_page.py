"""Clips of all videos together take no more bytes than they may."""

from pathlib import Path

import pytest
import torch

from everest.datasets import load_data
from everest.web import looking
from everest.web.clips import Clips, SampledClip
from everest.web.looking import Choice, VideoLook
from everest.web.models import load_lookers

RECORDS = load_data("bundled").records


def clip(num_bytes: int) -> SampledClip:
    return SampledClip(torch.zeros(num_bytes, dtype=torch.uint8), (0.0,))


def test_what_was_used_last_is_kept_within_the_limit() -> None:
    clips = Clips(100)
    for owner in ("a", "b", "c"):
        clips.keep(owner, 0, clip(40))
        assert clips.get(SampledClip, "a", 0) is not None  # goes on being used
    assert [clips.get(SampledClip, owner, 0) is not None for owner in ("a", "b", "c")] == [True, False, True]
    assert clips.num_bytes == 80
    clips.drop("a")
    assert clips.num_bytes == 40
    clips.keep("d", 0, clip(500))  # one that is too large for all is the only one
    assert clips.num_bytes == 500
    assert clips.get(SampledClip, "d", 0) is not None


def test_one_video_takes_the_room_of_no_other() -> None:
    clips = Clips(10_000, max_each=3)
    clips.keep("a", 0, clip(1))
    for number in range(20):
        clips.keep("b", number, clip(1))
        clips.get(SampledClip, "b", 0)
    assert [number for number in range(20) if clips.get(SampledClip, "b", number) is not None] == [0, 18, 19]
    assert clips.get(SampledClip, "a", 0) is not None


def test_several_videos_share_one_limit(checkpoints: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []
    real = looking.read_clip
    monkeypatch.setattr(looking, "read_clip", lambda record, *a, **k: read.append(record.path) or real(record, *a, **k))
    looker, choice = load_lookers(checkpoints, "cpu").by_task["finetune"], Choice(keep_ratio=0.5)
    alone = VideoLook(RECORDS[0])
    alone.choose(looker, choice)
    of_one = alone.clips.num_bytes
    assert of_one > 2 * 8 * 3 * 64 * 48  # the frames, their tubelets, and what was computed of them
    clips = Clips(of_one * 5 // 2)
    looks = [VideoLook(record, clips=clips) for record in RECORDS[:4]]
    read.clear()
    for look in looks:
        look.choose(looker, choice)
        assert clips.num_bytes <= of_one * 5 // 2
    looks[3].choose(looker, choice)
    assert read == [record.path for record in RECORDS[:4]]
    assert not looks[0].is_read(looker, choice)
    looks[0].choose(looker, choice)
    assert read[4:] == [RECORDS[0].path]
