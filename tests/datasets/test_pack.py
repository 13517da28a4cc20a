"""Packed clips are those of the manifest: the same labels, and the same frames but for the codec."""

import functools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fsspec
import pytest
import torch
import webdataset

from everest.cli import main
from everest.config import (
    AugmentConfig,
    ClipConfig,
    DataConfig,
    ModelConfig,
    OptimConfig,
    PretrainConfig,
    RunConfig,
    SelectionConfig,
)
from everest.datasets import ClipRecord, Manifest, build_train_loader, check_manifest, load_data, write_manifest
from everest.datasets.pack import LOCK, PackSettings, pack_manifest
from everest.datasets.packing import PackedClip, PackTask, pack_clip
from everest.datasets.pool import run_parallel
from everest.datasets.verify import verify_shards
from everest.errors import DataError, ManifestError, VideoError
from everest.video import VideoReader
from everest.video.encode import psnr

BUNDLED = load_data("bundled")
SETTINGS = PackSettings(clips_per_shard=4)


def few(num: int = 10) -> Manifest:
    return Manifest(BUNDLED.records[:num], BUNDLED.class_names, BUNDLED.source)


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("packed") / "out"
    report = pack_manifest(few(), out, SETTINGS, num_workers=1)
    assert not report.failures
    return out


def test_labels_splits_and_classes_stay(packed: Path) -> None:
    found = load_data(packed)
    assert found.class_names == BUNDLED.class_names
    assert [(r.label, r.split) for r in found.records] == [(r.label, r.split) for r in few().records]
    assert all(r.member is not None and r.start_seconds is None for r in found.records)
    assert len({r.path for r in found.records}) == 10


def test_packed_frames_are_those_of_the_span(packed: Path) -> None:
    for before, after in zip(few().records, load_data(packed).records, strict=True):
        with VideoReader(before.source) as source, VideoReader(after.source) as clip:
            start = round((before.start_seconds or 0.0) * source.info.fps)
            indices = list(range(0, clip.info.num_frames, 5))
            ours, theirs = clip.read(indices).frames, source.read([start + i for i in indices]).frames
            assert clip.info.fps == pytest.approx(source.info.fps, rel=1e-4)
            assert psnr(ours, theirs) > 30
            shift = ours.float().mean((0, 1, 2)) - theirs.float().mean((0, 1, 2))
            assert shift.abs().max() < 1.0  # no change of colour


def test_a_clip_costs_few_frames(packed: Path) -> None:
    record = load_data(packed).records[0]
    with VideoReader(record.source) as clip:
        clip.read([min(3 + 4 * i, clip.info.num_frames - 1) for i in range(16)])
        assert clip.num_decoded <= 45


def test_the_summary_tells_what_it_cost(packed: Path) -> None:
    values = json.loads((packed / "pack.json").read_text())
    assert values["num_clips"] == 10
    assert len(values["shards"]) == 3
    assert values["bytes_after"] == sum(path.stat().st_size for path in packed.glob("*.tar"))
    assert values["bytes_before"] > 0
    assert values["ms_before"] > 0
    assert values["psnr_min"] > 30
    assert verify_shards(packed).problems == ()


def test_damaged_shards_are_found(packed: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(packed, copy)
    content = bytearray((copy / "000001.tar").read_bytes())
    content[5000] ^= 255
    (copy / "000001.tar").write_bytes(content)
    (copy / "000002.tar").unlink()
    problems = verify_shards(copy).problems
    assert len(problems) == 2
    assert "changed or damaged" in problems[0]
    assert "missing" in problems[1]


def test_packed_data_may_be_moved(packed: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere"
    shutil.copytree(packed, moved)
    assert load_data(moved).digest == load_data(packed).digest
    with VideoReader(load_data(moved).records[3].source) as clip:
        assert clip.read([0]).num_frames == 1


def test_the_same_clips_give_the_same_bytes(packed: Path, tmp_path: Path) -> None:
    pack_manifest(few(), tmp_path / "again", SETTINGS, num_workers=0)
    for name in ("000000.tar", "000001.tar", "000002.tar", "manifest.csv"):
        assert (tmp_path / "again" / name).read_bytes() == (packed / name).read_bytes()


def test_the_layout_is_that_of_webdataset(packed: Path) -> None:
    with tarfile.open(packed / "000000.tar") as tar:
        names = tar.getnames()
        assert len(names) == 8
        assert [n.rpartition(".")[2] for n in names] == ["json", "mp4"] * 4
        described = json.loads(tar.extractfile(names[0]).read())  # type: ignore[union-attr]
    record = BUNDLED.records[int(names[0][:8])]
    assert described["class_name"] == BUNDLED.class_names[record.label or 0]
    assert described["split"] == record.split
    samples = list(webdataset.WebDataset(str(packed / "000000.tar"), shardshuffle=False))
    assert [sample["__key__"] for sample in samples] == [name[:8] for name in names[::2]]
    assert all(sample["mp4"][4:8] == b"ftyp" for sample in samples)


def test_packing_goes_on_where_it_stopped(tmp_path: Path) -> None:
    """Killed at any moment: finished shards stay, and the end is that of a run without interruption."""
    out, manifest = tmp_path / "out", tmp_path / "list.csv"
    write_manifest(few(), manifest)
    script = (
        "from everest.datasets import load_data\n"
        "from everest.datasets.pack import *\n"
        f"if __name__ == '__main__': pack_manifest(load_data({str(manifest)!r}), {str(out)!r}, "
        "PackSettings(clips_per_shard=4), num_workers=1)\n"
    )
    (tmp_path / "run.py").write_text(script)
    killed: list[int] = []
    for moment in (".encoding/00000005.json", "000000.json", "000001.tar.part"):
        process = subprocess.Popen([sys.executable, str(tmp_path / "run.py")], start_new_session=True)
        deadline = time.monotonic() + 60
        while not (out / moment).exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        killed.append(process.wait())
    assert -signal.SIGKILL in killed
    report = pack_manifest(load_data(manifest), out, SETTINGS, num_workers=0)
    assert report.num_reused >= 4
    pack_manifest(load_data(manifest), tmp_path / "whole", SETTINGS, num_workers=0)
    for name in ("000000.tar", "000001.tar", "000002.tar", "manifest.csv"):
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert not (out / ".encoding").exists()
    again = pack_manifest(load_data(manifest), out, SETTINGS)
    assert again.num_reused == 10


def test_what_cannot_be_read_is_left_out_and_named(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("no video" * 100)
    bad = [ClipRecord(tmp_path / name, 0, "train") for name in ("empty.mp4", "text.mp4", "nowhere.mp4")]
    mixed = Manifest((bad[0], *few(2).records, *bad[1:]), BUNDLED.class_names, BUNDLED.source)
    report = pack_manifest(mixed, tmp_path / "out", num_workers=1)
    assert len(report.manifest) == 2
    assert [source for source, _ in report.failures] == [str(record.path) for record in bad]
    assert "the file is empty" in report.failures[0][1]
    assert "3 clips could not be packed" in report.summary()
    assert json.loads((tmp_path / "out" / "pack.json").read_text())["failures"][0]["source"].endswith("empty.mp4")
    with pytest.raises(DataError, match="none of 1 clips can be packed"):
        pack_manifest(Manifest((bad[0],), BUNDLED.class_names, BUNDLED.source), tmp_path / "nothing")


def test_folders_that_hold_something_else_are_refused(packed: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    before = (packed / "pack.json").read_bytes()
    for out, manifest, settings in (
        (tmp_path, few(), SETTINGS),
        (tmp_path / "file", few(), SETTINGS),
        (packed, few(9), SETTINGS),
        (packed, few(), replace(SETTINGS, crf=30)),
    ):
        with pytest.raises(DataError, match="choose a new or empty folder") as raised:
            pack_manifest(manifest, out, settings)
        assert "\n" not in str(raised.value)
    assert (packed / "pack.json").read_bytes() == before


def test_large_videos_become_small_and_small_ones_stay(tmp_path: Path) -> None:
    for short_side, size in ((64, (64, 114)), (500, (128, 228))):
        task = PackTask(few(1).records[0], tmp_path / "x.mp4", PackSettings(short_side=short_side))
        ((_, clip),) = run_parallel(pack_clip, [task], num_workers=0, time_limit_seconds=None)
        assert isinstance(clip, PackedClip)
        assert (clip.height, clip.width) == size


# --- shards elsewhere -------------------------------------------------------------------------------------------------


@pytest.fixture
def url(packed: Path) -> str:
    """The packed folder in a store that is no folder."""
    store = fsspec.filesystem("memory")
    store.rm("/bucket", recursive=True) if store.exists("/bucket") else None
    for path in packed.iterdir():
        if path.is_file():
            store.pipe_file(f"/bucket/data/{path.name}", path.read_bytes())
    return "memory://bucket/data"


def config(num_workers: int = 0) -> PretrainConfig:
    return PretrainConfig(
        model=ModelConfig(size="tiny"),
        clip=ClipConfig(num_frames=4, height=32, width=32, stride=2),
        selection=SelectionConfig(keep_ratio=0.5, encode_ratio=0.25),
        augment=AugmentConfig(flip=True),
        data=DataConfig(batch_size=1, num_workers=num_workers),
        optim=OptimConfig(global_batch_size=2),
        run=RunConfig(seed=1),
    )


def test_shards_are_read_from_a_url_byte_by_byte(url: str, packed: Path) -> None:
    for where in (url, f"{url}/manifest.csv"):
        remote, local = load_data(where), load_data(packed)
        assert remote.class_names == local.class_names
        assert [r.label for r in remote.records] == [r.label for r in local.records]
        assert remote.digest == local.digest
        with VideoReader(remote.records[5].source) as a, VideoReader(local.records[5].source) as b:
            assert torch.equal(a.read([0, 7]).frames, b.read([0, 7]).frames)


def test_a_check_of_a_url_writes_it_as_one_and_knows_it_again(url: str, tmp_path: Path) -> None:
    kept = tmp_path / "report.jsonl"
    for num_known in (0, 10):
        report = check_manifest(load_data(url), 0, report=kept)
        assert report.num_reused == num_known
    paths = [json.loads(line)["path"] for line in kept.read_text().splitlines()]
    assert all(path.startswith("memory://bucket/data/00000") for path in paths)
    assert report.to_dict()["manifest"] == f"{url}/manifest.csv"
    fsspec.filesystem("memory").pipe_file("/bucket/data/000000.tar", b"x" * 10**6)
    kept.unlink()
    assert "      memory://bucket/data/000000.tar/" in check_manifest(load_data(url), 0, report=kept).summary()


def test_training_takes_the_same_batches_from_a_url(url: str, packed: Path) -> None:
    local = list(build_train_loader(load_data(packed), config()).epoch(0))
    remote = list(build_train_loader(load_data(url), config(num_workers=2)).epoch(0))
    assert len(local) == len(remote) == 10
    assert all(torch.equal(a.frames, b.frames) for a, b in zip(local, remote, strict=True))


def test_ranks_and_workers_share_the_clips_and_go_on_where_they_stopped(packed: Path) -> None:
    manifest = load_data(packed)
    seen: list[int] = []
    for rank in range(2):
        loader = build_train_loader(manifest, config(num_workers=2), rank=rank, world_size=2)
        batches = list(loader.epoch(3))
        seen += [int(batch.record_indices) for batch in batches]
        rest = list(build_train_loader(manifest, config(), rank=rank, world_size=2).epoch(3, start_step=2))
        assert all(torch.equal(a.frames, b.frames) for a, b in zip(batches[2:], rest, strict=True))
    assert sorted(seen) == list(range(10))


def test_urls_that_cannot_be_read_are_named(url: str) -> None:
    for wrong in ("memory://bucket/nowhere", "nosuchprotocol://x/manifest.csv"):
        with pytest.raises(ManifestError, match="cannot be read") as raised:
            load_data(wrong)
        assert "\n" not in str(raised.value)
    store = fsspec.filesystem("memory")
    store.pipe_file("/bucket/plain/manifest.csv", b"path,label\na.mp4,x\n")
    with pytest.raises(ManifestError, match="pack the videos first"):
        load_data("memory://bucket/plain")


def test_places_in_shards_must_be_numbers(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("path,label,shard,offset,num_bytes\na.mp4,x,0.tar,-1,5\nb.mp4,x,0.tar,1,0\n")
    with pytest.raises(ManifestError, match=r"line 2: offset and num_bytes must be whole numbers.*line 3"):
        load_data(tmp_path / "m.csv")


def test_an_interrupted_shard_keeps_its_finished_clips(tmp_path: Path) -> None:
    def stop(done: int, _: int) -> None:
        if done == 6:
            raise KeyboardInterrupt

    whole = pack_manifest(few(), tmp_path / "whole", num_workers=0)
    with pytest.raises(KeyboardInterrupt):
        pack_manifest(few(), tmp_path / "out", num_workers=0, on_progress=stop)
    assert not (tmp_path / "out" / "000000.tar").exists()
    report = pack_manifest(few(), tmp_path / "out", num_workers=0)
    assert report.num_reused == 6
    assert report.manifest.digest == whole.manifest.digest
    for name in ("000000.tar", "manifest.csv"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_two_at_once_do_not_touch_each_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, listed = tmp_path / "out", tmp_path / "list.csv"
    write_manifest(few(3), listed)
    states = []

    def begin_another(done: int, _: int) -> None:
        if done == 1:
            before = contents(out)
            assert main(["data", "pack", str(listed), str(out), "--workers", "0"]) == 2
            states.append(contents(out) == before)

    report = pack_manifest(load_data(listed), out, num_workers=0, on_progress=begin_another)
    assert states == [True]
    assert not report.failures
    errors = capsys.readouterr().err.splitlines()
    assert [f"process {os.getpid()}" in line and "is packing into it" in line for line in errors] == [True]
    assert verify_shards(out).problems == ()
    assert not (out / LOCK).exists()


def test_what_a_killed_pack_left_blocks_nobody(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / LOCK).write_text("process 1 on elsewhere")
    assert not pack_manifest(few(2), out, num_workers=0).failures


def test_clips_that_failed_are_tried_again(tmp_path: Path) -> None:
    bad = tmp_path / "bad.mp4"
    bad.touch()
    record = ClipRecord(bad, 0, few(1).records[0].split)
    manifest = Manifest((*few(5).records, record), BUNDLED.class_names, BUNDLED.source)
    out = tmp_path / "out"
    assert [reason for _, reason in pack_manifest(manifest, out, num_workers=0).failures] == ["the file is empty"]
    before = (out / "000000.tar").read_bytes()
    again = pack_manifest(manifest, out, num_workers=0)
    assert (len(again.failures), again.num_reused) == (1, 5)
    assert (out / "000000.tar").read_bytes() == before
    bad.write_bytes(BUNDLED.records[0].path.read_bytes())
    mended = pack_manifest(manifest, out, num_workers=0)
    assert (mended.failures, len(mended.manifest), mended.num_reused) == ((), 6, 5)
    pack_manifest(manifest, tmp_path / "whole", num_workers=0)
    assert (out / "000000.tar").read_bytes() == (tmp_path / "whole" / "000000.tar").read_bytes()
    assert verify_shards(out).problems == ()
    (out / "manifest.csv").write_text("\n".join((out / "manifest.csv").read_text().splitlines()[:-1]))
    found = verify_shards(out)
    assert found.problems == (f"{out / 'manifest.csv'}: was changed or damaged after it was written",)
    assert found.digest == mended.manifest.digest


class _Ranges(SimpleHTTPRequestHandler):
    """A web server that knows requests for a part of a file."""

    knows_ranges = True

    def do_GET(self) -> None:
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if asked is None or not self.knows_ranges:
            super().do_GET()
            return
        content = Path(self.translate_path(self.path)).read_bytes()[int(asked[1]) : int(asked[2]) + 1]
        self.send_response(206)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class _NoRanges(_Ranges):
    knows_ranges = False


@pytest.fixture
def serve(packed: Path) -> Iterator[Callable[[type[_Ranges]], str]]:
    """Serve the packed folder on this machine."""
    servers = []

    def start(handler: type[_Ranges]) -> str:
        server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(handler, directory=str(packed)))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_shards_are_read_from_a_web_server(serve: Callable[[type[_Ranges]], str], packed: Path) -> None:
    local = list(build_train_loader(load_data(packed), config()).epoch(0))
    remote = list(build_train_loader(load_data(serve(_Ranges)), config(num_workers=1)).epoch(0))
    assert all(torch.equal(a.frames, b.frames) for a, b in zip(local, remote, strict=True))


def test_a_web_server_that_knows_no_ranges_is_named_as_the_reason(serve: Callable[[type[_Ranges]], str]) -> None:
    record = load_data(serve(_NoRanges)).records[0]
    with pytest.raises(VideoError, match="does not know requests for a part of a file"):
        VideoReader(record.source)
