"""Clips behind a web server that fails: the same batches as from a disk, few requests, and clear words."""

import json
import pickle
import shutil
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from everest import api
from everest.cli import main
from everest.config import (
    AugmentConfig,
    CheckpointInfo,
    ClipConfig,
    DataConfig,
    EvaluationConfig,
    ModelConfig,
    OptimConfig,
    PretrainConfig,
    RemoteConfig,
    RunConfig,
    SelectionConfig,
)
from everest.datasets import (
    Manifest,
    build_train_loader,
    build_view_loader,
    check_manifest,
    load_data,
    pack_manifest,
    write_manifest,
)
from everest.datasets import store as stores
from everest.datasets.pack import PackSettings
from everest.datasets.store import arriving, bring
from everest.errors import ConfigError, DataError, ManifestError
from everest.models import build_classifier, save_weights
from everest.video import remote
from everest.video.remote import Patience
from everest.video.source import ShardMember
from failing_server import FailingServer, Fault, serving

BUNDLED = load_data("bundled")
NUM_CLIPS = 12
SLOW_SECONDS = 2.0
SMALL = ClipConfig(num_frames=4, height=32, width=32, stride=2)


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve clips in four shards."""
    out = tmp_path_factory.mktemp("packed") / "out"
    few = Manifest(BUNDLED.records[:NUM_CLIPS], BUNDLED.class_names, BUNDLED.source)
    assert not pack_manifest(few, out, PackSettings(clips_per_shard=3), num_workers=1).failures
    return out


@pytest.fixture
def server(packed: Path) -> Iterator[FailingServer]:
    with serving() as found:
        found.files = {f"data/{path.name}": path.read_bytes() for path in packed.iterdir() if path.is_file()}
        yield found


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores, "DEFAULT_PATIENCE", Patience(30.0, 8, 3, 0.01, 0.05, 20.0))  # a loaded machine is slow


def config(num_workers: int = 0, **remote: object) -> PretrainConfig:
    return PretrainConfig(
        model=ModelConfig(size="tiny"),
        clip=SMALL,
        selection=SelectionConfig(keep_ratio=0.5, encode_ratio=0.25),
        augment=AugmentConfig(flip=True),
        data=DataConfig(batch_size=4, num_workers=num_workers, remote=RemoteConfig(**remote)),
        optim=OptimConfig(global_batch_size=4),
        run=RunConfig(seed=1),
    )


def frames(data: str | Path, given: PretrainConfig, num_epochs: int = 1) -> list[torch.Tensor]:
    loader = build_train_loader(load_data(data), given)
    return [batch.frames for epoch in range(num_epochs) for batch in loader.epoch(epoch)]


def same(some: list[torch.Tensor], others: list[torch.Tensor]) -> bool:
    return len(some) == len(others) > 0 and all(torch.equal(a, b) for a, b in zip(some, others, strict=True))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_server_that_fails_now_and_then_changes_no_batch(
    server: FailingServer, packed: Path, tmp_path: Path, num_workers: int
) -> None:
    faults = [Fault(status=503), Fault(drop=True), Fault(status=429, headers={"Retry-After": "0"}), Fault(wrong=True)]
    server.fault_of = lambda request: faults[request.number // 3 % 4] if request.number % 3 == 2 else None
    given = config(num_workers, cache_dir=str(tmp_path))
    assert same(frames(f"{server.url}/data", given, 2), frames(packed, config(), 2))
    repeated = [count for count in Counter((r.path, r.start) for r in server.requests).values() if count > 1]
    assert len(repeated) >= 3


@pytest.mark.parametrize("num_workers", [0, 2])
def test_what_is_in_the_cache_is_not_asked_for_again(server: FailingServer, tmp_path: Path, num_workers: int) -> None:
    given = config(num_workers, cache_dir=str(tmp_path))
    loader = build_train_loader(load_data(f"{server.url}/data"), given)
    num_asked = []
    for epoch in range(3):
        assert len(list(loader.epoch(epoch))) == 3
        num_asked.append(len(server.asked(".tar")))
    assert num_asked == [NUM_CLIPS] * 3
    assert loader.store is not None
    counts = loader.store.counts()
    assert (counts["fetched"], counts["from_cache"]) == (NUM_CLIPS, 2 * NUM_CLIPS)
    assert counts["fetched_bytes"] == sum(path.stat().st_size for path in tmp_path.glob("everest-clips/*/*"))
    assert len(frames(f"{server.url}/data", given)) == 3  # another run
    assert len(server.asked(".tar")) == NUM_CLIPS


def test_without_a_cache_each_clip_is_asked_for_once_in_an_epoch(server: FailingServer) -> None:
    frames(f"{server.url}/data", config(), 2)
    assert list(Counter((r.path, r.start) for r in server.asked(".tar")).values()) == [2] * NUM_CLIPS


def test_a_worker_fetches_the_clips_of_a_batch_at_the_same_time(server: FailingServer) -> None:
    server.fault_of = lambda request: Fault(slow_seconds=SLOW_SECONDS) if request.path.endswith(".tar") else None
    frames(f"{server.url}/data", config(num_workers=1))
    begun = sorted(request.seconds for request in server.asked(".tar"))
    assert all(begun[number + 3] - begun[number] < SLOW_SECONDS for number in (0, 4, 8))  # none waited for another


@pytest.mark.parametrize(("num_workers", "world_size"), [(1, 1), (2, 1), (1, 2)])
def test_a_worker_fetches_the_next_videos_of_an_evaluation(
    server: FailingServer, num_workers: int, world_size: int
) -> None:
    server.fault_of = lambda request: Fault(slow_seconds=SLOW_SECONDS) if request.path.endswith(".tar") else None
    manifest = load_data(f"{server.url}/data")
    views = EvaluationConfig(num_segments=1, num_crops=1)
    for rank in range(world_size):
        loader = build_view_loader(manifest, SMALL, views, num_workers=num_workers, rank=rank, world_size=world_size)
        assert all(views.num_views for views in loader)
    assert len(server.asked(".tar")) == NUM_CLIPS  # each once: what is fetched ahead is what comes
    begun = sorted(request.seconds for request in server.asked(".tar"))
    assert begun[3] - begun[0] < SLOW_SECONDS


def in_time(act: Callable[[], object]) -> object:
    """Do something that must end soon; a hang is a failure."""
    found: list[object] = []
    thread = threading.Thread(target=lambda: found.append(act()), daemon=True)
    thread.start()
    thread.join(20)
    assert found, "it waits for ever"
    return found[0]


def fail(*_: object) -> bytes:
    raise KeyError("ours")


def test_a_defect_ends_waiting_and_is_met_where_the_clip_is_read(
    server: FailingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    records, store = stores.through_store(load_data(f"{server.url}/data").records, RemoteConfig(), 0)
    assert store is not None
    monkeypatch.setattr(remote, "_ask", fail)
    for number, wait_for in enumerate((lambda source: list(arriving(source)), bring) * stores.NUM_AT_ONCE):
        source = records[number % NUM_CLIPS].source
        in_time(lambda wait_for=wait_for, source=source: [wait_for(source)])
        assert isinstance(source, ShardMember)
        with pytest.raises(KeyError, match="ours") as raised:
            store.read(source)
        assert raised.traceback[-1].name == "fail"


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_defect_ends_an_evaluation(server: FailingServer, monkeypatch: pytest.MonkeyPatch, num_workers: int) -> None:
    manifest, views = load_data(f"{server.url}/data"), EvaluationConfig(num_segments=1, num_crops=1)
    monkeypatch.setattr(remote, "_ask", fail)

    def evaluate() -> BaseException:
        with pytest.raises(KeyError, match="ours") as raised:
            list(build_view_loader(manifest, SMALL, views, num_workers=num_workers))
        return raised.value

    assert in_time(evaluate)


def test_a_time_to_wait_that_is_none_stops_no_worker(server: FailingServer) -> None:
    headers = {"Retry-After": "Mon, 01 Jan 99999999999999999999 00:00:00 GMT"}
    bad = Fault(status=503, headers=headers)
    server.fault_of = lambda request: bad if request.path.endswith("000001.tar") else None
    manifest = load_data(f"{server.url}/data")
    views = EvaluationConfig(num_segments=1, num_crops=1, remote=RemoteConfig(patience_seconds=2.0))
    found = in_time(lambda: list(build_view_loader(manifest, SMALL, views, num_workers=1)))
    assert isinstance(found, list)
    fails = ["000001.tar" in str(record.path) for record in manifest.records]
    assert [each.error is not None for each in found] == fails
    assert sum(fails) == 3


def test_a_store_goes_to_other_processes_without_what_it_holds(server: FailingServer, tmp_path: Path) -> None:
    loader = build_train_loader(load_data(f"{server.url}/data"), config(cache_dir=str(tmp_path)))
    list(loader.epoch(0))
    packed = pickle.dumps(loader.store)
    assert len(packed) < 1000
    assert loader.store is not None
    assert pickle.loads(packed).settings == loader.store.settings
    assert loader.store.settings.brings


def test_waiting_is_said_now_and_then(
    server: FailingServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(stores, "_SAY_FROM_SECONDS", 0.03)
    server.fault_of = lambda request: Fault(status=503) if request.time < 4 and request.path.endswith(".tar") else None
    assert same(frames(f"{server.url}/data", config()), frames(f"{server.url}/data", config()))
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 1
    assert told[0].startswith(f"{server.url}/data/00000")
    assert "503 Service Unavailable; asking again in 0 s" in told[0]


def test_workers_share_no_connection(server: FailingServer) -> None:
    manifest = load_data(f"{server.url}/data")
    ports = {request.port for request in server.requests}
    list(build_train_loader(manifest, config(num_workers=2)).epoch(0))
    of_workers = {request.port for request in server.asked(".tar")}
    assert ports
    assert of_workers
    assert not ports & of_workers


def test_the_limit_of_the_cache_is_kept(server: FailingServer, tmp_path: Path) -> None:
    whole = sum(r.member.num_bytes for r in load_data(f"{server.url}/data").records if r.member is not None)
    given = config(cache_dir=str(tmp_path), cache_gb=whole / 2 / 1e9)
    loader = build_train_loader(load_data(f"{server.url}/data"), given)
    for epoch in range(2):
        list(loader.epoch(epoch))
    assert 0.2 * whole < sum(path.stat().st_size for path in tmp_path.glob("everest-clips/*/*")) <= whole / 2
    assert loader.store is not None
    assert loader.store.counts()["from_cache"] >= 3  # what came first stays, for the next epoch


def test_a_shard_that_fails_for_ever_is_replaced_in_training_and_named(server: FailingServer) -> None:
    server.fault_of = lambda request: Fault(status=500) if request.path.endswith("000001.tar") else None
    given = config(patience_seconds=2.0)
    given = given.model_copy(update={"data": given.data.model_copy(update={"max_failed_share": 1.0})})
    loader = build_train_loader(load_data(f"{server.url}/data"), given)
    assert len([batch for epoch in range(2) for batch in loader.epoch(epoch)]) == 6
    assert len(loader.failed) == 3
    for path, reason in loader.failed.items():
        assert path.startswith(f"{server.url}/data/000001.tar/")
        assert reason.startswith("the shard cannot be read: 500 Internal Server Error")


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_shard_that_fails_for_ever_is_listed_in_evaluation(server: FailingServer, num_workers: int) -> None:
    server.fault_of = lambda request: Fault(status=503) if request.path.endswith("000002.tar") else None
    manifest = load_data(f"{server.url}/data")
    views = EvaluationConfig(num_segments=1, num_crops=1, remote=RemoteConfig(patience_seconds=2.0))
    found = list(build_view_loader(manifest, SMALL, views, num_workers=num_workers))
    assert [views.record_index for views in found] == list(range(NUM_CLIPS))
    for views, record in zip(found, manifest.records, strict=True):
        assert record.member is not None
        fails = record.member.shard.endswith("000002.tar")
        assert (views.num_views, views.error is not None) == ((0, True) if fails else (1, False))
        assert views.error is None or "503 Service Unavailable" in views.error


def test_a_shard_that_failed_once_with_all_patience_is_asked_once(server: FailingServer) -> None:
    server.fault_of = lambda request: Fault(status=503) if request.path.endswith("000002.tar") else None
    views = EvaluationConfig(num_segments=1, num_crops=1, remote=RemoteConfig(patience_seconds=2.0))
    list(build_view_loader(load_data(f"{server.url}/data"), SMALL, views, num_workers=0))
    first, *others = Counter(r.start for r in server.asked("000002.tar")).values()
    assert first > 3
    assert others == [1, 1]


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_server_that_is_gone_ends_the_run_and_not_the_files(server: FailingServer, num_workers: int) -> None:
    manifest = load_data(f"{server.url}/data")
    server.fault_of = lambda request: Fault(close=True)
    given = config(num_workers, patience_seconds=2.0)
    given = given.model_copy(update={"data": given.data.model_copy(update={"max_failed_share": 1.0})})
    told = r"5 clips of [34] shards, one after the other, cannot be fetched: the server or the network is gone; the"
    with pytest.raises(DataError, match=told):
        list(build_train_loader(manifest, given).epoch(0))
    views = EvaluationConfig(num_segments=1, num_crops=1, remote=RemoteConfig(patience_seconds=2.0))
    with pytest.raises(DataError, match="the server or the network is gone"):
        list(build_view_loader(manifest, SMALL, views, num_workers=num_workers))


def test_a_replaced_shard_is_noticed_and_the_cache_still_has_the_old_one(
    server: FailingServer, packed: Path, tmp_path: Path
) -> None:
    given = config(cache_dir=str(tmp_path))
    before = frames(f"{server.url}/data", given)
    server.files["data/000000.tar"] = server.files["data/000001.tar"]
    assert same(frames(f"{server.url}/data", given), before)
    record = next(r for r in load_data(f"{server.url}/data").records if "000000.tar" in str(r.path))
    row = check_manifest(replace(BUNDLED, records=(record,)), 0).rows[0]
    assert "was the shard replaced?" in (row.fault or "")


def test_lists_without_hashes_are_read_and_not_kept(server: FailingServer, packed: Path, tmp_path: Path) -> None:
    lines = [line.rpartition(",")[0] for line in (packed / "manifest.csv").read_text().splitlines()]
    server.files["data/manifest.csv"] = ("\n".join(lines) + "\n").encode()
    loader = build_train_loader(load_data(f"{server.url}/data"), config(cache_dir=str(tmp_path)))
    found = [batch.frames for epoch in range(2) for batch in loader.epoch(epoch)]
    assert same(found, frames(packed, config(), 2))
    assert len(server.asked(".tar")) == 2 * NUM_CLIPS
    assert loader.store is not None
    assert "the list has no hashes" in loader.store.describe()


def test_a_pack_of_an_earlier_version_gets_its_hashes(packed: Path, tmp_path: Path) -> None:
    shutil.copytree(packed, tmp_path / "old")
    for listed in (tmp_path / "old").glob("0*.json"):
        values = json.loads(listed.read_text())
        values["rows"] = [{key: value for key, value in row.items() if key != "sha256"} for row in values["rows"]]
        listed.write_text(json.dumps(values))
    (tmp_path / "old" / "manifest.csv").unlink()
    few = Manifest(BUNDLED.records[:NUM_CLIPS], BUNDLED.class_names, BUNDLED.source)
    assert pack_manifest(few, tmp_path / "old", PackSettings(clips_per_shard=3), num_workers=0).num_reused == NUM_CLIPS
    assert (tmp_path / "old" / "manifest.csv").read_bytes() == (packed / "manifest.csv").read_bytes()


def test_wrong_hashes_are_refused(packed: Path, tmp_path: Path) -> None:
    text = (packed / "manifest.csv").read_text().splitlines()
    (tmp_path / "m.csv").write_text("\n".join([text[0], text[1][:-1]]))
    with pytest.raises(ManifestError, match="line 2: sha256 must be 64 digits"):
        load_data(tmp_path / "m.csv")


def test_a_check_asks_for_each_clip_once_and_again_only_what_failed_in_passing(
    server: FailingServer, tmp_path: Path
) -> None:
    manifest, kept = load_data(f"{server.url}/data"), tmp_path / "report.jsonl"
    faults = {"/data/000001.tar": Fault(status=503), "/data/000002.tar": Fault(status=404)}
    server.fault_of = lambda request: faults.get(request.path)
    assert len(check_manifest(manifest, 0, report=kept).unreadable) == 6
    assert set(Counter((r.path, r.start) for r in server.asked(".tar") if r.path[-5] in "03").values()) == {1}
    server.fault_of = lambda request: None
    again = check_manifest(manifest, 0, report=kept)
    assert (again.num_reused, len(again.unreadable)) == (9, 3)


def test_a_run_learns_the_same_from_a_url_and_tells_no_secret(
    server: FailingServer,
    packed: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All that a run writes and prints is searched for the password and the signature."""
    url = f"{server.url.replace('://', '://user:hunter2@')}/data/manifest.csv?sig=TOKEN"
    small = "clip.height=32 clip.width=32 clip.num_frames=4 optim.epochs=2 optim.warmup_epochs=0 model.size=tiny "
    small += "optim.global_batch_size=4 data.batch_size=4 data.num_workers=1 run.device=cpu run.tensorboard=false"
    settings = [*small.split(), "data.memory_cache=false", f"data.remote.cache_dir={tmp_path / 'cache'}"]
    losses = []
    for name, data in (("near", str(packed)), ("far", url)):
        options = ["--data", data, "--out", str(tmp_path / name), *(f"--set={setting}" for setting in settings)]
        monkeypatch.setattr(sys, "argv", ["everest", "pretrain", "--recipe", "own", *options])  # which a run keeps
        assert main() == 0
        lines = (tmp_path / name / "metrics.jsonl").read_text().splitlines()
        losses.append([json.loads(line)["loss"] for line in lines])
    assert losses[0] == losses[1]
    server.fault_of = lambda request: Fault(status=404) if request.path.startswith("/data/000003.tar") else None
    for path in tmp_path.glob("cache/everest-clips/*/*"):
        path.unlink()
    options = ["--data", url, "--out", str(tmp_path / "far2"), *(f"--set={setting}" for setting in settings)]
    assert main(["pretrain", "--recipe", "own", *options, "--set=data.max_failed_share=1"]) == 0
    assert main(["data", "index", url, "--out", str(tmp_path / "list.csv")]) == 2
    assert main(["data", "check", url, "--report", str(tmp_path / "far-check.jsonl"), "--workers", "0"]) == 1
    assert main(["runs", "show", str(tmp_path / "far"), "--json"]) == 0
    assert main(["evaluate", url, "--data", str(packed)]) == 2  # a URL that is taken for a path
    assert main(["predict", str(tmp_path / "far"), url.replace(".csv", ".mp4")]) == 2
    out, err = capsys.readouterr()
    assert f'"{server.url}/data/manifest.csv?..."' in out
    files = [*tmp_path.glob("far*"), *tmp_path.glob("far*/**/*")]
    written = [path.read_bytes() for path in files if path.is_file()]
    for told in (out.encode(), err.encode(), *written):
        assert b"hunter2" not in told
        assert b"TOKEN" not in told
    assert "404 Not Found" in err
    assert "everest-clips" in err
    assert "from the cache" in err


def test_secrets_are_not_written_into_lists(server: FailingServer, tmp_path: Path) -> None:
    manifest = load_data(f"{server.url}/data?sig=TOKEN")
    assert server.requests[0].path == "/data/manifest.csv?sig=TOKEN"
    with pytest.raises(ManifestError, match="is not written down") as raised:
        write_manifest(manifest, tmp_path / "list.csv")
    assert "TOKEN" not in str(raised.value)
    assert not (tmp_path / "list.csv").exists()
    plain = load_data(f"{server.url}/data")
    assert plain.digest == manifest.digest
    write_manifest(plain, tmp_path / "list.csv")
    again = load_data(tmp_path / "list.csv")
    assert again.records == plain.records
    assert [r.member.sha256 for r in again.records] == [r.member.sha256 for r in plain.records]  # type: ignore[union-attr]


def test_nothing_is_asked_of_anybody_without_a_url(packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a network was asked for")

    monkeypatch.setattr("socket.socket.connect", refuse)
    monkeypatch.setattr("fsspec.url_to_fs", refuse)
    loader = build_train_loader(load_data(packed), config(cache_dir="/nowhere/at/all"))
    assert loader.store is None
    assert len(list(loader.epoch(0))) == 3


def test_names_of_classes_that_cannot_be_read_are_not_left_out(server: FailingServer) -> None:
    server.fault_of = lambda request: Fault(status=400) if request.path.endswith("classes.txt") else None
    with pytest.raises(ManifestError, match=r"classes.txt: cannot be read: 400"):
        load_data(f"{server.url}/data")


def test_a_cache_that_cannot_be_written_is_said_before_the_run(server: FailingServer, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    given = ["optim.global_batch_size=4", f"data.remote.cache_dir={tmp_path / 'file'}"]
    with pytest.raises(ConfigError, match=r"data.remote.cache_dir: .* cannot be used"):
        api.pretrain(recipe="own", data=f"{server.url}/data", out=tmp_path / "run", settings=given)
    assert not (tmp_path / "run").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_an_evaluation_keeps_its_clips_where_it_is_told(
    server: FailingServer, packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    info = CheckpointInfo(
        task="finetune",
        model=ModelConfig(size="tiny"),
        clip=SMALL,
        selection=SelectionConfig(keep_ratio=0.5, encode_ratio=0.25),
        class_names=BUNDLED.class_names,
    )
    save_weights(build_classifier(info.model, info.clip, BUNDLED.num_classes), info, tmp_path / "w.safetensors")
    found = []
    for data in (str(packed), f"{server.url}/data", f"{server.url}/data"):
        options = ["--split", "all", "--views", "2x1", "--cache-dir", str(tmp_path / "kept"), "--json"]
        assert main(["evaluate", str(tmp_path / "w.safetensors"), "--data", data, *options]) == 0
        found.append(json.loads(capsys.readouterr().out)["confusion"])
        assert len(server.asked(".tar")) == (0 if data == str(packed) else NUM_CLIPS)
    assert found[0] == found[1] == found[2]
