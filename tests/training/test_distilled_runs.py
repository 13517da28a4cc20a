"""Whole runs of Masked Video Distillation: they learn, go on, and leave a student that needs no teacher."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from everest.config import PretrainConfig
from everest.datasets import Manifest, load_data
from everest.errors import ConfigError, WeightsError
from everest.models import DistillationStudent, build_classifier, initialize_from, load_model
from everest.recipes import get_recipe
from everest.settings import override
from everest.training import run_finetuning, run_pretraining
from everest.training.metrics import read_metrics
from everest.training.state import latest_state

SMALL = [
    *("model.size=tiny", "clip.height=32", "clip.width=32", "clip.num_frames=4"),
    *("optim.global_batch_size=4", "optim.epochs=1", "optim.warmup_epochs=0", "data.batch_size=4"),
    *("data.num_workers=0", "run.tensorboard=false", "run.device=cpu"),
]


def quiet(_: str) -> None:
    """Say nothing."""


@pytest.fixture(scope="module")
def data() -> Manifest:
    """Four labelled clips of two classes."""
    bundled = load_data("bundled").split("train")
    chosen = [next(i for i, r in enumerate(bundled.records) if r.label == label) for label in (0, 1)]
    return replace(bundled, records=tuple(bundled.records[i + j] for i in chosen for j in (0, 1)))


@pytest.fixture(scope="module")
def teachers(data: Manifest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a pre-trained run and a fine-tuned run."""
    folder = tmp_path_factory.mktemp("teachers")
    recipe = get_recipe("demo")
    assert recipe.pretrain is not None
    assert recipe.finetune is not None
    run_pretraining(override(recipe.pretrain, SMALL), data, folder / "video", say=quiet)
    run_finetuning(override(recipe.finetune, SMALL), data, folder / "image", say=quiet)
    return folder


def config_with(teachers: Path, *settings: str, recipe: str = "everest-mvd") -> PretrainConfig:
    config = get_recipe(recipe).pretrain
    assert config is not None
    named = [f"objective.{kind}_teacher={teachers / kind}" for kind in ("image", "video")]
    return override(config, [*SMALL, *named, *settings])


def test_the_student_lives_without_its_teachers(data: Manifest, teachers: Path, tmp_path: Path) -> None:
    own = tmp_path / "teachers"
    shutil.copytree(teachers, own)
    config = config_with(own, "optim.epochs=2", "run.save_every_epochs=1")
    said: list[str] = []
    run = run_pretraining(config, data, tmp_path / "run", say=said.append)
    assert run.num_steps == 2
    assert [line["loss"] > 0 for line in read_metrics(run.folder.metrics)] == [True, True]
    assert sum("teacher" in line for line in said) == 2

    shutil.rmtree(own)
    model, info = load_model(tmp_path / "run")
    assert isinstance(model, DistillationStudent)
    assert (info.objective.image_width, info.objective.video_width) == (192, 192)
    assert info.objective.video_teacher == str(own / "video")  # for people
    state = torch.load(latest_state(run.folder.checkpoints), weights_only=True)
    assert set(state["model"]) == set(load_file(run.folder.weights)) == set(model.state_dict())
    parameters = [number for group in state["optimizer"]["param_groups"] for number in group["params"]]
    assert len(parameters) == len(list(model.parameters()))

    recipe = get_recipe("everest-mvd").finetune
    assert recipe is not None
    classifier = build_classifier(info.model, info.clip, 2)
    report = initialize_from(classifier, tmp_path / "run")
    assert torch.equal(classifier.encoder.blocks[3].mlp.fc1.weight, model.encoder.blocks[3].mlp.fc1.weight)
    assert set(report.missing) == {"head.weight", "head.bias"}
    assert all(key.startswith(("down_", "mask_token_", "decoder_")) for key in report.unexpected)
    tuned = run_finetuning(override(recipe, SMALL), data, tmp_path / "tuned", init=tmp_path / "run", say=quiet)
    assert read_metrics(tuned.folder.metrics)[-1]["loss"] > 0

    with pytest.raises(WeightsError, match=r"objective\.image_teacher: .*image: expected a run folder"):
        run_pretraining(config, data, tmp_path / "run", resume="auto", say=quiet)


def test_a_resumed_run_ends_with_the_same_bits(data: Manifest, teachers: Path, tmp_path: Path) -> None:
    config = config_with(teachers, "optim.epochs=2", "run.save_every_epochs=1")
    whole = run_pretraining(config, data, tmp_path / "whole", say=quiet)
    shutil.copytree(tmp_path / "whole", tmp_path / "parts")
    newest = latest_state(tmp_path / "parts" / "checkpoints")
    assert newest is not None
    newest.unlink()  # as if the run had been stopped after the first of its two steps
    (tmp_path / "parts" / "weights.safetensors").unlink()
    resumed = run_pretraining(config, data, tmp_path / "parts", resume="auto", say=quiet)
    for name, value in load_file(whole.folder.weights).items():
        assert torch.equal(value, load_file(resumed.folder.weights)[name]), name


def test_training_brings_the_student_nearer_to_its_teacher(data: Manifest, teachers: Path, tmp_path: Path) -> None:
    settings = ["objective.image_teacher=none", "optim.epochs=40", "optim.base_lr=0.1", "model.drop_path=0"]
    config = config_with(
        teachers, *settings, "augment.flip=false", "augment.crop=center", "run.save_every_epochs=40", recipe="mvd"
    )
    run = run_pretraining(config, data, tmp_path / "run", say=quiet)
    losses = [line["loss"] for line in read_metrics(run.folder.metrics)]
    assert sum(losses[-4:]) < 0.8 * sum(losses[:4])
    assert not any("img" in key for key in run.model.state_dict())


def test_a_run_without_teachers_writes_nothing(data: Manifest, teachers: Path, tmp_path: Path) -> None:
    none = config_with(teachers, "objective.image_teacher=none", "objective.video_teacher=none")
    with pytest.raises(ConfigError, match=r"add --set objective\.video_teacher=PATH"):
        run_pretraining(none, data, tmp_path / "a", say=quiet)
    with pytest.raises(WeightsError, match=r"clips of 4x32x32, the student needs .* from clips of 4x64x32"):
        run_pretraining(config_with(teachers, "clip.height=64"), data, tmp_path / "b", say=quiet)
    assert not list(tmp_path.iterdir())
