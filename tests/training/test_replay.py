"""A step that was skipped can be repeated, and what is wrong in it is named."""

import json
import shutil
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch

import everest.training.loop as loop
from everest.cli import main
from everest.config import FinetuneConfig, PretrainConfig
from everest.datasets import Manifest, load_data, write_manifest
from everest.errors import RunError
from everest.models import load_model, save_weights
from everest.recipes import get_recipe
from everest.settings import override
from everest.training import run_finetuning, run_pretraining
from everest.training.replay import replay_step
from everest.training.replay_files import MAX_STEPS, MAX_WEIGHTS, prune_replays, read_replay
from everest.video import ShardMember
from failing_server import Fault, serving

SMALL = [
    *("model.size=tiny", "clip.num_frames=4", "clip.height=32", "clip.width=32", "optim.warmup_epochs=0"),
    *("optim.global_batch_size=8", "data.batch_size=4", "data.num_workers=0", "run.tensorboard=false"),
    *("run.device=cpu", "model.drop_path=0.3", "run.max_skipped_steps=2", "optim.base_lr=1e-12", "optim.min_lr=0"),
]


@pytest.fixture(scope="module")
def data() -> Manifest:
    """Eight clips of four classes."""
    bundled = load_data("bundled").split("train")
    chosen = [next(i for i, r in enumerate(bundled.records) if r.label == label) for label in (0, 1, 2, 4)]
    return replace(bundled, records=tuple(bundled.records[i + j] for i in chosen for j in (0, 1)))


def broken_run(data: Manifest, out: Path, task: str, monkeypatch: pytest.MonkeyPatch, *settings: str) -> Path:
    """A run in which each step is called not finite, though it is; gives the folder of its replay files."""
    clip = loop.Engine.clip
    monkeypatch.setattr(loop.Engine, "clip", lambda *given: clip(*given) * float("inf"))
    recipe = get_recipe("demo")
    config: Any = recipe.pretrain if task == "pretrain" else recipe.finetune
    assert isinstance(config, PretrainConfig | FinetuneConfig)
    train: Any = run_pretraining if task == "pretrain" else run_finetuning
    with pytest.raises(RunError, match="in a row were skipped"):
        train(override(config, [*SMALL, *settings]), data, out, say=lambda _: None)
    monkeypatch.setattr(loop.Engine, "clip", clip)
    return out / "replays"


CASES = {
    "pretrain": ("pretrain", ("selection.method=random", "selection.encode_ratio=0.5")),
    "same video more than once": ("pretrain", ("data.clips_per_video=2", "augment.erase_probability=1")),
    "mixed": ("finetune", ("augment.mixup_alpha=1", "augment.cutmix_alpha=1", "model.head_dropout=0.3")),
}


@pytest.mark.parametrize("case", CASES)
def test_a_replay_computes_what_the_run_did(
    case: str, data: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everything that is random included: the losses are equal to the bit."""
    task, settings = CASES[case]
    folder = broken_run(data, tmp_path / "run", task, monkeypatch, *settings)
    for path in sorted(folder.glob("*.json")):
        result = replay_step(path)
        assert result.losses == result.losses_then
        assert len(set(result.losses)) == 2  # passes of their own
        assert not result.is_reproduced
        assert result.module == result.parameter == ""
        assert all(finding.is_finite for finding in result.clips)
    assert len({read_replay(path).step for path in folder.glob("*.json")}) == 3


@pytest.fixture
def folder(data: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return broken_run(data, tmp_path / "run", "pretrain", monkeypatch, "model.drop_path=0")


def first(folder: Path) -> Path:
    return min(folder.glob("*.json"))


def test_what_breaks_is_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = next(folder.glob("*.safetensors"))
    model, info = load_model(weights)
    with torch.no_grad():
        for layer in (model.decoder.blocks[0].mlp.fc1, model.decoder.blocks[0].mlp.fc2):  # type: ignore[union-attr]
            layer.weight.mul_(1e25)
    save_weights(model, info, weights)
    assert main(["replay", str(first(folder))]) == 0
    text = capsys.readouterr().out
    assert "not finite again" in text
    assert "first output that is not finite: decoder.blocks.0.mlp" in text
    assert "not finite by themselves: 8 of 8" in text
    assert main(["replay", "--json", str(first(folder))]) == 0
    values = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert values["reproduced"] is True
    assert {values["clips"][0]["loss"], values["grad_norm"]} <= {"nan", "inf"}
    assert values["weights"] == []


def test_weights_that_are_not_finite_are_named(folder: Path) -> None:
    weights = next(folder.glob("*.safetensors"))
    model, info = load_model(weights)
    with torch.no_grad():
        model.decoder.norm.weight[3] = float("nan")  # type: ignore[union-attr]
    save_weights(model, info, weights)
    result = replay_step(first(folder))
    assert result.weights == ("decoder.norm.weight",)
    assert "the weights were not finite to begin with: decoder.norm.weight" in result.summary()


def test_one_clip_that_breaks_is_told_from_the_others(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import everest.training.replay as replay

    stored = read_replay(first(folder))
    wrong = stored.passes[1].videos[2]

    def spoilt(model: Any, info: Any, objective: Any) -> Any:
        loss = original(model, info, objective)

        def function(wrapped: Any, batch: Any, draws: Any) -> Any:
            found = loss(wrapped, batch, draws)
            return found._replace(value=found.value / 0) if wrong.seeds[0] in batch.seeds.tolist() else found

        return function

    original = replay.pretraining_loss
    monkeypatch.setattr(replay, "pretraining_loss", spoilt)
    result = replay_step(first(folder))
    assert [finding.videos for finding in result.clips if not finding.is_finite] == [(str(wrong),)]
    assert "all modules give finite numbers; the loss itself does not" in result.summary()


def test_it_is_said_what_is_not_as_it_was(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = first(folder)
    values = json.loads(path.read_text())
    assert values["loss_scale"] is None
    values["versions"]["torch"] = "1.9.1"
    values["device"] = "cuda"
    path.write_text(json.dumps(values))
    assert main(["replay", str(path)]) == 1  # finite here
    text = capsys.readouterr().out
    assert "finite here" in text
    assert "other versions than then: torch 1.9.1 -> " in text
    assert "computed on cuda" in text


def test_files_that_do_not_fit_are_refused(folder: Path, tmp_path: Path) -> None:
    path = first(folder)
    values = json.loads(path.read_text())

    def refused(match: str, **changes: Any) -> None:
        path.write_text(json.dumps(values | changes))
        with pytest.raises(RunError, match=match):
            replay_step(path)

    refused("format_version is 2, expected 1", format_version=2)
    refused("step: Input should be a valid integer", step="many")
    refused("names weights outside of its folder", weights="../../weights.safetensors")
    refused("nothing.safetensors, from which this step started, is not there", weights="nothing.safetensors")
    gone = json.loads(json.dumps(values["passes"]).replace("Subject3", "Nobody"))
    refused("clips of step 0 cannot be read again", passes=gone)
    path.write_text("{")
    with pytest.raises(RunError, match="cannot be read as a replay file"):
        replay_step(path)
    with pytest.raises(RunError, match="name one of RUN/replays"):
        replay_step(tmp_path / "nothing.json")


def test_only_so_many_are_kept(tmp_path: Path) -> None:
    for step in range(40):
        (tmp_path / f"step-{step:08d}-rank-0.json").touch()
        (tmp_path / f"step-{step:08d}-rank-12.json").touch()
        if step % 5 == 0:
            (tmp_path / f"step-{step:08d}-weights.safetensors").touch()
    prune_replays(tmp_path)
    weights = sorted(path.name[5:13] for path in tmp_path.glob("*.safetensors"))
    steps = sorted(path.name[5:13] for path in tmp_path.glob("*-rank-12.json"))
    assert weights == ["00000025", "00000030", "00000035"]
    assert len(weights) == MAX_WEIGHTS
    assert steps == [f"{step:08d}" for step in range(25, 40)]  # those without weights are of no use
    for step in range(40, 70):
        (tmp_path / f"step-{step:08d}-rank-0.json").touch()
    prune_replays(tmp_path)
    assert len(list(tmp_path.glob("*-rank-*.json"))) == MAX_STEPS


def test_packed_clips_are_replayed(data: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_manifest(data, tmp_path / "list.csv")
    assert main(["data", "pack", str(tmp_path / "list.csv"), str(tmp_path / "packed"), "--workers", "0"]) == 0
    packed = load_data(tmp_path / "packed")
    assert packed.records[0].member is not None
    folder = broken_run(packed, tmp_path / "run", "pretrain", monkeypatch)
    result = replay_step(first(folder))
    assert result.losses == result.losses_then
    shutil.rmtree(tmp_path / "packed")
    with pytest.raises(RunError, match="cannot be read again"):
        replay_step(first(folder))


def test_clips_at_urls_that_take_a_signature_are_read_with_that_of_the_list(
    data: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The file holds no signature, so the list is named again; bytes that are not those of the run are refused."""
    contents = [record.path.read_bytes() for record in data.records]
    members = [
        ShardMember(
            str(tmp_path / "clips.bin"),
            f"{n}.mp4",
            sum(map(len, contents[:n])),
            len(content),
            sha256(content).hexdigest(),
        )
        for n, content in enumerate(contents)
    ]
    records = tuple(replace(each, path=Path(m.name), member=m) for each, m in zip(data.records, members, strict=True))
    write_manifest(replace(data, records=records), tmp_path / "list.csv")
    with serving() as store:
        store.files = {"list.csv": (tmp_path / "list.csv").read_bytes(), "clips.bin": b"".join(contents)}
        store.fault_of = lambda request: None if "sig=TOKEN" in request.path else Fault(403)
        url = f"{store.url}/list.csv?sig=TOKEN"
        folder = broken_run(load_data(url), tmp_path / "run", "pretrain", monkeypatch)
        (path, *_) = sorted(folder.glob("*.json"))
        assert "TOKEN" not in path.read_text()
        with pytest.raises(RunError, match="cannot be read again"):
            replay_step(path)
        result = replay_step(path, data=load_data(url))
        assert result.losses == result.losses_then
        with pytest.raises(RunError, match="give the list that the run learnt from"):
            replay_step(path, data=data)
        text = (tmp_path / "list.csv").read_text()
        for member in members:  # the hash of the run counts
            text = text.replace(member.sha256, "")
        store.files["list.csv"] = text.encode()
        store.files["clips.bin"] = bytes(255 - byte for byte in store.files["clips.bin"])
        assert main(["replay", str(path), "--data", url]) == 2
    printed = capsys.readouterr().err
    assert "SHA-256" in printed or "hash" in printed
    assert "TOKEN" not in printed
