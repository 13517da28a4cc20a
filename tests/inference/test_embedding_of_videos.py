"""Features of bundled clips: what a row holds, and that a run goes on where it was."""

import json
import multiprocessing
import os
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pytest
import torch

import everest
from everest.cli import main
from everest.config import CheckpointInfo, ClipConfig, EvaluationConfig, ModelConfig, RemoteConfig, SelectionConfig
from everest.datasets import ClipRecord, Manifest, load_data, pack_manifest, write_manifest
from everest.datasets import store as stores
from everest.datasets.pack import PackSettings
from everest.errors import ConfigError, DataError
from everest.evaluation import classify_videos
from everest.inference import FeatureRow, Windows, describing, embedding, read_features, windows
from everest.models import Classifier, build_classifier, load_model, save_weights
from everest.models.features import FeatureModel
from everest.training import progress
from everest.video.remote import Patience
from failing_server import FailingServer, Fault, Request, serving

MODEL, CLIP = ModelConfig(size="tiny"), ClipConfig(num_frames=4, height=32, width=32)
FORK = multiprocessing.get_context("fork")
INFO = CheckpointInfo(
    task="finetune",
    model=MODEL,
    clip=CLIP,
    selection=SelectionConfig(method="rero", keep_ratio=0.5, encode_ratio=0.5),
    class_names=("a", "b", "c"),
)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    model = build_classifier(MODEL, CLIP, 3)
    torch.nn.init.normal_(model.head.weight)
    path = tmp_path_factory.mktemp("weights") / "weights.safetensors"
    save_weights(model, INFO, path)
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four clips, and a file between them that is no video."""
    folder = tmp_path_factory.mktemp("data")
    bundled = load_data("bundled")
    (folder / "broken.mp4").write_bytes(b"no video")
    records = [*bundled.records[:2], ClipRecord(folder / "broken.mp4", label=0, split="test"), *bundled.records[-2:]]
    write_manifest(replace(bundled, records=tuple(records)), folder / "clips.csv")
    return folder / "clips.csv"


@pytest.mark.parametrize("name", ["features.npz", "features.parquet"])
def test_a_row_is_what_the_classifier_sees_of_a_video(weights: Path, data: Path, tmp_path: Path, name: str) -> None:
    report = everest.embed(weights, data, tmp_path / name, views="2x1", device="cpu", num_workers=0)
    assert (report.num_rows, report.num_videos, report.width) == (4, 5, 192)
    assert [Path(path).name for path in report.failures] == ["broken.mp4"]
    found = read_features(tmp_path / name)
    assert found.made_by["layer"] is None
    model, info = load_model(weights)
    assert isinstance(model, Classifier)
    manifest = load_data(data)
    read = [record for record in manifest.records if record.path.name != "broken.mp4"]
    assert [Path(row.path) for row in found.rows] == [record.path for record in read]
    assert [row.label for row in found.rows] == [manifest.class_names[record.label or 0] for record in read]
    views = EvaluationConfig(num_segments=1, num_crops=1)
    one = everest.embed(weights, data, tmp_path / f"one-{name}", views=views, device="cpu", num_workers=1)
    assert one.num_rows == 4
    logits = model.head(torch.from_numpy(read_features(tmp_path / f"one-{name}").matrix()))
    expected = classify_videos(model, info, manifest, views).probabilities
    torch.testing.assert_close(logits.softmax(dim=1).double(), expected, rtol=1e-4, atol=1e-5)
    assert list(tmp_path.glob("*.parts")) == []


def test_long_videos_have_a_row_for_each_span(weights: Path, data: Path, tmp_path: Path) -> None:
    report = everest.embed(weights, data, tmp_path / "f.npz", window_seconds=0.5, hop_seconds=0.25, device="cpu")
    found = read_features(tmp_path / "f.npz").rows
    assert report.num_rows == len(found) > 8
    first = [row for row in found if row.path == found[0].path and row.label == found[0].label]
    record = load_data(data).records[0]
    spans = Windows(0.5, 0.25).cut(record, INFO)
    assert [(row.start_seconds, row.end_seconds) for row in first][: len(spans)] == [
        (span.start_seconds, span.end_seconds) for span in spans
    ]
    alone = everest.embed(weights, record.path, tmp_path / "alone.npz", device="cpu", num_workers=0)
    assert alone.num_rows == 1


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[FailingServer]:
    """Six clips in three shards; what is not asked for with the evaluation's patience is given up at once."""
    packed, bundled = tmp_path_factory.mktemp("packed") / "out", load_data("bundled")
    pack_manifest(replace(bundled, records=bundled.records[:6]), packed, PackSettings(clips_per_shard=2), num_workers=0)
    monkeypatch.setattr(stores, "DEFAULT_PATIENCE", Patience(0.3, 8, 3, 0.01, 0.05, 20.0))
    with serving() as found:
        found.files = {f"data/{path.name}": path.read_bytes() for path in packed.iterdir() if path.is_file()}
        yield found


@pytest.mark.parametrize("num_workers", [0, 1])
def test_spans_at_urls_are_fetched_once_and_survive_an_outage(
    weights: Path, server: FailingServer, tmp_path: Path, num_workers: int
) -> None:
    began = time.monotonic()
    out = {"window_seconds": 0.5, "device": "cpu", "num_workers": num_workers}

    def outage(request: Request) -> Fault | None:
        return Fault(status=503) if request.path.endswith(".tar") and request.seconds < began + 2 else None

    server.fault_of = outage
    report = everest.embed(weights, f"{server.url}/data", tmp_path / "f.npz", **out)
    assert report.failures == {}
    assert report.num_rows > report.num_videos == 6
    num_good = Counter((request.path, request.start) for request in server.asked(".tar") if outage(request) is None)
    assert sorted(num_good.values()) == [1] * 6
    assert [path.name for path in tmp_path.iterdir()] == ["f.npz"]


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_store_that_is_gone_ends_the_command_and_makes_no_file(
    weights: Path, server: FailingServer, tmp_path: Path, num_workers: int
) -> None:
    manifest = load_data(f"{server.url}/data")
    server.fault_of = lambda request: Fault(close=True)
    views = EvaluationConfig(num_segments=1, num_crops=1, remote=RemoteConfig(patience_seconds=0.2))
    model, info = load_model(weights)
    assert isinstance(model, Classifier)
    with pytest.raises(DataError, match=r"^\d clips of 3 shards, .* the server or the network is gone"):
        embedding.embed(
            FeatureModel(model, info),
            manifest,
            tmp_path / "f.npz",
            made_by={},
            windows=Windows(0.5),
            views=views,
            num_workers=num_workers,
        )
    assert not (tmp_path / "f.npz").exists()


def test_a_file_that_kills_the_decoder_at_opening_costs_itself(
    weights: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_video = windows.open_video

    def open_or_die(source: Path) -> object:
        if source.name == "broken.mp4":
            os.kill(os.getpid(), signal.SIGKILL)
        return open_video(source)

    monkeypatch.setattr(windows, "open_video", open_or_die)
    report = everest.embed(weights, data, tmp_path / "f.npz", window_seconds=1, device="cpu", num_workers=1)
    assert [Path(path).name for path in report.failures] == ["broken.mp4"]
    assert "SIGKILL" in next(iter(report.failures.values()))
    assert report.num_rows >= 4


class StoppedError(Exception):
    """The program is stopped."""


def test_the_bar_counts_videos_those_of_earlier_starts_included(
    weights: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedding, "ROWS_OF_PART", 1)
    monkeypatch.setattr(progress, "PLAIN_INTERVAL_SECONDS", 0.0)
    add, out = embedding._Parts.add, tmp_path / "f.npz"

    def add_or_stop(parts: embedding._Parts, rows: Sequence[FeatureRow], done: int) -> None:
        add(parts, rows, done)
        if done == 2:
            raise StoppedError

    monkeypatch.setattr(embedding._Parts, "add", add_or_stop)
    with pytest.raises(StoppedError):
        everest.embed(weights, data, out, device="cpu", num_workers=0)
    assert "embedding 1/5" in capsys.readouterr().err
    monkeypatch.setattr(embedding._Parts, "add", add)
    skip, skipped = progress.Progress.skip, []
    monkeypatch.setattr(progress.Progress, "skip", lambda bar, n: (skipped.append(n), skip(bar, n)))
    everest.embed(weights, data, out, device="cpu", num_workers=0)
    assert skipped == [2]  # which do not count for the time that is left
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0] for line in lines] == ["embedding 3/5", "embedding 4/5", "embedding 5/5"]


def test_a_run_goes_on_where_it_was(weights: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding, "ROWS_OF_PART", 1)
    model, info = load_model(weights)
    assert isinstance(model, Classifier)
    features, manifest = FeatureModel(model, info), load_data(data)
    embedding.embed(features, manifest, tmp_path / "whole.npz", made_by={}, num_workers=0)

    def stop(done: int, _: int) -> None:
        if done == 3:
            raise StoppedError

    with pytest.raises(StoppedError):
        embedding.embed(features, manifest, tmp_path / "f.npz", made_by={}, num_workers=0, on_progress=stop)
    assert not (tmp_path / "f.npz").exists()
    with pytest.raises(ConfigError, match="the beginning of other features"):
        embedding.embed(features, manifest, tmp_path / "f.npz", made_by={"layer": 2}, num_workers=0)
    skipped: list[int] = []
    report = embedding.embed(features, manifest, tmp_path / "f.npz", made_by={}, num_workers=0, on_skip=skipped.append)
    assert skipped == [2]  # the third could not be read: there was nothing to write down yet
    assert report.num_rows == 4
    assert len(report.failures) == 1
    expected = read_features(tmp_path / "whole.npz")
    assert np.array_equal(read_features(tmp_path / "f.npz").matrix(), expected.matrix())


def spoil_json(folder: Path) -> None:
    (folder / embedding.PROGRESS_NAME).write_bytes(b'{"done": 2, "made_')


def spoil_keys(folder: Path) -> None:
    (folder / embedding.PROGRESS_NAME).write_bytes(b"{}")


def spoil_kind(folder: Path) -> None:
    (folder / embedding.PROGRESS_NAME).write_bytes(b"[]")


def delete_part(folder: Path) -> None:
    next(folder.glob("part-*")).unlink()


def spoil_part(folder: Path) -> None:
    next(folder.glob("part-*")).write_bytes(b"PK")


def put_file(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.write_bytes(b"mine")


@pytest.mark.parametrize("spoil", [spoil_json, spoil_keys, spoil_kind, delete_part, spoil_part, put_file])
def test_parts_that_are_damaged_are_said(
    weights: Path, data: Path, tmp_path: Path, spoil: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedding, "ROWS_OF_PART", 1)
    model, info = load_model(weights)
    assert isinstance(model, Classifier)
    given = {"made_by": {}, "num_workers": 0, "views": EvaluationConfig(num_segments=1, num_crops=1)}

    def stop(done: int, _: int) -> None:
        if done == 2:
            raise StoppedError

    with pytest.raises(StoppedError):
        embedding.embed(FeatureModel(model, info), load_data(data), tmp_path / "f.npz", on_progress=stop, **given)
    spoil(tmp_path / "f.npz.parts")
    with pytest.raises(DataError, match=r"f\.npz\.parts: cannot be used .*; delete it, or write to another file"):
        embedding.embed(FeatureModel(model, info), load_data(data), tmp_path / "f.npz", **given)
    assert not (tmp_path / "f.npz").exists()
    assert (tmp_path / "f.npz.parts").exists()


def test_answers_that_are_missing_end_the_command(
    weights: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, info = load_model(weights)
    assert isinstance(model, Classifier)
    here = describing.FeatureReader._here
    monkeypatch.setattr(describing.FeatureReader, "_here", lambda self, records: islice(here(self, records), 3))
    records = load_data(data).records
    with pytest.raises(DataError, match=rf"{records[3].path.name}: nothing came back of it, nor of those after it"):
        embedding.embed(FeatureModel(model, info), load_data(data), tmp_path / "f.npz", made_by={}, num_workers=0)
    assert not (tmp_path / "f.npz").exists()


def test_parts_are_cut_by_bytes_too(weights: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding, "BYTES_OF_PART", 2 * 4 * 192)
    model, info = load_model(weights)
    assert isinstance(model, Classifier)
    found = []

    def look(done: int, _: int) -> None:
        found.append(len(list((tmp_path / "f.npz.parts").glob("part-*"))))

    features, manifest, out = FeatureModel(model, info), load_data(data), tmp_path / "f.npz"
    report = embedding.embed(features, manifest, out, made_by={}, num_workers=0, on_progress=look)
    assert found == [0, 1, 1, 1, 2]  # two videos each, and the one that cannot be read
    assert (report.num_rows, report.width) == (4, 192)


def hold(weights: Path, data: Path, out: Path, connection: Connection) -> None:
    """Embed half of the videos, and wait there."""
    torch.set_num_threads(1)
    model, info = load_model(weights)
    assert isinstance(model, Classifier)

    def wait(done: int, _: int) -> None:
        if done == 2:
            connection.send(None)
            connection.recv()

    given = {"made_by": {}, "num_workers": 0, "on_progress": wait}
    embedding.embed(FeatureModel(model, info), load_data(data), out, **given)  # type: ignore[arg-type]


def test_two_starts_do_not_write_over_each_other(
    weights: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedding, "ROWS_OF_PART", 1)
    model, info = load_model(weights)
    assert isinstance(model, Classifier)
    features, out = FeatureModel(model, info), tmp_path / "new" / "f.npz"
    ours, theirs = FORK.Pipe()
    process = FORK.Process(target=hold, args=(weights, data, out, theirs), daemon=True)
    process.start()
    ours.recv()
    before = sorted(path.name for path in out.parent.rglob("*"))
    with pytest.raises(
        DataError, match=rf"f\.npz: process {process.pid} on .* is embedding .* another file with --out"
    ):
        embedding.embed(features, load_data(data), out, made_by={}, num_workers=0)
    assert sorted(path.name for path in out.parent.rglob("*")) == before
    ours.send(None)
    process.join()
    assert len(read_features(out).rows) == 4
    assert [path.name for path in out.parent.iterdir()] == ["f.npz"]


def test_what_cannot_be_done_is_refused_before_the_work(weights: Path, data: Path, tmp_path: Path) -> None:
    (tmp_path / "there.npz").write_bytes(b"")
    with pytest.raises(ConfigError, match="exists already"):
        everest.embed(weights, data, tmp_path / "there.npz", device="cpu")
    with pytest.raises(ConfigError, match="tokens of several views"):
        everest.embed(weights, data, tmp_path / "f.npz", per_token=True, views="2x1", device="cpu")
    with pytest.raises(ConfigError, match="no video is given"):
        everest.embed(weights, [], tmp_path / "f.npz", device="cpu")
    odd = data.parent / os.fsdecode(b"\xff.mp4")
    with pytest.raises(ConfigError, match=r"Parquet holds names in UTF-8 only, .*udcff\.mp4; write \.npz, or rename"):
        everest.embed(weights, [load_data(data).records[0].path, odd], tmp_path / "f.parquet", device="cpu")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["there.npz"]
    broken = Manifest((ClipRecord(data.parent / "broken.mp4"),), (), data.parent)
    model, info = load_model(weights)
    assert isinstance(model, Classifier)
    with pytest.raises(DataError, match=r"not a single video can be read; the first one: .*broken\.mp4"):
        embedding.embed(FeatureModel(model, info), broken, tmp_path / "f.npz", made_by={}, num_workers=0)


def test_the_command_writes_and_reports(
    weights: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "tokens.npz"
    videos = [str(record.path) for record in load_data(data).records[:2]]
    options = ["--tokens", "--layer", "2", "--keep-ratio", "0.25", "--device", "cpu", "--json"]
    assert main(["embed", str(weights), *videos, "--out", str(out), *options]) == 0
    values = json.loads(capsys.readouterr().out)
    assert (values["num_rows"], values["width"], values["failures"]) == (2, 192, {})
    rows = read_features(out).rows
    assert [row.values.shape for row in rows] == [(2, 192)] * 2  # a quarter of 2 x 2 x 2 tokens
    assert [len(row.tokens) for row in rows if row.tokens is not None] == [2, 2]
    assert main(["embed", str(weights), str(data), "--out", str(tmp_path / "all.npz"), "--device", "cpu"]) == 1
    assert "broken.mp4" in capsys.readouterr().out
