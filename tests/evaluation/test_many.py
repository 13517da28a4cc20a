"""The work on many videos, without a cluster to do it on."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from everest.config import CheckpointInfo, ClipConfig, EvaluationConfig, ModelConfig, RemoteConfig, SelectionConfig
from everest.datasets import ClipRecord, Manifest, PackSettings, Views, build_view_loader, load_data, pack_manifest
from everest.datasets import store as stores
from everest.datasets.pool import Lost, run_parallel
from everest.datasets.store import through_store
from everest.errors import DataError, VideoError
from everest.evaluation.many import Classify, ComputeBlock, Decode, DecodedVideo
from everest.models import build_classifier, classify_clips
from everest.video.remote import Patience
from failing_server import FailingServer, Fault, serving

BUNDLED = load_data("bundled")
CLIP = ClipConfig(num_frames=4, height=32, width=32, stride=2)
INFO = CheckpointInfo(
    task="finetune",
    model=ModelConfig(size="tiny"),
    clip=CLIP,
    selection=SelectionConfig(keep_ratio=0.5, encode_ratio=0.25),
    class_names=BUNDLED.class_names,
)
VIEWS = EvaluationConfig(num_segments=2, num_crops=1, batch_size=3, time_limit_seconds=60.0)


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("packed") / "out"
    few = Manifest(BUNDLED.records[:8], BUNDLED.class_names, BUNDLED.source)
    pack_manifest(few, out, PackSettings(clips_per_shard=3), num_workers=1)
    return out


@pytest.fixture
def server(packed: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FailingServer]:
    monkeypatch.setattr(stores, "DEFAULT_PATIENCE", Patience(3.0, 8, 3, 0.01, 0.05, 30.0))
    with serving() as found:
        found.files = {f"data/{path.name}": path.read_bytes() for path in packed.iterdir() if path.is_file()}
        yield found


def decoded(records: tuple[ClipRecord, ...], views: EvaluationConfig, limit: float) -> list[DecodedVideo | Lost]:
    function = Decode(CLIP, views, CLIP.num_frames)
    found = run_parallel(function, records, num_workers=1, time_limit_seconds=limit)
    return [outcome for _, outcome in found]


def views_of(record: ClipRecord) -> Views:
    manifest = Manifest((record,), BUNDLED.class_names, Path())
    return next(iter(build_view_loader(manifest, CLIP, VIEWS, num_workers=0)))


def test_the_network_may_take_longer_than_decoding(server: FailingServer) -> None:
    records = load_data(f"{server.url}/data").records[:2]
    server.fault_of = lambda request: Fault(slow_seconds=3.0)
    views = VIEWS.model_copy(update={"remote": RemoteConfig(patience_seconds=20.0)})
    through, _ = through_store(records, views.remote, 1)
    for video, local in zip(decoded(through, views, 1.5), BUNDLED.records, strict=False):
        assert isinstance(video, DecodedVideo)
        assert video.error is None
        assert video.views(CLIP, 1).num_views == views_of(local).num_views


def test_a_store_that_is_gone_is_no_fault_of_the_videos(server: FailingServer) -> None:
    manifest = load_data(f"{server.url}/data")
    server.fault_of = lambda request: Fault(close=True)
    views = VIEWS.model_copy(update={"remote": RemoteConfig(patience_seconds=0.3)})
    records, _ = through_store(manifest.records, views.remote, 1)
    videos = decoded(records, views, 20.0)
    assert all(isinstance(video, DecodedVideo) and video.error for video in videos[:4])
    model = build_classifier(INFO.model, CLIP, len(INFO.class_names))
    block = ComputeBlock(Classify(model, INFO), CLIP, views, "cpu")
    assert [error is None for error, _ in block(videos[:4])] == [False] * 4
    with pytest.raises(DataError, match="the server or the network is gone") as raised:
        block(videos)
    assert not isinstance(raised.value, VideoError)


def test_blocks_give_what_the_model_gives() -> None:
    """Videos share batches, and one that cannot be read has its reason in its place."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build_classifier(INFO.model, CLIP, len(INFO.class_names))
        torch.nn.init.normal_(model.head.weight, std=0.3)
    records = (*BUNDLED.records[:3], replace(BUNDLED.records[0], path=Path("none.mp4")))
    task = Decode(CLIP, VIEWS, CLIP.num_frames)
    videos = [outcome for _, outcome in run_parallel(task, records, num_workers=0, time_limit_seconds=None)]
    found = ComputeBlock(Classify(model.eval(), INFO), CLIP, VIEWS, "cpu")([*videos, Lost("its memory ran out")])
    reasons = [error for error, _ in found]
    assert reasons == [None, None, None, "no such file; a video file is expected", "its memory ran out"]
    for (_, probabilities), record in zip(found, records[:3], strict=False):
        clips = torch.stack(list(views_of(record).unbind()))  # [V,C,T,H,W]
        with torch.inference_mode():
            expected = classify_clips(model, clips, INFO).double().mean(dim=0)  # [K]
        np.testing.assert_allclose(probabilities, expected.numpy(), atol=1e-6)
        assert probabilities.sum() == pytest.approx(1)
