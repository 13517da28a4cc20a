"""Predictions on a Ray cluster are those of this machine, and a machine that is lost costs nothing."""

import json
import shutil
import socket
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from small_predictors import INFO, a_predictor

import everest
from everest.cli import main
from everest.config import EvaluationConfig, RemoteConfig
from everest.datasets import ClipRecord, load_data
from everest.datasets.ray_engine import RayEngine
from everest.errors import ConfigError, WeightsError
from everest.inference import ClipPrediction, FailedPrediction, Predictor, read_features
from everest.inference.cutting import cut_videos
from everest.inference.far_videos import far_record, with_sizes
from everest.inference.windows import Windows
from everest.models import build_classifier, save_weights
from everest.training.progress import Progress
from everest.video.source import ShardMember
from failing_server import serving
from ray_clusters import RayCluster

BUNDLED = load_data("bundled")
FILES = sorted({record.path for record in BUNDLED.records})
VIEWS = EvaluationConfig(
    num_segments=2,
    num_crops=3,
    batch_size=12,
    time_limit_seconds=3.0,
    remote=RemoteConfig(patience_seconds=5.0),  # longer than a video may take to decode
)


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return a_predictor()


@pytest.fixture(scope="module")
def engine(ray_machines: RayCluster) -> Iterator[RayEngine]:
    with RayEngine(address=ray_machines.address) as engine:
        yield engine


def test_the_command_predicts_the_same_although_a_machine_is_killed(
    ray_cluster: RayCluster,
    predictor: Predictor,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """The first of this file, so that the command reaches the cluster itself."""
    save_weights(predictor.model, INFO, tmp_path / "model.safetensors")
    (tmp_path / "videos").mkdir()
    for path in FILES:
        shutil.copy(path, tmp_path / "videos")
    (tmp_path / "videos" / "empty.mp4").touch()
    update, killed_at = Progress.update, []

    def kill_half_way(self: Progress, num_done: int) -> None:
        update(self, num_done)
        if num_done >= len(FILES) // 2 and not killed_at:
            killed_at.append(num_done)
            ray_cluster.kill_one()

    command = ["predict", str(tmp_path / "model.safetensors"), str(tmp_path / "videos"), "--json"]
    assert main([*command, "--out", str(tmp_path / "local.jsonl"), "--device", "cpu"]) == 1
    monkeypatch.setattr(Progress, "update", kill_half_way)
    capfd.readouterr()
    out = tmp_path / "ray.jsonl"
    on_ray = ["--out", str(out), "--engine", "ray", "--ray-address", ray_cluster.address, "--device", "cpu"]
    assert main([*command, *on_ray]) == 1
    captured = capfd.readouterr()
    assert killed_at
    assert json.loads(captured.out) == {"out": str(out), "num_videos": len(FILES) + 1, "num_failed": 1}
    told = [line for line in captured.err.splitlines() if not line.startswith("predicting ")]
    assert told == [f"error: {tmp_path}/videos/empty.mp4: the file is empty"]
    local, remote = (
        [json.loads(line) for line in path.read_text().splitlines()] for path in (tmp_path / "local.jsonl", out)
    )
    assert remote[0] == local[0]
    for here, there in zip(local[1:], remote[1:], strict=True):
        assert {k: v for k, v in there.items() if k != "classes"} == {k: v for k, v in here.items() if k != "classes"}
        assert named(there) == pytest.approx(named(here), abs=1e-6)
    assert main([*command, *on_ray]) == 1  # all but the empty one are known
    assert "predicting 24/24" in capfd.readouterr().err


def named(row: dict[str, list[dict[str, object]]]) -> dict[object, object]:
    return {entry["name"]: entry["probability"] for entry in row.get("classes", [])}


def test_a_video_at_a_url_is_fetched_by_the_machine_that_reads_it(engine: RayEngine, predictor: Predictor) -> None:
    with serving() as server:
        server.files = {"a.mp4": FILES[0].read_bytes()}
        given, near = with_sizes([far_record(f"{server.url}/a.mp4")], for_others=True)
        assert near == given
        assert given[0].member == ShardMember(f"{server.url}/a.mp4", "", 0, FILES[0].stat().st_size)
        (remote,) = predictor.predict_many(given, views=VIEWS, engine=engine)
        spans = cut_videos(given, Windows(2.0), INFO, VIEWS, num_workers=0, engine=engine)
        (local,) = predictor.predict_many([FILES[0]], views=VIEWS, num_workers=0)
    assert isinstance(remote, ClipPrediction)
    assert isinstance(local, ClipPrediction)
    assert dict(remote.classes) == pytest.approx(dict(local.classes), abs=1e-6)
    assert [[(span.start_seconds, span.end_seconds) for span in found] for found in spans] == [
        [(span.start_seconds, span.end_seconds) for span in found]
        for found in cut_videos([ClipRecord(FILES[0])], Windows(2.0), INFO, VIEWS, num_workers=0)
    ]


@pytest.mark.parametrize("device", ["auto", "cpu"])  # the machines of the cluster say that they have GPUs
def test_what_cannot_be_read_is_said_in_the_same_words(
    engine: RayEngine, ray_cluster: RayCluster, predictor: Predictor, tmp_path: Path, device: str
) -> None:
    (tmp_path / "cut.mp4").write_bytes(FILES[1].read_bytes()[:20000])
    span = BUNDLED.records[3]
    with socket.socket() as silent:  # takes connections, and never answers
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        shard = f"http://127.0.0.1:{silent.getsockname()[1]}/0.tar"
        hang = ClipRecord(Path(shard) / "hang.mp4", member=ShardMember(shard, "hang.mp4", 512, 1000))
        videos = [FILES[0], tmp_path / "cut.mp4", hang, tmp_path / "none.mp4", span, FILES[2], FILES[0]]
        local = predictor.predict_many(videos, views=VIEWS, num_workers=1)
        remote = predictor.predict_many(videos, views=VIEWS, engine=engine, device=device)
    assert [type(entry) for entry in remote] == [type(entry) for entry in local]
    assert [isinstance(entry, FailedPrediction) for entry in local] == [False, True, True, True, False, False, False]
    for here, there in zip(local, remote, strict=True):
        assert there.source == here.source
        if isinstance(here, FailedPrediction):
            assert isinstance(there, FailedPrediction)
            assert there.reason == here.reason
        else:
            assert isinstance(there, ClipPrediction)
            assert dict(there.classes) == pytest.approx(dict(here.classes), abs=1e-6)
            assert (there.start_seconds, there.end_seconds) == (here.start_seconds, here.end_seconds)


def test_a_machine_with_a_gpu_that_is_killed_costs_nothing(
    engine: RayEngine, ray_cluster: RayCluster, predictor: Predictor
) -> None:
    videos = [*FILES, *FILES]
    killed_at: list[int] = []

    def kill(num_done: int, _: int) -> None:
        if num_done >= 10 and not killed_at:
            killed_at.append(num_done)
            ray_cluster.kill_one()

    local = predictor.predict_many(FILES, views=VIEWS)
    remote = predictor.predict_many(videos, kill, views=VIEWS, engine=engine)
    assert killed_at
    for here, there in zip([*local, *local], remote, strict=True):
        assert isinstance(there, ClipPrediction)
        assert isinstance(here, ClipPrediction)
        assert dict(there.classes) == pytest.approx(dict(here.classes), abs=1e-6)


@pytest.mark.parametrize(("window", "device"), [(None, "cpu"), (1.5, "auto")])
def test_features_are_the_same(
    engine: RayEngine, ray_cluster: RayCluster, predictor: Predictor, tmp_path: Path, window: float | None, device: str
) -> None:
    save_weights(predictor.model, INFO, tmp_path / "model.safetensors")
    (tmp_path / "empty.mp4").touch()
    embed = partial(
        everest.embed,
        tmp_path / "model.safetensors",
        [FILES[0], tmp_path / "empty.mp4", FILES[5], FILES[9]],
        window_seconds=window,
    )
    local = embed(out=tmp_path / "local.npz", device="cpu", num_workers=0)
    remote = embed(out=tmp_path / "ray.npz", device=device, engine=engine)
    assert replace(remote, path=local.path, seconds=local.seconds) == local
    for here, there in zip(
        read_features(tmp_path / "local.npz").rows, read_features(tmp_path / "ray.npz").rows, strict=True
    ):
        assert (there.path, there.start_seconds, there.end_seconds) == (here.path, here.start_seconds, here.end_seconds)
        assert there.values == pytest.approx(here.values, abs=1e-6)


def test_the_command_embeds_the_same_although_a_machine_is_killed(
    ray_cluster: RayCluster, predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_weights(predictor.model, INFO, tmp_path / "model.safetensors")
    update, killed_at = Progress.update, []

    def kill_half_way(self: Progress, num_done: int, **values: float) -> None:
        update(self, num_done, **values)
        if num_done >= len(FILES) // 2 and not killed_at:
            killed_at.append(num_done)
            ray_cluster.kill_one()

    command = ["embed", str(tmp_path / "model.safetensors"), *map(str, FILES), "--views", "2x1"]
    assert main([*command, "--out", str(tmp_path / "local.npz"), "--device", "cpu"]) == 0
    monkeypatch.setattr(Progress, "update", kill_half_way)
    on_ray = ["--engine", "ray", "--ray-address", ray_cluster.address]
    assert main([*command, "--out", str(tmp_path / "ray.npz"), *on_ray]) == 0
    assert killed_at
    rows = [read_features(tmp_path / name).rows for name in ("local.npz", "ray.npz")]
    assert [row.path for row in rows[0]] == list(map(str, FILES))
    for here, there in zip(*rows, strict=True):
        assert there.path == here.path
        assert there.values == pytest.approx(here.values, abs=1e-6)


def test_damaged_weights_and_missing_devices_are_said(
    engine: RayEngine, ray_cluster: RayCluster, predictor: Predictor
) -> None:
    with pytest.raises(ConfigError, match="the Ray cluster has none"):
        predictor.predict_many(FILES[:1], engine=engine, device="mps")
    model = build_classifier(INFO.model, INFO.clip, len(INFO.class_names))
    torch.nn.init.constant_(model.head.bias, float("nan"))
    with pytest.raises(WeightsError, match="not finite"):
        Predictor(model, INFO).predict_many(FILES[:1], views=VIEWS, engine=engine, device="cpu")
