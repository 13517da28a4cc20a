"""Every system of the paper's tables, and ours: pre-trains, fine-tunes and evaluates on the bundled clips."""

from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest

from everest.config import VARYING, EvaluationConfig, FinetuneConfig, PretrainConfig, SelectionMethod
from everest.datasets import Manifest, load_data
from everest.evaluation import evaluate
from everest.models import Classifier
from everest.recipes import get_recipe
from everest.settings import override
from everest.tokens import count_tokens
from everest.training import run_finetuning, run_pretraining
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
    pretrain, finetune = stages(f"selection.method={selection}")
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
