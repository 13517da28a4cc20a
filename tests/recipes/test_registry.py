"""Recipes by name, and their numbers against the paper's tables, transcribed here a second time."""

from typing import get_args

import pytest

from everest.config import Arch, FinetuneConfig, PretrainConfig
from everest.errors import ConfigError
from everest.recipes import Recipe, get_recipe, list_recipes
from everest.settings import flatten, override, parse

RECIPES = list_recipes()
PAPER = ("ucf101", "hmdb51", "k400-small", "k400-base", "k400-large", "ssv2", "oscc")
CONFIGS = [
    pytest.param(config, id=f"{recipe.name}-{config.task}")
    for recipe in RECIPES
    for config in (recipe.pretrain, recipe.finetune)
    if config is not None
]

# Columns in the order of PAPER.
PRETRAIN_TABLE: dict[str, tuple[object, ...]] = {
    "model.size": ("base", "base", "small", "base", "large", "base", "base"),
    "optim.base_lr": (1e-3, 1e-3, 1.5e-4, 3e-4, 1.5e-4, 1.5e-4, 1e-3),
    "optim.global_batch_size": (192, 192, 1024, 1024, 512, 256, 256),
    "optim.warmup_epochs": (40, 40, 40, 40, 40, 40, 20),
    "optim.epochs": (3200, 4800, 200, 200, 200, 200, 400),
    "selection.keep_ratio": (0.3, 0.3, 0.3, 0.3, 0.3, 0.3, 0.5),
    "clip.stride": (4, 2, 4, 4, 4, 2, 4),
    "augment.flip": (True, True, True, True, True, False, True),
    "frame_selection.enabled": (False, False, False, False, False, False, True),
}
VIDEOMAES = ("videomae", "videomae-ucf101", "videomae-hmdb51")
PRETRAIN_ALL: dict[str, object] = {
    "model.patch_size": 16,
    "model.tubelet_size": 2,
    "model.decoder_depth": None,  # that of the objective: 4, a test of the zoo says
    "clip.num_frames": 16,
    "clip.height": 224,
    "clip.width": 224,
    "clip.sampling": "dense",
    "clip.fps": None,
    "selection.method": "rero",
    "selection.encode_ratio": 0.1,
    "frame_selection.alpha": 1.5,
    "augment.crop": "multi_scale",
    "augment.crop_scales": [1.0, 0.875, 0.75, 0.66],
    "optim.betas": [0.9, 0.95],
    "optim.weight_decay": 0.05,
    "optim.min_lr": 1e-5,
}
FINETUNE_TABLE: dict[str, tuple[object, ...]] = {
    "model.size": ("base", "base", "small", "base", "large", "base", "base"),
    "optim.base_lr": (1e-3, 1e-3, 5e-4, 1e-3, 2e-3, 5e-4, 1e-4),
    "optim.global_batch_size": (128, 128, 384, 384, 128, 48, 32),
    "optim.epochs": (100, 50, 75, 35, 35, 50, 30),
    "selection.keep_ratio": (0.6, 0.6, 0.6, 0.6, 0.6, 0.8, 0.6),
    "evaluation.num_segments": (5, 10, 2, 2, 2, 2, 2),
    "clip.sampling": ("dense", "dense", "dense", "dense", "dense", "segments", "dense"),
    "augment.flip": (True, True, True, True, True, False, True),
}
FINETUNE_ALL: dict[str, object] = {
    "clip.num_frames": 16,
    "clip.height": 224,
    "clip.width": 224,
    "selection.method": "rero",
    "frame_selection.enabled": False,
    "evaluation.num_crops": 3,
    "model.drop_path": 0.1,
    "model.head_dropout": 0.0,
    "optim.warmup_epochs": 5,
    "optim.layer_decay": 0.75,
    "optim.label_smoothing": 0.1,
    "optim.betas": [0.9, 0.999],
    "optim.weight_decay": 0.05,
    "optim.min_lr": 1e-6,
    "augment.rand_augment_ops": 2,
    "augment.rand_augment_magnitude": 9.0,
    "augment.rand_augment_probability": 0.5,
    "augment.erase_probability": 0.25,
    "augment.mixup_alpha": 0.0,
    "augment.cutmix_alpha": 0.0,
}
SUPERVISED: dict[str, object] = {  # as MViT was trained on Kinetics-400
    "optim.base_lr": 1.6e-3 * 256 / 512,
    "optim.global_batch_size": 512,
    "optim.epochs": 200,
    "optim.warmup_epochs": 30,
    "optim.weight_decay": 0.05,
    "optim.label_smoothing": 0.1,
    "data.clips_per_video": 2,
    "augment.mixup_alpha": 0.8,
    "augment.cutmix_alpha": 1.0,
    "model.drop_path": 0.2,
    "model.head_dropout": 0.5,
    "clip.num_frames": 16,
    "clip.stride": 4,
    "evaluation.num_segments": 5,
    "evaluation.num_crops": 1,
}
FINETUNE_STRIDES = {"ucf101": 4, "hmdb51": 2, "k400-small": 4, "k400-base": 4, "k400-large": 4, "oscc": 10}


def _expected(table: dict[str, tuple[object, ...]], common: dict[str, object], name: str) -> dict[str, object]:
    column = PAPER.index(name)
    return common | {key: values[column] for key, values in table.items()}


@pytest.mark.parametrize("name", PAPER)
def test_pretraining_has_the_numbers_of_the_paper(name: str) -> None:
    recipe = get_recipe(name)
    assert recipe.pretrain is not None
    expected = _expected(PRETRAIN_TABLE, PRETRAIN_ALL, name)
    assert {key: flatten(recipe.pretrain)[key] for key in expected} == expected


@pytest.mark.parametrize("name", PAPER)
def test_finetuning_has_the_numbers_of_the_paper(name: str) -> None:
    recipe = get_recipe(name)
    assert recipe.finetune is not None
    expected = _expected(FINETUNE_TABLE, FINETUNE_ALL, name)
    if name in FINETUNE_STRIDES:
        expected["clip.stride"] = FINETUNE_STRIDES[name]
    assert {key: flatten(recipe.finetune)[key] for key in expected} == expected


def test_the_supervised_recipe_trains_every_other_network_and_none_before_it_has_labels() -> None:
    recipe = get_recipe("supervised")
    assert recipe.pretrain is None
    assert recipe.finetune is not None
    for arch in set(get_args(Arch)) - {"vit"}:
        assert arch in recipe.summary
        assert override(recipe.finetune, [f"model.arch={arch}"]).model.arch == arch
    chosen = ["model.arch=xvit", "selection.method=rero"]
    assert override(recipe.finetune, chosen).selection.keep_ratio == 0.5
    assert flatten(recipe.finetune).items() >= SUPERVISED.items()


def test_the_names_are_unique_and_every_recipe_of_the_paper_is_there() -> None:
    names = [recipe.name for recipe in RECIPES]
    assert len(set(names)) == len(names)
    others = {"demo", "own", "own-nano", "mme", "everest-mme", "mvd", "everest-mvd", "supervised"}
    assert set(names) == {*PAPER, *VIDEOMAES, *others}


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_a_recipe_says_what_to_expect(recipe: Recipe) -> None:
    assert get_recipe(recipe.name) == recipe
    assert recipe.docs.startswith(recipe.summary)
    assert "\n" not in recipe.summary
    for part in ("Target:", "Hardware:", "Source:"):
        assert part in recipe.docs


@pytest.mark.parametrize("recipe", [r for r in RECIPES if r.name != "supervised"], ids=lambda recipe: recipe.name)
def test_the_runs_of_a_recipe_belong_together(recipe: Recipe) -> None:
    assert recipe.pretrain is not None
    assert recipe.finetune is not None
    for field in ("arch", "size", "patch_size", "tubelet_size"):  # or the weights would not fit
        assert getattr(recipe.pretrain.model, field) == getattr(recipe.finetune.model, field)


@pytest.mark.parametrize("config", CONFIGS)
def test_a_device_batch_divides_the_global_batch(config: PretrainConfig | FinetuneConfig) -> None:
    assert config.optim.global_batch_size % config.data.batch_size == 0


@pytest.mark.parametrize("config", CONFIGS)
def test_a_recipe_survives_json(config: PretrainConfig | FinetuneConfig) -> None:
    assert type(config).model_validate_json(config.model_dump_json()) == config


@pytest.mark.parametrize("config", CONFIGS)
def test_every_key_that_is_shown_can_be_set(config: PretrainConfig | FinetuneConfig) -> None:
    flat = flatten(config)
    keys = flat.keys() - {"task"}
    assert all("." in key for key in keys)
    for key in keys:  # setting a key to what it is changes nothing
        value = flat[key]
        text = ("true" if value else "false") if isinstance(value, bool) else str(value)
        assert override(config, [f"{key}={text}"]) == config


@pytest.mark.parametrize("config", CONFIGS)
def test_a_recipe_can_be_changed(config: PretrainConfig | FinetuneConfig) -> None:
    changed = override(config, ["optim.epochs=7", "optim.warmup_epochs=1", "clip.num_frames=8"])
    assert (changed.optim.epochs, changed.optim.warmup_epochs, changed.clip.num_frames) == (7, 1, 8)
    assert changed.model == config.model
    assert parse(type(config), changed.model_dump(mode="json")) == changed


def test_the_share_kept_can_go_down_to_what_the_encoder_sees() -> None:
    config = get_recipe("ucf101").finetune
    assert config is not None
    assert override(config, ["selection.keep_ratio=0.1"]).selection.keep_ratio == 0.1


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"unknown recipe 'ucf-101': did you mean 'ucf101'\?"):
        get_recipe("ucf-101")


def test_a_name_like_no_other_is_answered_with_all() -> None:
    with pytest.raises(ConfigError, match=r"accepted: demo, .*hmdb51, k400-base"):
        get_recipe("zzz")
