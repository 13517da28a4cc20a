"""Every system of the paper's tables, and ours: pre-trains, fine-tunes and evaluates on the bundled clips."""

from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import get_args

import pytest

from everest.config import (
    VARYING,
    Arch,
    EvaluationConfig,
    FinetuneConfig,
    ObjectiveName,
    PretrainConfig,
    SelectionMethod,
)
from everest.datasets import Manifest, compute_flow, load_data
from everest.evaluation import evaluate
from everest.models import Classifier, build_autoencoder, save_weights
from everest.recipes import get_recipe
from everest.settings import override
from everest.tokens import count_tokens
from everest.training import describe_checkpoint, run_finetuning, run_pretraining
from everest.training.metrics import read_metrics

SMALL = [
    "clip.height=32",
    "clip.width=32",
    "data.batch_size=8",
    "data.num_workers=0",
    "optim.global_batch_size=8",
    "optim.epochs=1",
    "optim.warmup_epochs=0",
    "run.device=cpu",
    "run.log_every_steps=1",
    "run.tensorboard=false",
]


@pytest.fixture(scope="module")
def data() -> Manifest:
    """Eight labelled clips of four classes."""
    bundled = load_data("bundled").split("train")
    chosen = [next(i for i, r in enumerate(bundled.records) if r.label == label) for label in (0, 1, 2, 4)]
    return replace(bundled, records=tuple(bundled.records[i + j] for i in chosen for j in (0, 1)))


def stages(*settings: str) -> tuple[PretrainConfig, FinetuneConfig]:
    recipe = get_recipe("demo")
    assert recipe.pretrain is not None
    assert recipe.finetune is not None
    return override(recipe.pretrain, [*SMALL, *settings]), override(recipe.finetune, [*SMALL, *settings])


@pytest.fixture(scope="module")
def predicted(data: Manifest, tmp_path_factory: pytest.TempPathFactory) -> dict[ObjectiveName, list[str]]:
    """What each objective needs, made once: the optical flow, and a teacher."""
    folder = tmp_path_factory.mktemp("predicted")
    compute_flow(data, folder / "flow", num_workers=0)
    pretrain, _ = stages()
    teacher = folder / "teacher.safetensors"
    save_weights(build_autoencoder(pretrain.model, pretrain.clip), describe_checkpoint(pretrain), teacher)
    return {
        "pixels": [],
        "mme": [f"objective.flow={folder / 'flow'}"],
        "mvd": [f"objective.{kind}_teacher={teacher}" for kind in ("image", "video")],
    }


METHODS: tuple[tuple[ObjectiveName, SelectionMethod], ...] = tuple(
    product(get_args(ObjectiveName), get_args(SelectionMethod))
)


@pytest.mark.parametrize(("objective", "selection"), METHODS)
def test_every_method_pre_trains_fine_tunes_and_is_evaluated(
    objective: ObjectiveName,
    selection: SelectionMethod,
    data: Manifest,
    predicted: dict[ObjectiveName, list[str]],
    tmp_path: Path,
) -> None:
    pretrain, finetune = stages(f"selection.method={selection}")
    pretrain = override(pretrain, [*predicted[objective], f"objective.name={objective}"])
    learn_and_evaluate(selection, (pretrain, finetune), data, tmp_path)


def learn_and_evaluate(
    selection: SelectionMethod, stages: tuple[PretrainConfig, FinetuneConfig], data: Manifest, tmp_path: Path
) -> None:
    """Pre-train, fine-tune from that, evaluate, and look at what is left behind."""
    pretrain, finetune = stages
    pretrained = run_pretraining(pretrain, data, tmp_path / "pretrain", say=lambda line: None)
    tuned = run_finetuning(finetune, data, tmp_path / "finetune", init=tmp_path / "pretrain", say=lambda line: None)
    for run in (pretrained, tuned):
        lines = read_metrics(run.folder.metrics)
        assert len(lines) == run.num_steps == 1
        most = sum(count_tokens(run.model.encoder.grid, run.info.selection, run.info.task))  # type: ignore[union-attr, arg-type]
        for line in lines:
            assert line["loss"] > 0
            assert line["grad_norm"] > 0
            assert 0 < line["tokens_per_clip"] <= most
            assert (line["tokens_per_clip"] == most) or selection in VARYING
    assert isinstance(tuned.model, Classifier)
    views = EvaluationConfig(num_segments=1, num_crops=2)
    found = evaluate(tuned.model, tuned.info, data, views, num_workers=0)
    assert (found.num_clips, found.num_views) == (len(data), 2)
    assert not found.failures
    for result in found.predictions:
        assert float(result.probabilities.sum()) == pytest.approx(1.0)


ARCHS: tuple[tuple[Arch, SelectionMethod], ...] = (
    *((arch, "all") for arch in ("mvit_s", "mvit_b", "vivit")),
    *((arch, "k_centered") for arch in ("timesformer", "xvit", "motionformer")),
)


@pytest.mark.parametrize(("arch", "selection"), ARCHS)
def test_every_supervised_row_learns_and_is_evaluated(
    arch: Arch, selection: SelectionMethod, data: Manifest, tmp_path: Path
) -> None:
    settings = [f"model.arch={arch}", f"selection.method={selection}", "clip.height=64", "clip.width=64"]
    settings += ["model.drop_path=0.2", "model.head_dropout=0.5"]
    _, finetune = stages(*(["model.tubelet_size=1"] if arch == "xvit" else []))
    tuned = run_finetuning(override(finetune, settings), data, tmp_path / "run", say=lambda line: None)
    assert all(line["loss"] > 0 and line["grad_norm"] > 0 for line in read_metrics(tuned.folder.metrics))
    assert isinstance(tuned.model, Classifier)
    views = EvaluationConfig(num_segments=1, num_crops=1)
    found = evaluate(tuned.model, tuned.info, data, views, num_workers=0)
    assert found.num_clips == len(data)
    assert not found.failures
