"""The recipes of Masked Video Distillation: its paper's numbers, and that nothing starts without a teacher."""

from pathlib import Path

import pytest

from everest.cli import main
from everest.models import grid_of
from everest.recipes import get_recipe
from everest.settings import flatten
from everest.tokens import count_tokens

PAPER = {
    "model.size": "base",
    "model.drop_path": 0.1,
    "objective.name": "mvd",
    "objective.image_weight": 1.0,
    "objective.video_weight": 1.0,
    "optim.base_lr": 1.5e-4,
    "optim.min_lr": 1e-4,
    "optim.betas": [0.9, 0.95],
    "optim.warmup_epochs": 40,
    "optim.epochs": 400,
    "optim.global_batch_size": 1024,
}


@pytest.mark.parametrize(("name", "counts"), [("mvd", (160, 1408)), ("everest-mvd", (156, 314))])
def test_pretraining_has_the_numbers_of_the_paper(name: str, counts: tuple[int, int]) -> None:
    config = get_recipe(name).pretrain
    assert config is not None
    assert {key: flatten(config)[key] for key in PAPER} == PAPER
    assert config.model.decoder_depth is None  # that of the objective: 2
    assert count_tokens(grid_of(config.model, config.clip), config.selection, "pretrain") == counts


def test_everest_with_mvd_is_fine_tuned_as_everest() -> None:
    assert get_recipe("everest-mvd").finetune == get_recipe("k400-base").finetune


@pytest.mark.parametrize("name", ["mvd", "everest-mvd"])
def test_a_run_without_teachers_is_refused_before_anything_is_written(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert main(["pretrain", "--recipe", name, "--data", "bundled", "--out", str(out), "--set", "run.device=cpu"]) == 2
    assert "none is given: add --set objective.video_teacher=PATH" in capsys.readouterr().err
    assert not out.exists()
