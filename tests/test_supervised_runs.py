"""Every network of the supervised rows goes the whole way: train, evaluate, save, load, predict."""

import json
from pathlib import Path
from typing import get_args

import pytest
import torch
from safetensors.torch import save

from everest import api
from everest.bench.scores import bench_scores
from everest.cli import main
from everest.config import WHOLE_CLIP_ARCHS, Arch, ClipConfig, EvaluationConfig, ModelConfig
from everest.datasets import Manifest, load_data, write_manifest
from everest.errors import ConfigError, EverestError
from everest.models import build_classifier, load_model
from everest.models.weights import METADATA_KEY

ARCHS: tuple[Arch, ...] = get_args(Arch)
SMALL = (
    *("model.size=tiny", "clip.num_frames=4", "clip.height=32", "clip.width=32", "optim.epochs=1"),
    *("optim.warmup_epochs=0", "optim.global_batch_size=2", "data.batch_size=2", "data.num_workers=0"),
    *("model.drop_path=0.2", "model.head_dropout=0.5"),
    *("run.device=cpu", "run.tensorboard=false", "evaluation.num_segments=1", "evaluation.num_crops=1"),
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four clips to learn from and two to be evaluated on."""
    bundled = load_data("bundled")
    records = []
    for split, count in (("train", 2), ("test", 1)):
        for label in (0, 1):
            records += [r for r in bundled.records if r.label == label and r.split == split][:count]
    path = tmp_path_factory.mktemp("data") / "clips.csv"
    write_manifest(Manifest(tuple(records), bundled.class_names, path), path)
    return path


def settings(arch: Arch) -> list[str]:
    whole = ["selection.method=all"] if arch in WHOLE_CLIP_ARCHS else []
    return [*SMALL, f"model.arch={arch}", *whole]


def train(data: Path, out: Path, *, settings: list[str], init: Path | None = None) -> api.FinetunedRun:
    return api.finetune(recipe="own", data=data, out=out, init=init, settings=settings)


@pytest.mark.parametrize("arch", ARCHS)
def test_it_trains_evaluates_saves_loads_and_predicts(arch: Arch, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    finished = train(data, out, settings=settings(arch))
    assert finished.run.num_steps == 2
    assert finished.evaluation is not None
    assert finished.evaluation.num_clips == 2
    model, info = load_model(out)
    assert (info.model.arch, info.model.drop_path, info.model.head_dropout) == (arch, 0.2, 0.5)
    for name, value in finished.run.model.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name
    again = api.evaluate(out, data, views=EvaluationConfig(num_segments=1, num_crops=1), num_workers=0)
    for before, after in zip(finished.evaluation.predictions, again.predictions, strict=True):
        torch.testing.assert_close(before.probabilities, after.probabilities)
    clip = load_data(data).records[0].path
    assert len(api.load(out, device="cpu").predict(clip).classes) == min(5, len(info.class_names))


def test_a_run_can_start_from_weights_of_the_same_network_only(data: Path, tmp_path: Path) -> None:
    train(data, tmp_path / "a", settings=settings("xvit"))
    train(data, tmp_path / "b", init=tmp_path / "a", settings=[*settings("xvit"), "optim.base_lr=1e-20"])
    states = [load_model(tmp_path / name)[0].state_dict() for name in ("a", "b")]
    for name, value in states[0].items():
        torch.testing.assert_close(states[1][name], value)
    with pytest.raises(EverestError, match="does not fit the model"):
        train(data, tmp_path / "c", init=tmp_path / "a", settings=settings("motionformer"))


def test_the_keep_ratio_is_a_dial_for_token_lists_and_refused_for_whole_clips(data: Path, tmp_path: Path) -> None:
    views = EvaluationConfig(num_segments=1, num_crops=1)
    train(data, tmp_path / "a", settings=settings("timesformer"))
    assert api.evaluate(tmp_path / "a", data, views=views, num_workers=0, keep_ratio=0.25).num_clips == 2
    train(data, tmp_path / "b", settings=settings("mvit_s"))
    with pytest.raises(ConfigError, match=r"model\.arch=mvit_s takes whole clips: give no keep ratio"):
        api.evaluate(tmp_path / "b", data, views=views, num_workers=0, keep_ratio=0.25)


@pytest.mark.parametrize("arch", ["xvit", "vivit"])
def test_frames_can_be_chosen_by_what_its_own_embedding_sees(arch: Arch, data: Path, tmp_path: Path) -> None:
    run = train(data, tmp_path / "run", settings=[*settings(arch), "frame_selection.enabled=true"])
    assert run.evaluation is not None
    assert run.evaluation.num_clips == 2


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["model.arch=mvit_b"], r"model\.arch=mvit_b takes whole clips, given selection\.method=rero: set selection"),
        (
            ["model.arch=mvit_b", "selection.method=all", "frame_selection.enabled=true"],
            "no tokens to choose frames by",
        ),
        (["model.arch=xvitt"], "'vit', 'mvit_s'"),
    ],
)
def test_what_a_network_cannot_do_is_said_before_anything_starts(wrong: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        api.finetune_config("own", wrong)


def test_pre_training_is_refused(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["pretrain", "--recipe", "own", "--data", str(data), "--out", str(tmp_path / "run")]
    assert main([*arguments, "--set", "model.arch=xvit"]) == 2
    assert "model.arch=xvit is trained with labels only" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_weights_from_before_there_were_other_networks_are_those_of_the_plain_one(tmp_path: Path) -> None:
    info = {
        "task": "finetune",
        "model": {"size": "tiny", "patch_size": 16, "tubelet_size": 2, "drop_path": 0.0, "head_dropout": 0.0},
        "clip": {"num_frames": 4, "height": 32, "width": 32},
        "selection": {"method": "rero", "keep_ratio": 0.6, "encode_ratio": 0.1},
        "class_names": ["a", "b"],
    }
    plain = build_classifier(ModelConfig(size="tiny"), ClipConfig(num_frames=4, height=32, width=32), 2)
    path = tmp_path / "weights.safetensors"
    path.write_bytes(save(plain.state_dict(), metadata={METADATA_KEY: json.dumps(info)}))
    assert load_model(path)[1].model.arch == "vit"


def test_a_network_without_tokens_has_no_scores_to_compare(data: Path, tmp_path: Path) -> None:
    run = train(data, tmp_path / "run", settings=settings("mvit_s"))
    with pytest.raises(ConfigError, match=r"model\.arch=mvit_s takes whole clips and scores no token"):
        bench_scores(load_data(data), checkpoint=run.run.folder.path, num_clips=1)
