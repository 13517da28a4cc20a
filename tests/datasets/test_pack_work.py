"""Clips that wait for their shard are used again only as they were written."""

import json
from pathlib import Path

import pytest

from everest.datasets import Manifest, PackSettings, load_data, pack_manifest, pack_work, verify_shards
from everest.datasets.pack_work import keep_clip, kept_clips
from everest.datasets.packing import PackedClip

BUNDLED = load_data("bundled")
FEW = Manifest(BUNDLED.records[:4], BUNDLED.class_names, BUNDLED.source)
SETTINGS = PackSettings(short_side=32)


def stop(done: int, _: int) -> None:
    if done == 3:
        raise KeyboardInterrupt


@pytest.mark.parametrize("share", [0.0, 0.6, 1.0])
def test_a_clip_that_a_crash_has_torn_is_encoded_again(share: float, tmp_path: Path) -> None:
    """The list of a clip may reach the disk and the clip not: cut off, or of the right size and full of zeros."""
    with pytest.raises(KeyboardInterrupt):
        pack_manifest(FEW, tmp_path / "out", SETTINGS, num_workers=0, on_progress=stop)
    torn = min((tmp_path / "out" / ".encoding").glob("*.mp4"))
    content = torn.read_bytes()
    size = int(share * len(content))
    torn.write_bytes(content[:size] if share < 1 else content[: size // 2] + bytes(size - size // 2))
    report = pack_manifest(FEW, tmp_path / "out", SETTINGS, num_workers=0)
    assert (report.failures, report.num_reused) == ((), 2)
    pack_manifest(FEW, tmp_path / "whole", SETTINGS, num_workers=0)
    assert (tmp_path / "out" / "000000.tar").read_bytes() == (tmp_path / "whole" / "000000.tar").read_bytes()
    assert verify_shards(tmp_path / "out").problems == ()


def test_a_clip_is_on_the_disk_before_it_is_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    monkeypatch.setattr(pack_work, "sync", lambda path: synced.append(path.name))
    path = tmp_path / "00000003.mp4"
    path.write_bytes(b"film")
    clip = PackedClip(path, 1, "25", 32, 32, 4, 0.1, 0.1, 30.0)
    keep_clip(path, clip)
    assert synced == ["00000003.mp4", "00000003.json.part"]
    assert kept_clips(tmp_path, [3, 4]) == {3: clip}


def test_lists_of_other_versions_are_not_used(tmp_path: Path) -> None:
    path = tmp_path / "00000003.mp4"
    path.write_bytes(b"film")
    keep_clip(path, PackedClip(path, 1, "25", 32, 32, 4, 0.1, 0.1, 30.0))
    values = json.loads(path.with_suffix(".json").read_text())
    for changed in (*({k: v for k, v in values.items() if k != left_out} for left_out in values), [], "x", None):
        pack_work.write_text(path.with_suffix(".json"), json.dumps(changed))
        assert kept_clips(tmp_path, [3]) == {}
