"""Links that lie in the way are not written through: a folder of somebody else costs no file that is mine.

Each test plants one link at a time, so that each is reached.
"""

import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest

from everest.cli import main
from everest.config import CheckpointInfo, ClipConfig, EvaluationConfig, ModelConfig, SelectionConfig
from everest.datasets import ClipRecord, Manifest, PackSettings, load_data, pack_manifest
from everest.datasets.clip_cache import ClipCache
from everest.datasets.flow_files import FlowHeader, write_flow
from everest.datasets.packing import PackTask
from everest.datasets.ray_engine import _take_file
from everest.errors import ConfigError, EverestError, RunError
from everest.inference import ClipPrediction, Predictor
from everest.inference.kept import PredictionFile
from everest.models import build_classifier
from everest.models.weights.writing import write_file
from everest.training.heartbeats import Heart
from everest.training.metrics import MetricsLog
from everest.training.notes import append_line
from everest.training.rundir import RunFolder
from everest.training.runs import _Run

CLIP = sorted(record.path for record in load_data("bundled").records)[0]
SETTINGS = PackSettings(short_side=32)
REFUSED = "is a link, through which nothing is written"
NOTES = "my notes"


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A file outside the folder that is worked in."""
    path = tmp_path / "mine.txt"
    path.write_text(NOTES)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "folder"
    path.mkdir()
    return path


def plant(link: Path, target: Path) -> None:
    link.parent.mkdir(exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(target)


def listed(folder: Path, *clips: Path) -> Manifest:
    (folder / "list.csv").write_text("path,label\n" + "".join(f"{clip},a\n" for clip in clips))
    return load_data(folder / "list.csv")


@pytest.mark.parametrize(
    "name",
    [
        *("000000.tar", "000000.tar.part", "000000.json", "000000.json.part", "manifest.csv", "manifest.csv.part"),
        *("pack.json", "pack.json.part", ".lock", ".encoding", ".encoding/00000000.mp4"),
        *(".encoding/00000000.json", ".encoding/00000000.json.part"),
    ],
)
def test_a_pack_that_goes_on(name: str, folder: Path, mine: Path, tmp_path: Path) -> None:
    manifest, out, aside = listed(folder, CLIP), folder / "packed", tmp_path / "aside"
    pack_manifest(manifest, out, SETTINGS, num_workers=0)
    (out / "000000.json").unlink()  # so that the shard is written anew
    aside.mkdir()
    (aside / "00000000.mp4").write_text(NOTES)
    plant(out / name, aside if name == ".encoding" else mine)
    with suppress(EverestError):
        pack_manifest(manifest, out, SETTINGS, num_workers=0)
    assert mine.read_text() == NOTES
    (film,) = aside.iterdir()
    assert film.read_text() == NOTES


@pytest.mark.parametrize("name", [".lock", "pack.json.part"])
def test_a_pack_that_begins(name: str, folder: Path, mine: Path) -> None:
    plant(folder / "packed" / name, mine)
    with suppress(EverestError):
        pack_manifest(listed(folder, CLIP), folder / "packed", SETTINGS, num_workers=0)
    assert mine.read_text() == NOTES


def test_a_pack_whose_lock_is_a_link_says_so(folder: Path, mine: Path) -> None:
    plant(folder / "packed" / ".lock", mine)
    with pytest.raises(EverestError, match=rf"packed/\.lock {REFUSED}"):
        pack_manifest(listed(folder, CLIP), folder / "packed", SETTINGS, num_workers=0)


def test_a_clip_that_is_added_to_a_shard(folder: Path, mine: Path) -> None:
    """The others are taken out of the shard, to the folder of those that wait for one."""
    (folder / "late.mp4").touch()
    manifest, out = listed(folder, CLIP, folder / "late.mp4"), folder / "packed"
    assert len(pack_manifest(manifest, out, SETTINGS, num_workers=0).failures) == 1
    shutil.copy(CLIP, folder / "late.mp4")
    plant(out / ".encoding" / "00000000.mp4", mine)
    assert pack_manifest(manifest, out, SETTINGS, num_workers=0).failures == ()
    assert mine.read_text() == NOTES


@pytest.mark.parametrize("name", ["", ".part", ".lock"])
def test_a_check(name: str, folder: Path, mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    listed(folder, CLIP)
    plant(folder / f"list.csv.check.jsonl{name}", mine)
    code = main(["data", "check", str(folder / "list.csv"), "--workers=0"])
    assert mine.read_text() == NOTES
    assert code == (0 if name == ".part" else 2)
    assert (REFUSED in capsys.readouterr().err) == (name == ".lock")


@pytest.mark.parametrize("is_there", [True, False])
def test_a_check_whose_report_is_elsewhere(is_there: bool, folder: Path, tmp_path: Path) -> None:
    listed(folder, CLIP)
    report, mine = folder / "list.csv.check.jsonl", tmp_path / "mine.jsonl"
    command = ["data", "check", str(folder / "list.csv"), "--workers=0"]
    assert main(command) == 0
    content = report.read_bytes() + b'{"path": "cut off'
    if is_there:
        mine.write_bytes(content)
    plant(report, mine)
    assert main(command) == 2
    assert mine.exists() == is_there
    assert not is_there or mine.read_bytes() == content


@pytest.mark.parametrize("name", ["", ".part", ".lock"])
def test_predictions(name: str, folder: Path, mine: Path) -> None:
    info = CheckpointInfo(
        task="finetune",
        model=ModelConfig(size="tiny"),
        clip=ClipConfig(num_frames=4, height=32, width=32),
        selection=SelectionConfig(keep_ratio=0.6, encode_ratio=0.1),
        class_names=("falls", "walks"),
    )
    predictor = Predictor(build_classifier(info.model, info.clip, 2), info)
    views, path, record = EvaluationConfig(num_segments=1, num_crops=1), folder / "out.jsonl", ClipRecord(CLIP)
    prediction = ClipPrediction(CLIP, (("falls", 1.0),), None, None, 0.1)

    def predict() -> None:
        with PredictionFile(path, predictor, views, 5) as file:
            file.add(record, prediction)
            file.finish([record], [prediction])

    predict()
    content = path.read_bytes() + b'{"video": "cut off'
    mine.write_bytes(content)
    plant(folder / f"out.jsonl{name}", mine)
    if name == ".part":
        predict()
    else:
        with pytest.raises(EverestError, match=REFUSED):
            predict()
    assert mine.read_bytes() == content


def ray_clip(folder: Path) -> None:
    _take_file(PackTask(ClipRecord(CLIP), folder / "00000000.mp4", SETTINGS), (None, b"film"))


def flow(folder: Path) -> None:
    write_flow(folder / "ab.safetensors", FlowHeader("a.mp4", 1, 1, fault="none"), [])


def weights(folder: Path) -> None:
    write_file(folder / "model.safetensors", lambda file: file.write(b"weights"))


@pytest.mark.parametrize(
    ("write", "name"),
    [
        (ray_clip, "00000000.mp4.part"),
        (flow, ".ab.safetensors.partial"),
        (weights, ".model.safetensors.partial"),
    ],
)
def test_files_that_replace_others(write: Callable[[Path], None], name: str, folder: Path, mine: Path) -> None:
    plant(folder / name, mine)
    write(folder)
    assert mine.read_text() == NOTES
    (written,) = folder.iterdir()
    assert written.is_file()
    assert not written.is_symlink()


def test_the_number_of_bytes_of_a_cache(folder: Path, mine: Path) -> None:
    plant(folder / "everest-clips" / "num_bytes", mine)
    with pytest.raises(ConfigError, match=REFUSED):
        ClipCache(folder, 1000).prepare()
    assert mine.read_text() == NOTES


def test_the_metrics_of_a_run(folder: Path, mine: Path) -> None:
    mine.write_text('{"step": 0}\n')
    plant(folder / "metrics.jsonl", mine)
    with pytest.raises(RunError, match=REFUSED):
        MetricsLog(RunFolder(folder), tensorboard=False)
    assert mine.read_text() == '{"step": 0}\n'


def test_the_log_of_a_run(folder: Path, mine: Path) -> None:
    plant(folder / "log.txt", mine)
    append_line(folder / "log.txt", "a line")  # says nothing: the run has other troubles
    run = SimpleNamespace(engine=SimpleNamespace(is_main=True), say=lambda _: None, folder=RunFolder(folder))
    with pytest.raises(RunError, match=REFUSED):
        _Run.tell(run, "a line")  # type: ignore[arg-type]
    assert mine.read_text() == NOTES


def test_the_sign_of_life_of_a_run(folder: Path, mine: Path) -> None:
    plant(folder / "ranks" / ".rank-0.json.tmp", mine)
    Heart(folder, 0).begin()
    assert mine.read_text() == NOTES
    assert [path.name for path in (folder / "ranks").iterdir()] == ["rank-0.json"]
