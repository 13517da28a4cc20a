"""Clips at URLs are predicted as those of this machine are, and what is secret in a URL is told to nobody."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from everest.cli import main
from everest.config import CheckpointInfo, ClipConfig, ModelConfig, SelectionConfig
from everest.datasets import Manifest, load_data, pack_manifest
from everest.datasets.pack import PackSettings
from everest.models import build_classifier, save_weights
from failing_server import FailingServer, serving


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three clips in a shard, and beside it weights."""
    folder = tmp_path_factory.mktemp("packed")
    bundled = load_data("bundled")
    few = Manifest(bundled.records[:3], bundled.class_names, bundled.source)
    assert not pack_manifest(few, folder / "data", PackSettings(short_side=32), num_workers=0).failures
    info = CheckpointInfo(
        task="finetune",
        model=ModelConfig(size="tiny"),
        clip=ClipConfig(num_frames=4, height=32, width=32, stride=2),
        selection=SelectionConfig(keep_ratio=0.5, encode_ratio=0.25),
        class_names=bundled.class_names,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_weights(build_classifier(info.model, info.clip, bundled.num_classes), info, folder / "w.safetensors")
    return folder


@pytest.fixture
def server(packed: Path) -> Iterator[FailingServer]:
    with serving() as found:
        found.files = {f"data/{path.name}": path.read_bytes() for path in (packed / "data").iterdir() if path.is_file()}
        yield found


def test_packed_clips_at_a_url_are_predicted_as_those_of_a_folder(
    packed: Path, server: FailingServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = server.url.replace("://", "://user:hunter2@")
    found = []
    for data in (str(packed / "data"), f"{url}/data", f"{url}/data/manifest.csv?sig=TOKEN"):
        out = tmp_path / f"{len(found)}.jsonl"
        assert main(["predict", str(packed / "w.safetensors"), data, "--json", "--views", "1x1"]) == 0
        assert main(["predict", str(packed / "w.safetensors"), data, "--out", str(out), "--views", "1x1"]) == 0
        told = capsys.readouterr()
        assert not any(secret in f"{told}{out.read_text()}" for secret in ("hunter2", "TOKEN"))
        found.append([row["classes"] for row in json.loads(told.out[: told.out.rindex("]") + 1])])
    assert len(found[0]) == 3
    assert found[0] == found[1] == found[2]


def test_a_list_that_is_not_there_and_a_single_video_are_refused_without_secrets(
    packed: Path, server: FailingServer, capsys: pytest.CaptureFixture[str]
) -> None:
    url = server.url.replace("://", "://user:hunter2@")
    predict, embed = ["predict"], ["embed", "--out", str(packed / "f.npz")]
    for command, given, reason in (
        (predict, ["no.csv"], "no.csv"),
        (predict, ["a.mp4"], "a.mp4: cannot be fetched: 404"),
        (embed, ["a.mp4"], "a.mp4: one video; at a URL"),
        (embed, ["data", "a.mp4"], "data: the URL of a list"),
    ):
        assert main([*command, str(packed / "w.safetensors"), *(f"{url}/{name}?sig=TOKEN" for name in given)]) == 2
        out, err = capsys.readouterr()
        assert err.splitlines()[-1].startswith(f"error: {server.url}/{reason}")
        assert not any(secret in out + err for secret in ("hunter2", "TOKEN"))
