"""The dial measures the same videos at every ratio, and a ratio of its own training as evaluation does."""

import json
from pathlib import Path

import pytest
import torch

from everest.bench.dial import bench_dial, format_dial
from everest.bench.macs import count_task
from everest.config import CheckpointInfo, EvaluationConfig
from everest.datasets import ClipRecord, Manifest, load_data
from everest.errors import ConfigError, DataError
from everest.evaluation import evaluate, with_keep_ratio
from everest.models import Classifier, build_classifier
from everest.settings import parse

BUNDLED = load_data("bundled").split("test")
FEW = Manifest(BUNDLED.records[::5], BUNDLED.class_names, BUNDLED.source)
VIEWS = EvaluationConfig(num_segments=2, num_crops=1)


def classifier(method: str = "rero", keep_ratio: float = 0.5) -> tuple[Classifier, CheckpointInfo]:
    settings = {
        "task": "finetune",
        "model": {"size": "tiny"},
        "clip": {"num_frames": 4, "height": 32, "width": 32, "stride": 2},
        "selection": {"method": method, "keep_ratio": keep_ratio, "encode_ratio": 0.25},
        "class_names": list(BUNDLED.class_names),
    }
    info = parse(CheckpointInfo, settings)
    torch.manual_seed(0)
    model = build_classifier(info.model, info.clip, len(info.class_names)).eval()
    torch.nn.init.normal_(model.head.weight)
    return model, info


def test_every_ratio_is_measured_on_the_same_videos() -> None:
    model, info = classifier()
    done: list[tuple[int, int]] = []
    values = bench_dial(
        model, info, FEW, VIEWS, ratios=(0.25, 1.0), num_workers=0, on_progress=lambda *n: done.append(n)
    )
    assert [row["keep_ratio"] for row in values["rows"]] == [1.0, 0.5, 0.25]
    assert [row["tokens"] for row in values["rows"]] == [8, 4, 2]
    assert values["num_clips"] == len(FEW) == len(done)
    macs = [row["gmacs"] for row in values["rows"]]
    assert macs == sorted(macs, reverse=True)
    counted = [count_task(with_keep_ratio(info, row["keep_ratio"]))["gmacs"] for row in values["rows"]]
    assert macs == pytest.approx(counted, rel=1e-6)  # attention as well
    assert values["rows"][1]["times_trained"] == 1.0
    assert all(row["ms_per_view"] > 0 for row in values["rows"])
    assert json.loads(json.dumps(values)) == values
    for row in values["rows"]:
        result = evaluate(model, with_keep_ratio(info, row["keep_ratio"]), FEW, VIEWS, num_workers=0)
        assert (row["top1"], tuple(row["top1_interval"])) == (result.top1, result.top1_interval)
    assert "* as it was trained" in format_dial(values)


def test_what_cannot_be_read_is_listed(tmp_path: Path) -> None:
    model, info = classifier()
    (tmp_path / "bad.mp4").write_bytes(b"")
    bad = ClipRecord(tmp_path / "bad.mp4", label=0)
    values = bench_dial(model, info, Manifest((bad, *FEW.records), FEW.class_names, FEW.source), VIEWS, ratios=(1.0,))
    assert [Path(failure["path"]) for failure in values["failures"]] == [bad.path]
    assert values["num_clips"] == len(FEW)
    with pytest.raises(DataError, match="none of the 1 clips can be read"):
        bench_dial(model, info, Manifest((bad,), FEW.class_names, FEW.source), VIEWS, ratios=(1.0,))


def test_no_ratio_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least one keep ratio"):
        bench_dial(*classifier(), FEW, VIEWS, ratios=())


@pytest.mark.parametrize("keep_ratio", [0.0, -0.1, 1.1, float("nan")])
def test_ratios_out_of_range_are_refused(keep_ratio: float) -> None:
    with pytest.raises(ConfigError, match="above 0 and up to 1"):
        with_keep_ratio(classifier()[1], keep_ratio)


def test_a_model_of_all_tokens_takes_those_that_change_most() -> None:
    _, info = classifier("all", keep_ratio=1.0)
    assert with_keep_ratio(info, None) is info
    turned = with_keep_ratio(info, 0.125).selection
    assert (turned.method, turned.keep_ratio, turned.encode_ratio) == ("rero", 0.125, 0.125)
    assert with_keep_ratio(classifier("random")[1], 0.5).selection.method == "random"
