"""The arithmetic of many GPUs: its laws, and that each limit is named where it holds."""

import json
from pathlib import Path
from typing import Any

import pytest

from everest.bench.scaling import LIMITS, ScalingInputs, bench_scaling
from everest.cli import main
from everest.errors import ConfigError

# A GPU of 1000 clips/s, and nothing else that limits.
FREE = {
    "size": "tiny",
    "global_batch": 1024,
    "clips_per_second": 1000.0,
    "filled_batch": 16,
    "cores_per_gpu": 1000,
    "node_gbytes_per_second": 1000.0,
    "store_mbytes_per_second": 1e9,
    "store_requests_per_second": 1e9,
}


def rows(gpus: tuple[int, ...] = (1, 8, 64), **changed: object) -> list[dict[str, Any]]:
    return bench_scaling(ScalingInputs(**{**FREE, **changed}), gpus)["rows"]


def test_where_nothing_limits_twice_the_gpus_are_twice_as_fast() -> None:
    for row in rows((1, 2, 4, 8, 16, 32, 64)):
        assert row["clips_per_second"] == pytest.approx(1000 * row["gpus"], rel=0.01)
        assert row["efficiency"] == pytest.approx(1, abs=0.01)
        assert row["limit"] == "compute"
        assert row["hours"] == pytest.approx(240_000 * 200 / row["clips_per_second"] / 3600)


@pytest.mark.parametrize(
    ("changed", "limit"),
    [
        ({"filled_batch": 32}, "batch"),
        ({"node_gbytes_per_second": 0.1}, "gradients"),
        ({"cores_per_gpu": 4}, "decoding"),
        ({"store_mbytes_per_second": 100.0}, "bytes"),
        ({"store_requests_per_second": 100.0}, "requests"),
    ],
)
def test_each_limit_is_named_and_costs(changed: dict[str, Any], limit: str) -> None:
    (row,) = rows((64,), **changed)
    assert row["limit"] == limit
    assert limit in LIMITS
    assert row["clips_per_second"] < 0.6 * rows((64,))[0]["clips_per_second"]


def test_gradients_travel_as_in_a_ring() -> None:
    values = bench_scaling(ScalingInputs(**{**FREE, "link_gbytes_per_second": 2.0}), (1, 2, 8, 64))
    num_bytes = 4 * values["num_parameters"]
    exchange = [row["seconds"]["exchange"] for row in values["rows"]]
    assert exchange == pytest.approx([0, num_bytes / 2e9, 1.75 * num_bytes / 2e9, 126 / 64 * num_bytes / 1e12])
    assert all(row["seconds"]["gradients"] <= row["seconds"]["exchange"] for row in values["rows"])


def test_what_a_cache_or_more_clips_of_a_video_save() -> None:
    limited = {"store_requests_per_second": 1000.0}
    (plain,), (cached,), (repeated,) = (
        rows((8,), **limited, **more) for more in ({}, {"cached_share": 0.75}, {"clips_per_video": 4})
    )
    assert plain["limit"] == cached["limit"] == repeated["limit"] == "requests"
    assert cached["clips_per_second"] == pytest.approx(4 * plain["clips_per_second"])
    assert repeated["clips_per_second"] == pytest.approx(4 * plain["clips_per_second"])
    assert repeated["hours"] == pytest.approx(plain["hours"])  # an epoch has four times the clips


def test_what_is_needed_is_what_frees_a_step() -> None:
    (slow,) = rows((8,), cores_per_gpu=2, store_mbytes_per_second=50.0, store_requests_per_second=50.0)
    needed = {
        "store_mbytes_per_second": slow["node_mbytes_needed"],
        "store_requests_per_second": slow["requests_needed"],
    }
    (freed,) = rows((8,), **needed, cores_per_gpu=-(-slow["cores_needed"] // 1))
    assert slow["limit"] != "compute"
    assert freed["clips_per_second"] == pytest.approx(8000, rel=0.01)


def test_the_rate_follows_from_the_work() -> None:
    values = bench_scaling(ScalingInputs(size="tiny", peak_tflops=100.0, utilisation=0.5), (1,))
    assert values["clips_per_second"] == pytest.approx(50e12 / (1e9 * values["gflop_per_clip"]))
    assert values["state_mbytes"] == pytest.approx(12 * values["num_parameters"] / 1e6)


def test_a_batch_that_cannot_be_divided_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"global_batch \(1024\) must be a multiple of 3 GPUs"):
        rows((3,))
    with pytest.raises(ConfigError, match="4 clips per video"):
        rows((512,), clips_per_video=4)


def test_inputs_come_from_a_file_and_the_result_is_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in.json").write_text(json.dumps(FREE))
    command = ["bench", "scaling", "--gpus", "1,8", "--set", "cores_per_gpu=4"]
    assert main([*command, "--inputs", str(tmp_path / "in.json"), "--json"]) == 0
    out = capsys.readouterr().out
    assert [row["limit"] for row in json.loads(out)["rows"]] == ["decoding", "decoding"]
    (tmp_path / "out.json").write_text(out)
    assert main([*command, "--inputs", str(tmp_path / "out.json")]) == 0
    told = capsys.readouterr().out
    assert told.count("decoding") == 3
    for given, problem in (("nothing", "cannot be read"), ("[]", "expected settings by name")):
        (tmp_path / "bad.json").write_text(given)
        assert main([*command, "--inputs", str(tmp_path / "bad.json")]) == 2
        assert problem in capsys.readouterr().err
    assert main(["bench", "scaling", "--set", "cores_per_cpu=4"]) == 2
    assert "did you mean 'cores_per_gpu'" in capsys.readouterr().err
