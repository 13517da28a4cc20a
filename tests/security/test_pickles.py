"""No file that is given to a command runs code: each of them gets files that would."""

import io
import json
import pickle
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from poisons import POISONS
from safetensors.torch import save_file

from everest.cli import main
from everest.datasets import compute_flow, load_data
from everest.errors import EverestError
from everest.inference import read_features

CLIP = sorted(record.path for record in load_data("bundled").records)[0]
TEXTS = ("archive", "pickle", "old pickle", "yaml", "python")  # for files that are read as text
SMALL = [
    f"--set={setting}"
    for setting in (
        *("clip.height=32", "clip.width=32", "optim.epochs=1", "optim.warmup_epochs=0", "data.num_workers=0"),
        *("optim.global_batch_size=2", "data.batch_size=2", "run.tensorboard=false", "run.device=cpu"),
        *("data.memory_cache=false", "data.max_failed_share=0"),
    )
]


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    """What appears when code runs."""
    return tmp_path / "it-ran"


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A list of four clips of two classes, of half a second."""
    root = tmp_path_factory.mktemp("clips")
    rows = []
    for number in range(4):
        shutil.copy(CLIP, root / f"{number}.mp4")
        rows.append(f"{number}.mp4,{'ab'[number % 2]},train,0,0.5")
    (root / "list.csv").write_text("\n".join(["path,label,split,start,end", *rows]) + "\n")
    return root / "list.csv"


@pytest.fixture(scope="module")
def trained(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished pre-training run."""
    out = tmp_path_factory.mktemp("runs") / "run"
    assert main(["pretrain", "--recipe=demo", f"--data={clips}", f"--out={out}", *SMALL]) == 0
    return out


def refused(arguments: list[object], capsys: pytest.CaptureFixture[str]) -> str:
    """Run a command that cannot go well; gives what it said."""
    code = main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    assert code in {1, 2}, out
    assert "Traceback" not in err
    return err


def test_the_poisons_are_poisonous(tmp_path: Path) -> None:
    loads: dict[str, Callable[[bytes], object]] = {
        "archive": lambda data: torch.load(io.BytesIO(data), weights_only=False),
        "old archive": lambda data: torch.load(io.BytesIO(data), weights_only=False),
        "pickle": pickle.loads,
        "old pickle": pickle.loads,
        "array": lambda data: np.load(io.BytesIO(data), allow_pickle=True),
        "arrays": lambda data: np.load(io.BytesIO(data), allow_pickle=True)["steps"],
        "python": exec,
    }
    for number, (name, load) in enumerate(loads.items()):
        marker = tmp_path / str(number)
        load(POISONS[name](marker))
        assert marker.exists(), name


@pytest.mark.parametrize("poison", POISONS)
def test_weights(poison: str, clips: Path, marker: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for suffix in (".pth", ".pt", ".bin", ".safetensors"):
        path = tmp_path / f"weights{suffix}"
        path.write_bytes(POISONS[poison](marker))
        tuning = ["finetune", "--recipe=demo", f"--data={clips}", f"--out={tmp_path / 'run'}", *SMALL]
        for command in (
            ["weights", "show", path],
            ["weights", "convert", path, tmp_path / "out.safetensors", "--to=everest"],
            ["evaluate", path, "--data", clips, "--split=all"],
            ["predict", path, CLIP],
            ["bench", "dial", path, "--data", clips, "--views=1x1"],
            ["embed", path, CLIP, "--out", tmp_path / "features.npz"],
            [*tuning, f"--init={path}"],
        ):
            refused(command, capsys)
            assert not marker.exists(), command
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "out.safetensors").exists()


@pytest.mark.parametrize("poison", POISONS)
@pytest.mark.parametrize("name", ["weights.safetensors", "pytorch_model.bin", "mp_rank_00_model_states.pt"])
def test_folders_of_weights(
    name: str, poison: str, marker: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "weights"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "videomae", "task": "finetune"}')
    (folder / name).write_bytes(POISONS[poison](marker))
    refused(["weights", "show", folder], capsys)
    refused(["predict", folder, CLIP], capsys)
    if name == "pytorch_model.bin":
        (folder / "pytorch_model.bin.index.json").write_text('{"weight_map": {"a": "pytorch_model.bin"}}')
        refused(["weights", "show", folder / "pytorch_model.bin.index.json"], capsys)
    assert not marker.exists()


@pytest.mark.parametrize("poison", POISONS)
def test_teachers(poison: str, clips: Path, marker: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Files of ours, and folders that transformers reads."""
    (tmp_path / "teacher.pth").write_bytes(POISONS[poison](marker))
    folder = tmp_path / "teacher"
    sizes = {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}
    transformers.VideoMAEConfig(image_size=32, num_frames=8, **sizes).save_pretrained(folder)
    (folder / "pytorch_model.bin").write_bytes(POISONS[poison](marker))
    for teacher in (tmp_path / "teacher.pth", folder):
        settings = ["--set=objective.name=mvd", f"--set=objective.video_teacher={teacher}"]
        out = tmp_path / "run"
        error = refused(["pretrain", "--recipe=demo", f"--data={clips}", f"--out={out}", *SMALL, *settings], capsys)
        assert "objective.video_teacher" in error
        assert not marker.exists()
        assert not out.exists()


def test_a_teacher_brings_no_code_of_its_own(
    clips: Path, marker: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor is anybody asked whether it may."""

    def ask(*_: object) -> str:
        raise AssertionError("a person was asked")

    monkeypatch.setattr("builtins.input", ask)
    monkeypatch.setattr(socket.socket, "connect", ask)
    folder = tmp_path / "teacher"
    folder.mkdir()
    (folder / "mine.py").write_text(f"open({str(marker)!r}, 'w')\nclass Mine: pass\n")
    places = {"AutoConfig": "mine.Mine", "AutoModel": "mine.Mine"}
    for config in (
        {"model_type": "mine", "auto_map": places},
        {"model_type": "videomae", "auto_map": places, "num_frames": 8, "image_size": 32},
        {"model_type": "videomae", "attn_implementation": "somebody/kernel", "num_frames": 8, "image_size": 32},
        {"model_type": "videomae", "quantization_config": {"quant_method": "gptq"}, "num_frames": 8, "image_size": 32},
    ):
        (folder / "config.json").write_text(json.dumps(config))
        settings = ["--set=objective.name=mvd", f"--set=objective.video_teacher={folder}"]
        command = ["pretrain", "--recipe=demo", f"--data={clips}", f"--out={tmp_path / 'run'}", *SMALL, *settings]
        refused(command, capsys)
    assert not marker.exists()


@pytest.mark.parametrize("poison", POISONS)
def test_training_states(
    poison: str, trained: Path, clips: Path, marker: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    for state in (run / "checkpoints").rglob("*"):
        if state.is_file():
            state.write_bytes(POISONS[poison](marker))
    command = ["pretrain", "--recipe=demo", f"--data={clips}", f"--out={run}", "--resume=auto", *SMALL]
    with pytest.warns(UserWarning, match="damaged"):
        refused(command, capsys)
    assert not marker.exists()


@pytest.mark.filterwarnings("ignore:.*the line is left out:UserWarning")
@pytest.mark.parametrize("poison", TEXTS)
def test_files_of_a_run(poison: str, trained: Path, clips: Path, marker: Path, tmp_path: Path) -> None:
    for name in ("config.json", "environment.json", "metrics.jsonl", "data.json", "trackers.json", "evaluation.json"):
        run = tmp_path / name.partition(".")[0]
        shutil.copytree(trained, run)
        (run / name).write_bytes(POISONS[poison](marker))
        for command in (
            ["runs", "show", run],
            ["runs", "compare", run, trained],
            ["runs", "list", run],
            ["weights", "show", run],
            ["pretrain", "--recipe=demo", f"--data={clips}", f"--out={run}", "--resume=auto", *SMALL],
        ):
            assert main([str(argument) for argument in command]) in {0, 1, 2}
        assert not marker.exists(), name


@pytest.mark.parametrize("poison", POISONS)
def test_lists_and_shards(poison: str, marker: Path, tmp_path: Path) -> None:
    for name in ("list.csv", "shard.tar", "video.mp4"):
        folder = tmp_path / name.partition(".")[0]
        folder.mkdir()
        (folder / name).write_bytes(POISONS[poison](marker))
        given = folder / name if name == "list.csv" else folder
        for command in (
            ["data", "index", given, "--out", tmp_path / f"{name}.csv", "--format=auto"],
            ["data", "index", given, "--out", tmp_path / f"{name}.s.csv", "--format=shards"],
            ["data", "check", given, "--workers=0", "--report", tmp_path / f"{name}.jsonl"],
            ["data", "pack", given, tmp_path / f"{name}-packed", "--workers=0"],
            ["data", "verify", folder],
            ["data", "flow", given, "--workers=0", "--out", tmp_path / f"{name}-flow"],
        ):
            assert main([str(argument) for argument in command]) in {0, 1, 2}, command
            assert not marker.exists(), command


@pytest.mark.parametrize("poison", TEXTS)
def test_files_of_a_pack(poison: str, clips: Path, marker: Path, tmp_path: Path) -> None:
    out = tmp_path / "packed"
    pack = ["data", "pack", str(clips), str(out), "--workers=0", "--short-side=32"]
    assert main(pack) == 0
    for name in ("pack.json", "000000.json", "000000.tar", "manifest.csv"):
        before = (out / name).read_bytes()
        (out / name).write_bytes(POISONS[poison](marker))
        verified = main(["data", "verify", str(out)])
        assert verified in ({0} if name == "000000.json" else {1, 2})  # that file is for packing on, and made again
        assert main(["data", "check", str(out), "--workers=0", "--report", str(tmp_path / name)]) in {0, 1, 2}
        assert main(pack) in {0, 2}, name
        assert not marker.exists(), name
        (out / name).write_bytes(before)


@pytest.fixture(scope="module")
def flow(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The flow of the clips."""
    folder = tmp_path_factory.mktemp("flow")
    compute_flow(load_data(clips), folder, num_workers=0)
    return folder


@pytest.mark.parametrize("poison", POISONS)
def test_files_of_flow(
    poison: str, clips: Path, flow: Path, marker: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in flow.rglob("*.safetensors"):
        path.write_bytes(POISONS[poison](marker))
    settings = ["--set=objective.name=mme", f"--set=objective.flow={flow}"]
    refused(["pretrain", "--recipe=demo", f"--data={clips}", f"--out={tmp_path / 'run'}", *SMALL, *settings], capsys)
    assert not marker.exists()


@pytest.mark.parametrize("poison", POISONS)
def test_recorded_runs_of_the_release(
    poison: str, marker: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("info.json", "input.safetensors", "pretrain_state.safetensors"):
        folder = tmp_path / name.partition(".")[0]
        folder.mkdir()
        (folder / "info.json").write_text("{}")
        save_file({"videos": torch.zeros(1)}, folder / "input.safetensors")
        (folder / name).write_bytes(POISONS[poison](marker))
        refused(["bench", "parity", folder], capsys)
    assert not marker.exists()


@pytest.mark.parametrize("poison", POISONS)
def test_replay_files(
    poison: str, trained: Path, marker: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "step-00000001-rank-0.json"
    path.write_bytes(POISONS[poison](marker))
    refused(["replay", path], capsys)
    settings = json.loads((trained / "config.json").read_text())
    weights = path.with_name("step-00000001-weights.safetensors")
    weights.write_bytes(POISONS[poison](marker))
    path.write_text(json.dumps({"format_version": 1, "step": 1, "config": settings, "weights": weights.name}))
    refused(["replay", path], capsys)
    assert not marker.exists()


@pytest.mark.parametrize("poison", POISONS)
@pytest.mark.parametrize("suffix", [".npz", ".parquet"])
def test_files_of_features(suffix: str, poison: str, marker: Path, tmp_path: Path) -> None:
    path = tmp_path / f"features{suffix}"
    path.write_bytes(POISONS[poison](marker))
    with pytest.raises(EverestError):
        read_features(path)
    assert not marker.exists()
