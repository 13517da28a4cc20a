"""Whole runs on bundled clips: what they leave behind, how they go on, what they refuse."""

import json
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from graphs_made_up import record_anywhere
from safetensors.torch import load_file

from everest.config import FinetuneConfig, PretrainConfig
from everest.datasets import Manifest, compute_flow, load_data
from everest.errors import ConfigError, DataError, RunError, WeightsError
from everest.models import build_autoencoder, load_model, save_weights
from everest.recipes import get_recipe, list_recipes
from everest.settings import override
from everest.training import describe_checkpoint, loop, run_finetuning, run_pretraining
from everest.training.metrics import read_metrics
from everest.training.passes import RecordedPass
from everest.training.state import latest_state

SMALL = [
    "model.size=tiny",
    "clip.height=32",
    "clip.width=32",
    "optim.global_batch_size=4",
    "optim.epochs=2",
    "optim.warmup_epochs=0.5",
    "data.num_workers=0",
    "run.tensorboard=false",
    "run.device=cpu",
]


def quiet(_: str) -> None:
    """Say nothing."""


@pytest.fixture(scope="module")
def data() -> Manifest:
    """Eight labelled clips of four classes."""
    bundled = load_data("bundled").split("train")
    chosen = [next(i for i, r in enumerate(bundled.records) if r.label == label) for label in (0, 1, 2, 4)]
    return replace(bundled, records=tuple(bundled.records[i + j] for i in chosen for j in (0, 1)))


def pretrain_config(*settings: str) -> PretrainConfig:
    config = get_recipe("demo").pretrain
    assert config is not None
    return override(config, [*SMALL, *settings])


def finetune_config(*settings: str) -> FinetuneConfig:
    config = get_recipe("demo").finetune
    assert config is not None
    return override(config, [*SMALL, *settings])


@pytest.mark.parametrize("recipe", list_recipes(), ids=lambda recipe: recipe.name)
def test_every_recipe_takes_a_step(recipe, data: Manifest, tmp_path: Path) -> None:
    one_step = [*SMALL, "optim.epochs=1", "optim.global_batch_size=8", "data.batch_size=4"]
    init = None if recipe.pretrain is None else tmp_path / "pretrain"
    if init is not None:
        pretraining = override(recipe.pretrain, one_step)
        if pretraining.objective.name == "mme":
            pretraining = override(pretraining, [f"objective.flow={tmp_path / 'flow'}"])
            compute_flow(data, tmp_path / "flow", num_workers=0)
        if pretraining.objective.name == "mvd":  # it takes a teacher of its own shape: one that has learnt nothing
            config = override(pretraining, ["objective.name=pixels"])
            save_weights(
                build_autoencoder(config.model, config.clip), describe_checkpoint(config), tmp_path / "teacher"
            )
            pretraining = override(pretraining, [f"objective.video_teacher={tmp_path / 'teacher'}"])
        run = run_pretraining(pretraining, data, init, say=quiet)
        line = read_metrics(run.folder.metrics)[-1]
        assert run.num_steps == 1
        assert line["loss"] > 0
        assert line["grad_norm"] > 0
    tuned = run_finetuning(override(recipe.finetune, one_step), data, tmp_path / "finetune", init=init, say=quiet)
    assert read_metrics(tuned.folder.metrics)[-1]["loss"] > 0
    assert tuned.info.class_names == data.class_names
    assert tuned.info.selection == override(recipe.finetune, one_step).selection


def test_a_run_folder_holds_all_that_is_needed(data: Manifest, tmp_path: Path) -> None:
    config = finetune_config("run.tensorboard=true")
    said: list[str] = []
    run = run_finetuning(config, data, tmp_path / "run", say=said.append)
    folder = run.folder
    assert folder.config() == config
    recorded = json.loads((folder.path / "data.json").read_text())
    assert (recorded["manifest_digest"], recorded["part_digest"]) == (data.source_digest, data.digest)
    assert folder.starts()[0]["packages"]["torch"] == torch.__version__
    assert len(read_metrics(folder.metrics)) == run.num_steps == 4
    assert list(folder.tensorboard.iterdir())
    assert folder.log.read_text().splitlines() == [line for line in said if line]
    assert any("learning rate" in line and "x 4 / 256" in line for line in said)
    model, info = load_model(folder.path)
    assert info.class_names == data.class_names
    for name, value in run.model.state_dict().items():
        assert torch.equal(value, model.state_dict()[name])


def test_training_lowers_the_loss(data: Manifest, tmp_path: Path) -> None:
    run = run_finetuning(
        finetune_config("optim.epochs=40", "optim.base_lr=0.1", "augment.flip=false"), data, tmp_path / "run", say=quiet
    )
    losses = [line["loss"] for line in read_metrics(run.folder.metrics)]
    assert sum(losses[-4:]) < 0.8 * sum(losses[:4])


@pytest.mark.parametrize("start", ["pretrain", "finetune"])
def test_a_resumed_run_ends_with_the_same_bits(start: str, data: Manifest, tmp_path: Path) -> None:
    settings = ["optim.epochs=4", "run.save_every_epochs=2", "optim.ema_decay=0.9", "model.drop_path=0.1"]
    config = pretrain_config(*settings) if start == "pretrain" else finetune_config(*settings, "augment.mixup_alpha=1")
    train = run_pretraining if start == "pretrain" else run_finetuning
    whole = train(config, data, tmp_path / "whole", say=quiet)
    train(config, data, tmp_path / "parts", say=quiet)
    parts = tmp_path / "parts"
    newest = latest_state(parts / "checkpoints")
    assert newest is not None
    newest.unlink()  # as if the run had been stopped after the first of its two saves
    (parts / "weights.safetensors").unlink()
    resumed = train(config, data, parts, say=quiet)
    assert load_file(resumed.folder.weights).keys() == load_file(whole.folder.weights).keys()
    for name, value in load_file(whole.folder.weights).items():
        assert torch.equal(value, load_file(resumed.folder.weights)[name]), name
    losses = [[line["loss"] for line in read_metrics(run.folder.metrics)] for run in (whole, resumed)]
    assert losses[0] == losses[1]


def test_accumulated_passes_equal_one_large_batch(data: Manifest, tmp_path: Path) -> None:
    settings = ["augment.flip=false", "selection.method=rero", "optim.epochs=1", "optim.global_batch_size=8"]
    runs = [
        run_finetuning(finetune_config(*settings, f"data.batch_size={size}"), data, tmp_path / str(size), say=quiet)
        for size in (8, 2)
    ]
    large, small = (read_metrics(run.folder.metrics)[0] for run in runs)
    assert small["loss"] == pytest.approx(large["loss"], rel=1e-5)
    assert small["grad_norm"] == pytest.approx(large["grad_norm"], rel=1e-3)


@pytest.mark.parametrize("start", ["pretrain", "finetune"])
def test_a_run_goes_on_in_less_memory_with_the_same_losses(start: str, data: Manifest, tmp_path: Path) -> None:
    """In smaller passes, with activations computed again: clips keep their pairs, their draws and their weight."""
    settings = ["optim.epochs=4", "optim.global_batch_size=8", "run.save_every_epochs=1", "model.drop_path=0.2"]
    # How many tokens a clip keeps varies in the one, and which of two mixtures a step takes in the other.
    settings += [f"selection.method={'adaptive' if start == 'pretrain' else 'rero'}"]
    mixed = [*settings, "augment.mixup_alpha=1", "augment.cutmix_alpha=1", "model.head_dropout=0.2"]
    train = run_pretraining if start == "pretrain" else run_finetuning

    def config(batch_size: int, *more: str) -> PretrainConfig | FinetuneConfig:
        more = (*more, f"data.batch_size={batch_size}")
        return pretrain_config(*settings, *more) if start == "pretrain" else finetune_config(*mixed, *more)

    whole = train(config(8), data, tmp_path / "run", say=quiet)
    expected = read_metrics(whole.folder.metrics)
    for file in sorted((tmp_path / "run" / "checkpoints").glob("*.pt"))[-1:]:
        file.unlink()
    said: list[str] = []
    train(config(2, "run.activation_checkpointing=true"), data, tmp_path / "run", say=said.append)
    assert any("2 clips x 4 passes" in line for line in said)
    assert any("going on at step 3 of 4" in line for line in said)
    found = read_metrics(whole.folder.metrics)
    assert [line["loss"] for line in found] == pytest.approx([line["loss"] for line in expected], rel=1e-5)
    assert [line["grad_norm"] for line in found] == pytest.approx([line["grad_norm"] for line in expected], rel=1e-3)
    assert found[-1]["time"] != expected[-1]["time"]


def test_augmenting_on_the_device_learns_the_same(data: Manifest, tmp_path: Path) -> None:
    """Where the device is a CPU, even the noise is the same."""

    def losses(name: str, *settings: str) -> list[float]:
        settings = ("optim.epochs=1", "augment.erase_probability=1", *settings)
        run = run_finetuning(finetune_config(*settings), data, tmp_path / name, say=quiet)
        return [line["loss"] for line in read_metrics(run.folder.metrics)]

    workers, device = (losses(place, f"data.augment_on={place}") for place in ("workers", "device"))
    assert workers == device
    assert losses("none", "augment.erase_probability=0") != device


def test_averaged_weights_are_what_is_saved(data: Manifest, tmp_path: Path) -> None:
    run = run_finetuning(finetune_config("optim.ema_decay=0.5"), data, tmp_path / "run", say=quiet)
    state = torch.load(latest_state(run.folder.checkpoints), weights_only=True)
    saved = load_file(run.folder.weights)
    assert not torch.equal(saved["head.weight"], state["model"]["head.weight"])
    assert torch.equal(saved["head.weight"], state["ema"]["module.head.weight"])


def test_compiled_blocks_learn_the_same(data: Manifest, tmp_path: Path) -> None:
    settings = ["optim.epochs=1", "model.drop_path=0"]
    plain = run_pretraining(pretrain_config(*settings), data, tmp_path / "plain", say=quiet)
    fast = run_pretraining(pretrain_config(*settings, "run.compile=true"), data, tmp_path / "fast", say=quiet)
    losses = [[line["loss"] for line in read_metrics(run.folder.metrics)] for run in (plain, fast)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    assert load_file(fast.folder.weights).keys() == load_file(plain.folder.weights).keys()


def test_a_recorded_run_learns_the_same(data: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = ["optim.epochs=2", "optim.ema_decay=0.9"]
    plain = run_pretraining(pretrain_config(*settings), data, tmp_path / "plain", say=quiet)
    monkeypatch.setattr(loop, "RecordedPass", partial(RecordedPass, record=record_anywhere))
    again = run_pretraining(pretrain_config(*settings, "run.cuda_graphs=true"), data, tmp_path / "again", say=quiet)
    losses = [[line["loss"] for line in read_metrics(run.folder.metrics)] for run in (plain, again)]
    assert losses[1] == losses[0]
    assert len(set(losses[0])) == len(losses[0])
    weights = [load_file(run.folder.weights) for run in (plain, again)]
    for name, tensor in weights[0].items():
        torch.testing.assert_close(weights[1][name], tensor, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("precision", "works", "is_said"), [("auto", True, True), ("float32", True, False), ("auto", False, False)]
)
def test_a_processor_that_has_bfloat16_is_named(
    data: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str, works: bool, is_said: bool
) -> None:
    monkeypatch.setattr(loop, "multiplies_bfloat16", lambda: works)
    said: list[str] = []
    config = pretrain_config("optim.epochs=1", "run.device=cpu", f"run.precision={precision}")
    run_pretraining(config, data, tmp_path / "run", say=said.append)
    assert any("try run.precision=bfloat16" in line for line in said) is is_said


@pytest.mark.gpu
def test_a_recorded_run_on_a_gpu_learns_the_same(data: Manifest, tmp_path: Path) -> None:
    settings = ["optim.epochs=4", "optim.ema_decay=0.9", "run.device=cuda", "run.precision=float32"]
    plain = run_pretraining(pretrain_config(*settings), data, tmp_path / "plain", say=quiet)
    again = run_pretraining(pretrain_config(*settings, "run.cuda_graphs=true"), data, tmp_path / "again", say=quiet)
    losses = [[line["loss"] for line in read_metrics(run.folder.metrics)] for run in (plain, again)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)


def test_recording_is_refused_where_it_cannot_be(
    data: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match="needs an NVIDIA GPU"):
        run_pretraining(pretrain_config("run.cuda_graphs=true"), data, tmp_path / "run", say=quiet)
    assert not (tmp_path / "run").exists()
    monkeypatch.setattr(loop, "RecordedPass", partial(RecordedPass, record=record_anywhere))
    settings = ("run.cuda_graphs=true", "data.batch_size=1", "optim.global_batch_size=2")
    with pytest.raises(ConfigError, match=r"in one pass, given: 2\. Raise data\.batch_size"):
        run_pretraining(pretrain_config(*settings), data, tmp_path / "run", say=quiet)
    for setting in ("selection.method=adaptive", "selection.camera=moving", "run.activation_checkpointing=true"):
        with pytest.raises(ConfigError, match=rf"run\.cuda_graphs=true replays.*{setting}.*use run\.cuda_graphs=false"):
            pretrain_config("run.cuda_graphs=true", setting)
    with pytest.raises(ConfigError, match=r"objective\.name=mme takes more"):
        pretrain_config("run.cuda_graphs=true", "objective.name=mme", "augment.rand_augment_ops=0")


def test_frame_selection_trains(data: Manifest, tmp_path: Path) -> None:
    settings = ["frame_selection.enabled=true", "frame_selection.alpha=1.5", "optim.epochs=1"]
    pretrained = run_pretraining(pretrain_config(*settings), data, tmp_path / "pre", say=quiet)
    tuned = run_finetuning(finetune_config(*settings), data, tmp_path / "fine", init=tmp_path / "pre", say=quiet)
    assert pretrained.info.frame_selection.enabled
    assert read_metrics(tuned.folder.metrics)[-1]["loss"] > 0


def test_a_run_is_never_overwritten(data: Manifest, tmp_path: Path) -> None:
    config = pretrain_config("optim.epochs=1")
    run = run_pretraining(config, data, tmp_path / "run", say=quiet)
    before = {path: path.read_bytes() for path in run.folder.path.rglob("*") if path.is_file()}
    with pytest.raises(RunError, match="already holds a run"):
        run_pretraining(config, data, tmp_path / "run", resume="never", say=quiet)
    with pytest.raises(RunError, match="other settings"):
        run_pretraining(override(config, ["optim.base_lr=1"]), data, tmp_path / "run", say=quiet)
    assert before == {path: path.read_bytes() for path in run.folder.path.rglob("*") if path.is_file()}


def test_changed_data_is_not_resumed(data: Manifest, tmp_path: Path) -> None:
    config = pretrain_config("optim.epochs=1")
    run_pretraining(config, data, tmp_path / "run", say=quiet)
    fewer = replace(data, records=data.records[:6])
    with pytest.raises(RunError, match="data has changed"):
        run_pretraining(config, fewer, tmp_path / "run", say=quiet)


def test_a_finished_run_says_so_and_is_not_trained_again(data: Manifest, tmp_path: Path) -> None:
    config = pretrain_config("optim.epochs=1", "run.save_every_steps=1")
    run = run_pretraining(config, data, tmp_path / "run", say=quiet)
    before = run.folder.weights.read_bytes(), run.folder.metrics.read_bytes()
    said: list[str] = []
    again = run_pretraining(config, data, tmp_path / "run", say=said.append)
    assert "finished before: all 2 steps are done, nothing is trained again" in said
    assert (run.folder.weights.read_bytes(), run.folder.metrics.read_bytes()) == before
    assert torch.equal(again.model.encoder.norm.weight, run.model.encoder.norm.weight)
    shutil.rmtree(run.folder.checkpoints)
    with pytest.raises(RunError, match="holds weights, but its checkpoints are gone"):
        run_pretraining(config, data, tmp_path / "run", say=quiet)
    assert (run.folder.weights.read_bytes(), run.folder.metrics.read_bytes()) == before


def test_how_often_is_saved_may_change_and_does_not_change_what_is_learnt(data: Manifest, tmp_path: Path) -> None:
    plain = run_pretraining(pretrain_config(), data, tmp_path / "plain", say=quiet)
    often = pretrain_config("run.save_every_steps=1", "run.save_every_minutes=1e-9", "run.keep_checkpoints=9")
    run = run_pretraining(often, data, tmp_path / "often", say=quiet)
    names = sorted(path.name for path in run.folder.checkpoints.iterdir())
    assert names == [f"step-{step:08d}.pt" for step in (1, 2, 3, 4)]
    assert run.folder.weights.read_bytes() == plain.folder.weights.read_bytes()
    for name in names[2:]:
        (run.folder.checkpoints / name).unlink()
    again = run_pretraining(pretrain_config(), data, tmp_path / "often", say=quiet)
    assert again.folder.starts()[-1]["changed_settings"].keys() >= {"run.save_every_steps", "run.save_every_minutes"}
    assert again.folder.weights.read_bytes() == plain.folder.weights.read_bytes()


def test_what_cannot_start_leaves_no_folder(data: Manifest, tmp_path: Path) -> None:
    unlabelled = replace(data, records=tuple(replace(r, label=None) for r in data.records))
    with pytest.raises(DataError, match="no label"):
        run_finetuning(finetune_config(), unlabelled, tmp_path / "a", say=quiet)
    one = replace(data, records=tuple(replace(r, label=0) for r in data.records), class_names=("only",))
    with pytest.raises(DataError, match="at least two classes"):
        run_finetuning(finetune_config(), one, tmp_path / "b", say=quiet)
    with pytest.raises(WeightsError, match="expected a run folder"):
        run_finetuning(finetune_config(), data, tmp_path / "c", init=tmp_path / "nothing", say=quiet)
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_of_another_shape_is_refused(data: Manifest, tmp_path: Path) -> None:
    run_pretraining(pretrain_config("optim.epochs=1", "model.patch_size=8"), data, tmp_path / "pre", say=quiet)
    with pytest.raises(WeightsError, match="patch_embed"):
        run_finetuning(finetune_config(), data, tmp_path / "fine", init=tmp_path / "pre", say=quiet)
    assert not (tmp_path / "fine").exists()


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_what_was_saved(data: Manifest, tmp_path: Path) -> None:
    settings = ["optim.epochs=6", "run.save_every_epochs=1", "optim.base_lr=1e38", "optim.min_lr=1e38"]
    with pytest.raises(RunError, match="in a row were skipped"):
        run_finetuning(finetune_config(*settings, "optim.warmup_epochs=0"), data, tmp_path / "run", say=quiet)
    assert not (tmp_path / "run" / "weights.safetensors").exists()


def test_unreadable_videos_are_named_once_and_counted(data: Manifest, tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(data.records[0].path.read_bytes()[:3000])
    records = (replace(data.records[0], path=broken, start_seconds=None, end_seconds=None), *data.records[1:])
    mixed = replace(data, records=records)
    said: list[str] = []
    settings = ["data.max_failed_share=0.5", "optim.epochs=3"]
    run = run_pretraining(pretrain_config(*settings), mixed, tmp_path / "run", say=said.append)
    assert list(run.failed) == [str(broken)]
    assert sum("broken.mp4" in line for line in said) == 1
    with pytest.raises(DataError, match="cannot be read"):
        run_pretraining(pretrain_config("data.max_failed_share=0"), mixed, tmp_path / "strict", say=quiet)
