"""Checking, packing and optical flow on a Ray cluster: the files that they write are those of the local engine."""

import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from everest.cli import main
from everest.datasets import (
    ClipRecord,
    Manifest,
    PackSettings,
    check_manifest,
    compute_flow,
    load_data,
    pack_manifest,
    write_manifest,
)
from everest.datasets.ray_engine import RayEngine
from everest.training.progress import Progress
from everest.video.source import ShardMember
from ray_clusters import RayCluster

BUNDLED = load_data("bundled")
FILES = list(dict.fromkeys(record.path for record in BUNDLED.records))
Capture = pytest.CaptureFixture[str]
TIMES = ("seconds_before", "seconds_after", "ms_before", "ms_after")

LOOKING = """
import sys
from pathlib import Path
import psutil
from everest.cli import main
from everest.datasets import ray_start

end = ray_start._shut_down

def look_and_end(ray):
    children = psutil.Process().children(recursive=True)
    found = [c for p in [psutil.Process(), *children] for c in p.net_connections("inet") if c.status == "LISTEN"]
    Path("listening").write_text(" ".join(c.laddr.ip for c in found))
    end(ray)

ray_start._shut_down = look_and_end
sys.exit(main())
"""
"""The program, which writes down at its end where the Ray that it has started listens."""


@pytest.fixture(scope="module")
def engine(ray_machines: RayCluster) -> Iterator[RayEngine]:
    with RayEngine(address=ray_machines.address) as engine:
        yield engine


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Manifest]:
    """Files that can be read, that cannot, that are twice the same, and one that hangs whoever opens it."""
    folder = tmp_path_factory.mktemp("videos")
    paths = [Path(shutil.copy(path, folder / f"{i}.mp4")) for i, path in enumerate((*FILES, FILES[0]))]
    for name, content in {"empty": b"", "text": b"hello", "cut": FILES[1].read_bytes()[:20000]}.items():
        (folder / f"{name}.mp4").write_bytes(content)
    paths[4:4] = [folder / f"{name}.mp4" for name in ("empty", "text", "cut", "none")]
    records = [ClipRecord(path, 0) for path in paths]
    with socket.socket() as silent:  # takes connections, and never answers
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        shard = f"http://127.0.0.1:{silent.getsockname()[1]}/0.tar"
        records.insert(6, ClipRecord(Path(shard) / "hang.mp4", 0, member=ShardMember(shard, "hang.mp4", 512, 1000)))
        yield Manifest(tuple(records), ("x",), folder)


def test_a_check_says_the_same_although_a_machine_is_killed(
    ray_cluster: RayCluster, mixed: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Capture
) -> None:
    """The first of this file, so that the command reaches the cluster itself."""
    update, killed_at = Progress.update, []

    def kill_half_way(self: Progress, num_done: int) -> None:
        update(self, num_done)
        if num_done >= len(mixed) // 2 and not killed_at:
            killed_at.append(num_done)
            ray_cluster.kill_one()

    local = check_manifest(mixed, 2, report=tmp_path / "local.jsonl", time_limit_seconds=3.0)
    monkeypatch.setattr(Progress, "update", kill_half_way)
    monkeypatch.setattr("everest.datasets.load_data", lambda _: mixed)
    options = ["--engine", "ray", "--ray-address", ray_cluster.address, "--report", str(tmp_path / "ray.jsonl")]
    assert main(["data", "check", "mixed", *options, "--time-limit", "3", "--json"]) == 1
    captured = capfd.readouterr()
    assert killed_at
    assert (tmp_path / "ray.jsonl").read_bytes() == (tmp_path / "local.jsonl").read_bytes()
    assert json.loads(captured.out) == json.loads(json.dumps(local.to_dict() | {"report": str(tmp_path / "ray.jsonl")}))
    assert all(line.startswith("checking ") for line in captured.err.splitlines())
    faults = {row["path"].rpartition("/")[2]: row["fault"] for row in json.loads(captured.out)["files"] if row["fault"]}
    assert len(faults) == 5
    assert faults["hang.mp4"] == "took longer than 3 s and was stopped"


def test_the_command_starts_ray_on_this_machine_and_is_quiet(tmp_path: Path) -> None:
    """In a process of its own, for one that is with a cluster does not start another Ray."""
    manifest = tmp_path / "list.csv"
    (tmp_path / "empty.mp4").touch()
    write_manifest(Manifest((ClipRecord(FILES[0]), ClipRecord(tmp_path / "empty.mp4")), (), manifest), manifest)
    command = [sys.executable, "-c", LOOKING, "data", "check", str(manifest), "--engine", "ray", "--workers", "1"]
    found = subprocess.run([*command, "--json"], capture_output=True, text=True, timeout=300, check=False, cwd=tmp_path)
    assert found.returncode == 1, found.stderr
    assert json.loads(found.stdout)["num_unreadable"] == 1
    assert all(line.startswith("checking ") for line in found.stderr.splitlines()), found.stderr
    listening = (tmp_path / "listening").read_text().split()
    assert listening
    assert {address.removeprefix("::ffff:") for address in listening} == {"127.0.0.1"}  # no other machine reaches it


def test_ray_that_is_not_asked_for_or_not_there_is_said(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["data", "check", "bundled", "--report", str(tmp_path / "report.jsonl")]
    assert main([*command, "--ray-address", "somewhere:1"]) == 2
    assert "add --engine ray" in capfd.readouterr().err
    monkeypatch.setattr("everest.datasets.ray_start.importlib.util.find_spec", lambda _: None)
    assert main([*command, "--engine", "ray"]) == 2
    assert "pip install 'everest-video[ray]'" in capfd.readouterr().err


def test_a_check_goes_on_where_it_stopped(engine: RayEngine, ray_cluster: RayCluster, tmp_path: Path) -> None:
    report = tmp_path / "report.jsonl"
    manifest = Manifest(tuple(ClipRecord(path) for path in FILES), (), FILES[0].parent)

    def stop(num_done: int, _: int) -> None:
        if num_done == 9:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        check_manifest(manifest, 0, stop, report=report, engine=engine)
    assert len(report.read_text().splitlines()) == 9
    assert check_manifest(manifest, 0, report=report, engine=engine).num_reused == 9


def test_a_pack_is_the_same_although_a_machine_is_killed(
    engine: RayEngine, ray_cluster: RayCluster, mixed: Manifest, tmp_path: Path
) -> None:
    records = (*BUNDLED.records[:8], *mixed.records[4:6], *mixed.records[7:9])
    manifest = Manifest(records, BUNDLED.class_names, BUNDLED.source)
    settings = PackSettings(clips_per_shard=4)
    local = pack_manifest(manifest, tmp_path / "local", settings, num_workers=1)
    killed_at: list[int] = []

    def kill(num_done: int, _: int) -> None:
        if num_done >= 4 and not killed_at:
            killed_at.append(num_done)
            ray_cluster.kill_one()

    remote = pack_manifest(manifest, tmp_path / "ray", settings, on_progress=kill, engine=engine)
    assert killed_at
    assert remote.failures == local.failures
    assert len(remote.failures) == 4
    names = sorted(path.name for path in (tmp_path / "local").iterdir())
    assert sorted(path.name for path in (tmp_path / "ray").iterdir()) == names
    for name in names:
        if name.endswith((".tar", ".csv", ".txt")):
            assert (tmp_path / "ray" / name).read_bytes() == (tmp_path / "local" / name).read_bytes(), name
        else:
            assert without_times(tmp_path / "ray" / name) == without_times(tmp_path / "local" / name), name
    assert pack_manifest(manifest, tmp_path / "ray", settings, engine=engine).num_reused == 8


def without_times(path: Path) -> object:
    def strip(value: object) -> object:
        if isinstance(value, dict):
            return {key: strip(each) for key, each in value.items() if key not in TIMES}
        return [strip(each) for each in value] if isinstance(value, list) else value

    return strip(json.loads(path.read_text()))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_commands_pack_and_compute_flow(ray_cluster: RayCluster, tmp_path: Path, capfd: Capture) -> None:
    pytest.importorskip("cv2")
    listed = tmp_path / "list.csv"
    write_manifest(Manifest(BUNDLED.records[:3], BUNDLED.class_names, listed), listed)
    on_ray = ["--engine", "ray", "--ray-address", ray_cluster.address, "--json"]
    assert main(["data", "pack", str(listed), str(tmp_path / "packed"), *on_ray]) == 0
    assert json.loads(capfd.readouterr().out)["num_clips"] == 3
    assert main(["data", "verify", str(tmp_path / "packed")]) == 0
    capfd.readouterr()
    assert main(["data", "flow", str(listed), "--out", str(tmp_path / "flow"), *on_ray]) == 0
    assert json.loads(capfd.readouterr().out)["num_clips"] == 3


def test_optical_flow_is_the_same(engine: RayEngine, ray_cluster: RayCluster, mixed: Manifest, tmp_path: Path) -> None:
    pytest.importorskip("cv2")
    manifest = Manifest((*BUNDLED.records[:3], mixed.records[4]), BUNDLED.class_names, BUNDLED.source)
    local = compute_flow(manifest, tmp_path / "local", 0)
    remote = compute_flow(manifest, tmp_path / "ray", engine=engine)
    assert remote.failures == local.failures
    assert len(local.failures) == 1
    assert contents(tmp_path / "ray") == contents(tmp_path / "local")
    assert compute_flow(manifest, tmp_path / "ray", engine=engine).num_known == 3
