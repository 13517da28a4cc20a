"""The comparison of scores is of the same clips, and knows what is equal."""

import json
from pathlib import Path
from typing import get_args

import pytest

from everest.bench.scores import KEEP_RATIOS, SCORINGS, bench_scores, format_scores
from everest.config import CheckpointInfo, Scoring
from everest.datasets import load_data
from everest.errors import ConfigError
from everest.models import build_autoencoder
from everest.models.weights import save_weights
from everest.settings import parse

BUNDLED = load_data("bundled")


def test_every_way_is_compared_with_the_exact_one() -> None:
    values = bench_scores(BUNDLED, size="tiny", num_clips=5)
    rows = {row["name"]: row for row in values["scorings"]}
    assert tuple(rows) == tuple(SCORINGS)
    assert set(get_args(Scoring)) - set(SCORINGS) == {"auto"}
    assert [entry["keep_ratio"] for entry in rows["exact"]["agreement"]] == list(KEEP_RATIOS)
    assert all(entry["mean"] == entry["lowest"] == 1.0 for entry in rows["exact"]["agreement"])
    for row in rows.values():
        assert row["ms_per_clip"] > 0
        assert all(0.25 < entry["lowest"] <= entry["mean"] <= 1.0 for entry in row["agreement"])
    assert rows["exact"]["gmacs"] > rows["bfloat16"]["gmacs"] > rows["projection"]["gmacs"] > rows["pixels"]["gmacs"]
    assert rows["pixels"]["gmacs"] == 0
    for name in ("l1", "cosine", "moving camera"):
        assert 0 < rows[name]["gmacs"] <= rows["exact"]["gmacs"]
    assert all(entry["mean"] < 1.0 for name in ("l1", "cosine") for entry in rows[name]["agreement"])
    assert all(entry["mean"] > 0.9 for entry in rows["moving camera"]["agreement"])  # it stands, in all clips
    assert values["num_clips"] == 5
    assert json.loads(json.dumps(values)) == values
    assert "same of 30% kept" in format_scores(values)


def test_a_checkpoint_is_asked_with_its_own_clips(tmp_path: Path) -> None:
    settings = {
        "task": "pretrain",
        "model": {"size": "tiny"},
        "clip": {"num_frames": 4, "height": 32, "width": 32},
        "selection": {"keep_ratio": 0.5, "encode_ratio": 0.25},
    }
    info = parse(CheckpointInfo, settings)
    path = tmp_path / "weights.safetensors"
    save_weights(build_autoencoder(info.model, info.clip), info, path)
    values = bench_scores(BUNDLED, checkpoint=path, num_clips=2)
    assert values["clip"]["height"] == 32
    assert values["checkpoint"] == str(path)


def test_no_clips_are_refused() -> None:
    with pytest.raises(ConfigError, match="at least one clip"):
        bench_scores(BUNDLED, num_clips=0)
