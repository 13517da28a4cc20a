"""What a classifier is used for is timed on the same videos as its parts, each in turn."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from everest.bench import inference
from everest.bench.inference import COMPUTING, DECODING, bench_inference, format_inference
from everest.config import CheckpointInfo, EvaluationConfig
from everest.datasets import ClipRecord, Manifest, load_data
from everest.errors import ConfigError, DataError
from everest.models import Classifier, build_classifier
from everest.settings import parse

BUNDLED = load_data("bundled").split("test")
VIEWS = EvaluationConfig(num_segments=2, num_crops=1, batch_size=3)


def classifier() -> tuple[Classifier, CheckpointInfo]:
    settings = {
        "task": "finetune",
        "model": {"size": "tiny"},
        "clip": {"num_frames": 4, "height": 32, "width": 32, "stride": 2},
        "selection": {"method": "rero", "keep_ratio": 0.5, "encode_ratio": 0.25},
        "class_names": list(BUNDLED.class_names),
    }
    info = parse(CheckpointInfo, settings)
    torch.manual_seed(0)
    return build_classifier(info.model, info.clip, len(info.class_names)).eval(), info


def test_all_that_it_is_used_for_is_timed_and_each_part_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    model, info = classifier()
    sizes, classify = [], inference.classify_clips

    def counted(*given: Any) -> torch.Tensor:
        sizes.append(len(given[1]))
        return classify(*given)

    monkeypatch.setattr(inference, "classify_clips", counted)
    clock = iter(range(1000))  # each timing takes one second, whatever it is
    monkeypatch.setattr(inference, "now", lambda _: float(next(clock)))
    done: list[tuple[int, int]] = []
    values = bench_inference(
        model, info, BUNDLED, VIEWS, num_videos=4, rounds=2, num_workers=0, on_progress=lambda *n: done.append(n)
    )
    assert sizes == [3, 3, 2] * 3  # the views of four videos, in the batches of an evaluation, three times
    assert done == [(number, 15) for number in range(1, 16)]
    assert [row["name"] for row in values["rows"]] == [DECODING, COMPUTING, "evaluate", "predict", "embed"]
    for row in values["rows"]:
        assert (row["all_seconds"], row["videos_per_second"], row["views_per_second"]) == ([1.0, 1.0], 4.0, 8.0)
        assert row["of_both"] == (None if "alone" in row["name"] else 0.5)
    json.dumps(values)
    table = format_inference(values)
    assert "4 videos, 2 views each, 3 at a time, float32" in table
    assert table.splitlines()[3].split() == ["evaluate", "1.00", "4.0", "8.0", "0.50"]
    coarse = bench_inference(model, info, BUNDLED, VIEWS, num_videos=1, rounds=1, num_workers=0, dtype=torch.bfloat16)
    assert [row["of_both"] for row in coarse["rows"]] == [None, None, 0.5, 0.5, None]  # features are in float32
    assert "bfloat16" in (told := format_inference(coarse))
    assert "features in float32" in told


def test_videos_are_spread_and_what_cannot_be_read_is_no_timing(tmp_path: Path) -> None:
    model, info = classifier()
    chosen = inference._spread(BUNDLED, 4).records
    assert [BUNDLED.records.index(record) for record in chosen] == [len(BUNDLED) * place // 4 for place in range(4)]
    assert len(inference._spread(BUNDLED, 1000)) == len(BUNDLED)
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    data = Manifest((ClipRecord(broken, 0),), BUNDLED.class_names, BUNDLED.source)
    with pytest.raises(DataError, match="time what can be read"):
        bench_inference(model, info, data, VIEWS, num_workers=0)
    with pytest.raises(ConfigError, match="at least one video and one round, not 0 and 3"):
        bench_inference(model, info, BUNDLED, VIEWS, num_videos=0)
