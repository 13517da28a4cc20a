"""Whole runs of Masked Motion Encoding on bundled clips: flow, pre-training, what comes after."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from everest.cli import main
from everest.config import PretrainConfig
from everest.datasets import Manifest, compute_flow, load_data, write_manifest
from everest.errors import ConfigError, DataError
from everest.models import MotionAutoencoder, load_model
from everest.recipes import get_recipe
from everest.settings import override
from everest.training import run_pretraining
from everest.training.metrics import read_metrics

SMALL = [
    "model.size=tiny",
    "clip.height=32",
    "clip.width=32",
    "clip.num_frames=8",
    "optim.epochs=1",
    "optim.warmup_epochs=0.5",
    "optim.global_batch_size=4",
    "data.batch_size=2",
    "data.num_workers=0",
    "run.tensorboard=false",
    "run.device=cpu",
    "objective.name=mme",
]


@pytest.fixture(scope="module")
def listed(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """Eight bundled clips in a list of their own, with flow beside it."""
    bundled = load_data("bundled").split("train")
    path = tmp_path_factory.mktemp("data") / "list.csv"
    write_manifest(replace(bundled, records=tuple(replace(r, split=None) for r in bundled.records[::6][:8])), path)
    assert main(["data", "flow", str(path), "--workers", "1"]) == 0
    return load_data(path)


def pretrain_config(*settings: str) -> PretrainConfig:
    config = get_recipe("demo").pretrain
    assert config is not None
    return override(config, [*SMALL, *settings])


def quiet(_: str) -> None:
    """Say nothing."""


def test_pretraining_and_fine_tuning_from_the_command_line(listed: Manifest, tmp_path: Path) -> None:
    run, tuned = tmp_path / "run", tmp_path / "tuned"
    changes = [f"--set={setting}" for setting in ("optim.epochs=2", *SMALL[:4], *SMALL[5:])]
    data = ["--data", str(listed.source), "--recipe", "demo"]
    assert main(["pretrain", *data, "--out", str(run), *changes]) == 0
    lines = read_metrics(run / "metrics.jsonl")
    assert [line["step"] for line in lines] == [0, 1]
    assert all(0 < line["loss"] < 10 for line in lines)
    model, info = load_model(run)
    assert isinstance(model, MotionAutoencoder)
    assert (info.objective.name, info.objective.flow) == ("mme", None)
    assert main(["finetune", *data, "--out", str(tuned), "--init", str(run), *changes[:-1]]) == 0


@pytest.mark.parametrize(
    "settings",
    [
        ("selection.method=tube", "selection.encode_ratio=0.3"),
        ("selection.method=random",),
        ("selection.method=running_cell",),
        ("frame_selection.enabled=true",),
        ("data.clips_per_video=2", "data.num_workers=1"),
        ("model.patch_size=8",),
        ("model.tubelet_size=4",),
    ],
    ids=" ".join,
)
def test_it_goes_with_every_selection(settings: tuple[str, ...], listed: Manifest, tmp_path: Path) -> None:
    run = run_pretraining(pretrain_config(*settings), listed, tmp_path / "run", say=quiet)
    assert run.num_steps == 2 if "data.clips_per_video=2" not in settings else 4
    assert all(0 < line["loss"] < 10 for line in read_metrics(run.folder.metrics))


def test_the_same_seed_gives_the_same_weights_for_any_number_of_workers(listed: Manifest, tmp_path: Path) -> None:
    runs = [
        run_pretraining(pretrain_config(f"data.num_workers={n}"), listed, tmp_path / str(n), say=quiet) for n in (0, 2)
    ]
    first, second = (run.model.state_dict() for run in runs)
    assert all(torch.equal(value, second[key]) for key, value in first.items())


def test_it_learns(listed: Manifest, tmp_path: Path) -> None:
    config = pretrain_config("optim.epochs=25", "optim.base_lr=0.1", "augment.flip=false", "augment.crop=center")
    losses = [
        line["loss"] for line in read_metrics(run_pretraining(config, listed, tmp_path, say=quiet).folder.metrics)
    ]
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5])


def test_a_run_without_flow_leaves_no_folder_behind(tmp_path: Path) -> None:
    data = load_data("bundled").split("train")
    with pytest.raises(DataError, match=r"run `everest data flow bundled --out .*` first"):
        run_pretraining(pretrain_config(f"objective.flow={tmp_path / 'none'}"), data, tmp_path / "run", say=quiet)
    assert not (tmp_path / "run").exists()


def test_patches_without_whole_cells_are_refused_before_anything_is_read(listed: Manifest, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no multiple of 8"):
        run_pretraining(pretrain_config("model.patch_size=4"), listed, tmp_path / "run", say=quiet)
    assert not (tmp_path / "run").exists()


def test_flow_of_the_whole_list_is_good_for_its_parts(listed: Manifest, tmp_path: Path) -> None:
    assert compute_flow(listed, num_workers=0).num_known == 8
    part = replace(listed, records=listed.records[2:6], whole_digest=listed.digest)
    run = run_pretraining(pretrain_config(), part, tmp_path / "run", say=quiet)
    assert run.num_steps == 1
