"""Every system of the paper's tables, and ours: pre-trains, fine-tunes and evaluates on the bundled clips."""

from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest

from everest.config import VARYING, Arch, EvaluationConfig, FinetuneConfig, PretrainConfig, SelectionMethod
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
    "data.batch_size=4",
    "data.num_workers=0",
    "optim.global_batch_size=4",
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


@pytest.mark.parametrize("selection", get_args(SelectionMethod))
def test_every_selection_learns_and_is_evaluated(selection: SelectionMethod, data: Manifest, tmp_path: Path) -> None:
    learn_and_evaluate(selection, stages(f"selection.method={selection}"), data, tmp_path)


OBJECTIVES: tuple[tuple[str, SelectionMethod], ...] = (
    *(("mme", selection) for selection in ("tube", "rero", "adaptive", "rlt", "k_centered")),
    *(("mvd", selection) for selection in ("tube", "rero", "adaptive", "rlt", "k_centered")),
)


@pytest.mark.parametrize(("objective", "selection"), OBJECTIVES)
def test_every_objective_learns_with_any_selection(
    objective: str, selection: SelectionMethod, data: Manifest, tmp_path: Path
) -> None:
    pretrain, finetune = stages(f"selection.method={selection}")
    if objective == "mme":
        compute_flow(data, tmp_path / "flow", num_workers=0)
        settings = [f"objective.flow={tmp_path / 'flow'}", "objective.name=mme"]
    else:
        teacher = build_autoencoder(pretrain.model, pretrain.clip)
        save_weights(teacher, describe_checkpoint(pretrain), tmp_path / "teacher.safetensors")
        settings = [f"objective.{kind}_teacher={tmp_path / 'teacher.safetensors'}" for kind in ("image", "video")]
        settings.append("objective.name=mvd")
    learn_and_evaluate(selection, (override(pretrain, settings), finetune), data, tmp_path)


def learn_and_evaluate(
    selection: SelectionMethod, stages: tuple[PretrainConfig, FinetuneConfig], data: Manifest, tmp_path: Path
) -> None:
    """Pre-train, fine-tune from that, evaluate, and look at what is left behind."""
    pretrain, finetune = stages
    pretrained = run_pretraining(pretrain, data, tmp_path / "pretrain", say=lambda line: None)
    tuned = run_finetuning(finetune, data, tmp_path / "finetune", init=tmp_path / "pretrain", say=lambda line: None)
    for run in (pretrained, tuned):
        lines = read_metrics(run.folder.metrics)
        assert len(lines) == run.num_steps == 2
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
    _, finetune = stages(*(["model.tubelet_size=1"] if arch == "xvit" else []))
    tuned = run_finetuning(override(finetune, settings), data, tmp_path / "run", say=lambda line: None)
    assert all(line["loss"] > 0 and line["grad_norm"] > 0 for line in read_metrics(tuned.folder.metrics))
    assert isinstance(tuned.model, Classifier)
    views = EvaluationConfig(num_segments=1, num_crops=1)
    found = evaluate(tuned.model, tuned.info, data, views, num_workers=0)
    assert found.num_clips == len(data)
    assert not found.failures
