"""What is measured of a far store is what its server was asked for."""

import json
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from everest.bench.far_away import serve
from everest.cli import main
from everest.datasets import Manifest, load_data, pack_manifest
from everest.datasets.pack import PackSettings

BUNDLED = load_data("bundled")


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("packed") / "out"
    few = Manifest(BUNDLED.records[:8], BUNDLED.class_names, BUNDLED.source)
    pack_manifest(few, out, PackSettings(64, clips_per_shard=4), num_workers=0)
    return out


def test_ways_are_measured_by_what_the_server_sent(packed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--latency", "0.01", "--batch", "4", "--frames", "4", "--size", "32", "--json"]
    assert main(["bench", "store", str(packed), *options]) == 0
    values = json.loads(capsys.readouterr().out)
    requests = {(row["name"].split(" (")[0], row["epoch"]): row["requests"] for row in values["rows"]}
    assert requests["disk", 1] == requests["disk", 2] == 0
    for way in ("one request after the other", "fetched ahead"):
        assert requests[way, 1] == requests[way, 2] == 8
    assert (requests["cache", 1], requests["cache", 2]) == (8, 0)
    assert 0 < requests["cache for half of the clips", 2] < 8
    assert requests["whole shards", 2] == 0
    sent = {(row["name"].split(" (")[0], row["epoch"]): 1e6 * row["mbytes"] for row in values["rows"]}
    members = [record.member for record in load_data(packed).records if record.member is not None]
    assert sent["cache", 1] == pytest.approx(sum(member.num_bytes for member in members))
    assert sent["whole shards", 1] >= sum(path.stat().st_size for path in packed.glob("*.tar"))
    assert main(["bench", "store", str(packed), *options[:-1], "--epochs", "1"]) == 0
    assert "clips of" in capsys.readouterr().out


def test_numbers_that_cannot_be_measured_with_are_refused(packed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "store", str(packed), "--rate", "0"]) == 2
    assert "more than 0" in capsys.readouterr().err
    assert main(["bench", "store", "bundled"]) == 2
    assert "holds no packed shards" in capsys.readouterr().err


def test_the_server_waits_sends_slowly_and_knows_one_folder(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "file").write_bytes(b"x" * 200_000)
    (tmp_path / "secret").write_text("x")
    with serve(tmp_path / "in", 0.1, 1e6) as place:
        began = time.monotonic()
        with urllib.request.urlopen(f"{place.url}/file") as answer:
            assert len(answer.read()) == 200_000
        assert time.monotonic() - began > 0.2
        for name in ("secret", "../secret", "%2e%2e/secret"):
            with pytest.raises(urllib.error.HTTPError):
                urllib.request.urlopen(f"{place.url}/{name}")
        assert (place.num_requests, place.num_bytes) == (1, 200_000)
