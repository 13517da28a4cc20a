"""Two small runs that tests of reports share; whoever changes one copies it first."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from everest import api
from everest.datasets import Manifest, load_data, write_manifest

SMALL = (
    *("model.size=tiny", "clip.num_frames=8", "clip.height=32", "clip.width=32", "optim.epochs=2"),
    *("optim.warmup_epochs=0", "optim.global_batch_size=4", "data.batch_size=4", "data.num_workers=0"),
    *("run.device=cpu", "run.tensorboard=false"),
)
EVALUATION = ("evaluation.num_segments=1", "evaluation.num_crops=1")


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight clips of two classes to learn from, and six to be evaluated on."""
    bundled = load_data("bundled")
    records = []
    for split, count in (("train", 4), ("test", 3)):
        for label in (0, 1):
            records += [r for r in bundled.records if r.label == label and r.split == split][:count]
    path = tmp_path_factory.mktemp("data") / "clips.csv"
    write_manifest(Manifest(tuple(records), bundled.class_names, path), path)
    return path


@pytest.fixture(scope="session")
def trained(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the runs ``pre`` and ``fine``, as the program leaves them."""
    folder = tmp_path_factory.mktemp("runs")
    api.pretrain(recipe="demo", data=clips, out=folder / "pre", settings=SMALL)
    api.finetune(recipe="demo", data=clips, out=folder / "fine", settings=(*SMALL, *EVALUATION), init=folder / "pre")
    return folder


@pytest.fixture
def copied(trained: Path, tmp_path: Path) -> Callable[[str], Path]:
    """Makes a copy of a run that may be changed."""

    def copy(name: str) -> Path:
        return Path(shutil.copytree(trained / name, tmp_path / name))

    return copy
