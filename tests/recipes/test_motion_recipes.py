"""The recipes of Masked Motion Encoding against the numbers of its paper, transcribed a second time."""

from everest.models import grid_of
from everest.recipes import get_recipe
from everest.settings import flatten
from everest.tokens import count_tokens


def test_mme_has_the_numbers_of_its_paper() -> None:
    recipe = get_recipe("mme")
    assert recipe.pretrain is not None
    flat = flatten(recipe.pretrain)
    expected = {
        "objective.name": "mme",
        "selection.method": "tube",
        "model.size": "base",
        "model.decoder_depth": None,  # that of the objective, 1
        "clip.num_frames": 16,
        "clip.height": 224,
        "clip.width": 224,
        "clip.stride": 4,
        "optim.base_lr": 1.5e-4,
        "optim.betas": [0.9, 0.95],
        "optim.warmup_epochs": 40,
        "optim.epochs": 1600,
        "augment.rand_augment_ops": 0,
    }
    assert {key: flat[key] for key in expected} == expected


def test_seven_tenths_of_the_places_are_masked_rounded_as_in_mme() -> None:
    pretrain = get_recipe("mme").pretrain
    assert pretrain is not None
    counts = count_tokens(grid_of(pretrain.model, pretrain.clip), pretrain.selection, "pretrain")
    assert counts == (472, 1096)


def test_everest_with_mme_is_everest_but_for_the_objective() -> None:
    ours, plain = get_recipe("everest-mme"), get_recipe("k400-base")
    assert ours.pretrain is not None
    assert plain.pretrain is not None
    theirs = flatten(plain.pretrain)
    differing = {key for key, value in flatten(ours.pretrain).items() if value != theirs[key]}
    assert differing == {"objective.name"}
    assert ours.finetune == plain.finetune
