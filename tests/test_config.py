"""Settings: dotted keys, hints, checks across fields, and round trips."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from everest.config import (
    AugmentConfig,
    CheckpointInfo,
    ClipConfig,
    FinetuneConfig,
    ModelConfig,
    OptimConfig,
    PretrainConfig,
    SelectionConfig,
)
from everest.errors import ConfigError
from everest.settings import flatten, override, parse


def finetune_config() -> FinetuneConfig:
    return FinetuneConfig(
        model=ModelConfig(size="tiny"),
        clip=ClipConfig(num_frames=8, height=64, width=96),
        selection=SelectionConfig(keep_ratio=0.6, encode_ratio=0.1),
        augment=AugmentConfig(),
        optim=OptimConfig(epochs=20),
    )


def test_flatten_lists_every_setting_once_with_its_value() -> None:
    flat = flatten(finetune_config())
    assert flat["clip.width"] == 96
    assert flat["optim.betas"] == [0.9, 0.999]
    assert flat["clip.fps"] is None
    assert flat["task"] == "finetune"
    assert not any(isinstance(value, dict) for value in flat.values())
    assert list(flat)[:2] == ["model.arch", "model.size"]  # in the order of definition


@pytest.mark.parametrize(
    ("setting", "key", "value"),
    [
        ("optim.epochs=30", "optim.epochs", 30),
        ("optim.base_lr=1.5e-4", "optim.base_lr", 1.5e-4),
        (" clip.fps = 7.5 ", "clip.fps", 7.5),
        ("clip.fps=none", "clip.fps", None),
        ("clip.fps=null", "clip.fps", None),
        ("augment.flip=True", "augment.flip", True),
        ("augment.flip=false", "augment.flip", False),
        ("clip.sampling=segments", "clip.sampling", "segments"),
        ('clip.sampling="segments"', "clip.sampling", "segments"),
        ("optim.betas=[0.9, 0.95]", "optim.betas", [0.9, 0.95]),
        ("evaluation.num_crops=1", "evaluation.num_crops", 1),
    ],
)
def test_one_setting_changes_one_value(setting: str, key: str, value: object) -> None:
    before = finetune_config()
    after = override(before, [setting])
    assert flatten(after) == flatten(before) | {key: value}
    assert before == finetune_config()


def test_the_last_of_two_settings_wins() -> None:
    assert override(finetune_config(), ["optim.epochs=6", "optim.epochs=9"]).optim.epochs == 9


def test_no_setting_changes_nothing() -> None:
    assert override(finetune_config(), []) == finetune_config()


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("optim.epochs", r"--set 'optim.epochs': expected KEY=VALUE"),
        ("optim.epoch=3", r"unknown key 'optim.epoch': did you mean 'optim.epochs'\?"),
        ("stride=3", r"unknown key 'stride': did you mean 'clip.stride'\?"),
        ("model=3", "unknown key 'model'"),
        ("task=pretrain", "task is not a setting"),
        ("=3", "unknown key ''"),
        ("optim.epochs=many", r"optim.epochs: .*integer.* \(given: 'many'\)"),
        ("optim.epochs=0", r"optim.epochs: .*greater than or equal to 1 \(given: 0\)"),
        ("model.size=enormous", r"model.size: .*'tiny', 'small'.*\(given: 'enormous'\)"),
        ("selection.keep_ratio=1.5", "selection.keep_ratio: .*less than or equal to 1"),
        ("selection.keep_ratio=0", "selection.keep_ratio: .*greater than 0"),
        ("optim.base_lr=NaN", "optim.base_lr"),
        ("optim.betas=[0.9]", "optim.betas"),
    ],
)
def test_a_wrong_setting_is_one_line_that_names_it(setting: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        override(finetune_config(), [setting])
    assert "\n" not in str(caught.value)


def test_all_wrong_values_are_listed_at_once() -> None:
    with pytest.raises(ConfigError, match=r"clip\.stride.*; .*optim\.epochs"):
        override(finetune_config(), ["optim.epochs=0", "clip.stride=-1"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["clip.num_frames=7"], r"clip\.num_frames \(7\) must be a multiple of model\.tubelet_size \(2\)"),
        (["clip.height=100"], r"clip\.height \(100\) must be a multiple of model\.patch_size \(16\)"),
        (["clip.width=8"], r"clip\.width \(8\)"),
        (["clip.num_frames=2"], "at least two tubelets"),
        (
            ["clip.num_frames=2", "selection.method=random", "frame_selection.enabled=true"],
            "at least two tubelets",
        ),
        (["selection.encode_ratio=0.7"], r"encode_ratio \(0.7\).*cannot exceed keep_ratio \(0.6\)"),
        (["optim.warmup_epochs=21"], r"warmup_epochs \(21.0\) cannot exceed epochs \(20\)"),
    ],
)
def test_settings_that_do_not_fit_each_other_are_refused(settings: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        override(finetune_config(), settings)


def test_problems_across_fields_are_listed_together() -> None:
    with pytest.raises(ConfigError, match=r"clip\.num_frames.*; clip\.height.*; clip\.width"):
        override(finetune_config(), ["clip.num_frames=7", "clip.height=65", "clip.width=97"])


def test_one_tubelet_is_enough_without_scores() -> None:
    config = override(finetune_config(), ["clip.num_frames=2", "selection.method=random"])
    assert config.clip.num_frames == 2


def test_tube_masking_may_encode_more_than_is_kept() -> None:
    config = override(finetune_config(), ["selection.method=tube", "selection.encode_ratio=0.9"])
    assert config.selection.encode_ratio == 0.9


def test_settings_cannot_be_assigned() -> None:
    config = finetune_config()
    with pytest.raises(ValidationError):
        config.optim.epochs = 3  # type: ignore[misc]


def test_a_misspelt_field_is_refused() -> None:
    values = finetune_config().model_dump(mode="json")
    values["optim"]["epoch"] = 3
    with pytest.raises(ConfigError, match=r"optim\.epoch: .*not permitted"):
        parse(FinetuneConfig, values)


def test_a_missing_section_is_named() -> None:
    values = finetune_config().model_dump(mode="json")
    del values["clip"]
    with pytest.raises(ConfigError, match=r"clip: .*required"):
        parse(FinetuneConfig, values)


def test_pretraining_settings_are_no_finetuning_settings() -> None:
    with pytest.raises(ConfigError, match="task"):
        parse(PretrainConfig, finetune_config().model_dump(mode="json"))


@given(
    slots=st.integers(2, 16),
    rows=st.integers(1, 20),
    keep=st.floats(0.1, 1.0),
    seed=st.integers(0, 2**31 - 1),
    fps=st.none() | st.floats(0.1, 240),
)
def test_parse_undoes_dump(slots: int, rows: int, keep: float, seed: int, fps: float | None) -> None:
    settings = [
        f"clip.num_frames={2 * slots}",
        f"clip.height={16 * rows}",
        f"selection.keep_ratio={keep}",
        f"run.seed={seed}",
        f"clip.fps={fps}",
    ]
    config = override(finetune_config(), settings)
    assert (config.clip.fps, config.run.seed, config.selection.keep_ratio) == (fps, seed, keep)
    assert parse(FinetuneConfig, config.model_dump(mode="json")) == config
    assert FinetuneConfig.model_validate_json(config.model_dump_json()) == config


def test_checkpoint_info_survives_json() -> None:
    config = finetune_config()
    info = CheckpointInfo(
        task="finetune",
        model=config.model,
        clip=config.clip,
        selection=config.selection,
        class_names=("fall", "sit"),
    )
    assert CheckpointInfo.model_validate_json(info.model_dump_json()) == info


def test_a_checkpoint_of_a_later_format_is_refused() -> None:
    config = finetune_config()
    values = {
        "task": "finetune",
        "format_version": 2,
        **config.model_dump(mode="json", include={"model", "clip", "selection"}),
    }
    with pytest.raises(ConfigError, match="format_version"):
        parse(CheckpointInfo, values)
