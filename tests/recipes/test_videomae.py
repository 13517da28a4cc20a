"""The recipes of VideoMAE against the numbers of its paper, transcribed a second time."""

import pytest

from everest.models import grid_of
from everest.recipes import get_recipe
from everest.settings import flatten
from everest.tokens import count_tokens

PRETRAINING = {
    "videomae": {"base_lr": 1.5e-4, "global_batch_size": 1024, "epochs": 1600, "warmup_epochs": 40},
    "videomae-ucf101": {"base_lr": 3e-4, "global_batch_size": 192, "epochs": 3200},
    "videomae-hmdb51": {"epochs": 4800},
}
FINETUNING = {
    "videomae": {"base_lr": 1e-3, "global_batch_size": 512, "epochs": 75, "layer_decay": 0.75},
    "videomae-ucf101": {"base_lr": 5e-4, "global_batch_size": 128, "epochs": 100, "layer_decay": 0.7},
    "videomae-hmdb51": {"base_lr": 1e-3, "epochs": 50},
}
TOKENS = {"videomae": (160, 1408), "videomae-ucf101": (392, 1176), "videomae-hmdb51": (392, 1176)}


@pytest.mark.parametrize("name", TOKENS)
def test_pretraining_masks_tubes_and_predicts_pixels(name: str) -> None:
    config = get_recipe(name).pretrain
    assert config is not None
    flat = flatten(config)
    assert {key: flat[f"optim.{key}"] for key in PRETRAINING[name]} == PRETRAINING[name]
    assert (flat["selection.method"], flat["objective.name"], flat["optim.betas"]) == ("tube", "pixels", [0.9, 0.95])
    assert flat["clip.stride"] == (2 if name == "videomae-hmdb51" else 4)
    assert count_tokens(grid_of(config.model, config.clip), config.selection, "pretrain") == TOKENS[name]


@pytest.mark.parametrize("name", TOKENS)
def test_finetuning_takes_all_tokens_and_mixes_clips(name: str) -> None:
    config = get_recipe(name).finetune
    assert config is not None
    flat = flatten(config)
    assert {key: flat[f"optim.{key}"] for key in FINETUNING[name]} == FINETUNING[name]
    assert (flat["selection.method"], flat["augment.mixup_alpha"], flat["augment.cutmix_alpha"]) == ("all", 0.8, 1.0)
    assert (flat["data.clips_per_video"], flat["data.same_frames"]) == (2, True)
    views = (flat["evaluation.num_segments"], flat["evaluation.num_crops"])
    assert views == ((10, 3) if name == "videomae-hmdb51" else (5, 3))
    small = name != "videomae"
    assert (flat["model.drop_path"], flat["model.head_dropout"]) == ((0.2, 0.5) if small else (0.1, 0.0))


def test_those_built_on_it_are_fine_tuned_as_it_is() -> None:
    assert get_recipe("mme").finetune == get_recipe("mvd").finetune == get_recipe("videomae").finetune
