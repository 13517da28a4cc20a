"""The program as a user meets it: commands, exit codes, one-line errors."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from everest.cli import build_parser, main
from everest.datasets import load_data
from everest.models import classify_clips

SMALL = [
    f"--set={setting}"
    for setting in (
        "clip.height=32",
        "clip.width=32",
        "optim.epochs=1",
        "optim.warmup_epochs=0",
        "optim.global_batch_size=8",
        "data.batch_size=8",
        "data.num_workers=0",
        "data.memory_cache=false",
        "run.tensorboard=false",
    )
]

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def everest(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command; gives exit code, stdout and stderr."""

    def run(*arguments: object) -> tuple[int, str, str]:
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as exit_:
            code = int(exit_.code or 0)
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of class folders: two classes, three short videos each, one name with a space."""
    root = tmp_path_factory.mktemp("videos")
    bundled = load_data("bundled")
    for name, stem in (("falls down", "Fall"), ("daily", "ADL")):
        (root / name).mkdir()
        files = sorted({r.path for r in bundled.records if r.path.parent.name == stem})[:3]
        for path in files:
            shutil.copy(path, root / name / path.name.replace("_", " ", 1))
    return root


@pytest.fixture(scope="module")
def trained(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a pre-training and a fine-tuning run, made by the program."""
    root = tmp_path_factory.mktemp("runs")
    assert main(["pretrain", "--recipe", "demo", "--data", str(videos), "--out", str(root / "pre"), *SMALL]) == 0
    arguments = ["--data", str(videos), "--out", str(root / "fine"), "--init", str(root / "pre"), *SMALL]
    assert main(["finetune", "--recipe", "demo", *arguments]) == 0
    return root


def test_own_videos_become_a_classifier_with_named_classes(everest: Run, trained: Path, videos: Path) -> None:
    result = json.loads((trained / "fine" / "evaluation.json").read_text())
    assert result["class_names"] == ["daily", "falls down"]
    assert result["num_clips"] == 2  # one of three of each class is held out
    code, out, _ = everest("evaluate", trained / "fine", "--data", videos, "--views", "2x1", "--json")
    assert code == 0
    values = json.loads(out)
    assert values["num_views"] == 2
    assert values["manifest_digest"] == result["manifest_digest"]
    code, out, _ = everest("evaluate", trained / "fine" / "weights.safetensors", "--data", videos, "--split", "all")
    assert code == 0
    assert "top-1" in out


def test_predict_names_classes_and_survives_a_bad_file(everest: Run, trained: Path, videos: Path) -> None:
    good = next((videos / "daily").iterdir())
    code, out, _ = everest("predict", trained / "fine", good, "--json")
    assert code == 0
    (row,) = json.loads(out)
    assert {c["name"] for c in row["classes"]} == {"daily", "falls down"}
    assert sum(c["probability"] for c in row["classes"]) == pytest.approx(1)
    code, out, err = everest("predict", trained / "fine", videos / "nothing.mp4", good, "--top", 1)
    assert code == 1
    assert str(good) in out
    assert err.count("nothing.mp4") == 1


def test_a_classifier_looks_at_as_many_tokens_as_it_is_told(everest: Run, trained: Path, videos: Path) -> None:
    code, out, _ = everest("bench", "dial", trained / "fine", "--data", videos, "--ratios", "1,.25", "--views", "1x1")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()[1:4]] == ["1.00", "0.30", "0.25"]
    found = [
        json.loads(everest("predict", trained / "fine", videos / "daily" / name.name, "--json", *ratio)[1])
        for name in [next((videos / "daily").iterdir())]
        for ratio in ((), ("--keep-ratio", 0.3), ("--keep-ratio", 1))
    ]
    assert found[0] == found[1] != found[2]
    code, out, _ = everest("evaluate", trained / "fine", "--data", videos, "--keep-ratio", 0.5)
    assert code == 0
    assert "top-1" in out
    code, _, err = everest("evaluate", trained / "fine", "--data", videos, "--keep-ratio", 2)
    assert code == 2
    assert "above 0 and up to 1" in err


def test_growth_and_scores_are_measured(everest: Run, videos: Path, tmp_path: Path) -> None:
    options = ["--size", "tiny", "--batches", "1,2", "--frames", "4,8", "--steps", 1, "--plot", tmp_path / "growth.png"]
    code, out, _ = everest("bench", "growth", *options)
    assert code == 0
    assert "tokens^" in out
    assert (tmp_path / "growth.png").stat().st_size > 1000
    code, out, _ = everest("bench", "scores", videos, "--size", "tiny", "--clips", 2, "--json")
    assert code == 0
    names = [row["name"] for row in json.loads(out)["scorings"]]
    assert names[:5] == ["exact", "bfloat16", "projection", "pixels", "random_projection"]
    assert {"l1", "cosine", "moving camera"} < set(names)


def test_evaluation_leaves_a_picture_and_never_overwrites(
    everest: Run, trained: Path, videos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "evaluation"
    assert everest("evaluate", trained / "fine", "--data", videos, "--out", out)[0] == 0
    assert (out / "confusion.png").read_bytes().startswith(b"\x89PNG")
    before = (out / "evaluation.json").read_bytes()
    code, _, err = everest("evaluate", trained / "fine", "--data", videos, "--out", out)
    assert code == 2
    assert "holds files" in err
    assert (out / "evaluation.json").read_bytes() == before


def test_an_evaluation_that_was_broken_off_goes_on_by_the_same_command(
    everest: Run, trained: Path, videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "evaluation"
    words = ("evaluate", trained / "fine", "--data", videos, "--split", "all", "--out", out)
    looked_at: list[int] = []

    def look(model: Any, clips: Any, info: Any) -> Any:
        looked_at.append(len(clips))
        if len(looked_at) == 4:
            raise KeyboardInterrupt
        return classify_clips(model, clips, info)

    monkeypatch.setattr("everest.evaluation.kept.EVERY_SECONDS", 0.0)
    monkeypatch.setattr("everest.evaluation.views.classify_clips", look)
    code, _, err = everest(*words, "--views", "20x1")
    assert code == 130
    assert "the same command with --out goes on from what was found there" in err
    assert [path.name for path in out.iterdir()] == ["evaluating"]
    code, _, err = everest(*words, "--views", "10x1")
    assert code == 2
    assert "holds the beginning of an evaluation with other views: go on with that one" in err
    code, printed, _ = everest(*words, "--views", "20x1", "--json")
    assert code == 0
    values = json.loads(printed)
    assert values["num_clips"] == 6
    assert sum(looked_at[4:]) < 6 * 20
    assert sorted(path.name for path in out.iterdir()) == ["confusion.png", "evaluation.json"]


def test_an_unreadable_video_is_listed_and_never_replaced(
    everest: Run, trained: Path, videos: Path, tmp_path: Path
) -> None:
    good = sorted((videos / "daily").iterdir())[0]
    (tmp_path / "broken.mp4").write_bytes(good.read_bytes()[:2000])
    shutil.copy(good, tmp_path / "good.mp4")
    (tmp_path / "list.csv").write_text("path,label,split\nbroken.mp4,daily,test\ngood.mp4,daily,test\n")
    code, out, err = everest("evaluate", trained / "fine", "--data", tmp_path / "list.csv", "--json")
    assert code == 1
    values = json.loads(out)
    assert values["num_clips"] == 1
    assert values["failures"][0]["path"].endswith("broken.mp4")
    assert "broken.mp4" in err


BAD = {
    "unknown recipe": (
        ["pretrain", "--recipe", "ufc101", "--data", "bundled", "--out", "{out}"],
        "did you mean 'ucf101'",
    ),
    "unknown key": (
        ["pretrain", "--recipe", "demo", "--data", "bundled", "--out", "{out}", "--set", "optim.epoch=1"],
        "did you mean 'optim.epochs'",
    ),
    "missing data": (["pretrain", "--recipe", "demo", "--data", "{tmp}/none", "--out", "{out}"], "no such file"),
    "empty folder": (["pretrain", "--recipe", "demo", "--data", "{tmp}/empty", "--out", "{out}"], "empty"),
    "size that does not divide": (
        ["pretrain", "--recipe", "demo", "--data", "bundled", "--out", "{out}", "--set", "clip.height=100"],
        "multiple of model.patch_size",
    ),
    "no checkpoint": (["evaluate", "{tmp}/none", "--data", "bundled"], "expected a run folder or a weights file"),
    "not a checkpoint": (["predict", "{tmp}/text.txt", "x.mp4"], "safetensors"),
    "pre-trained only": (["predict", "{runs}/pre", "x.mp4"], "fine-tune it first"),
    "missing video": (["predict", "{runs}/fine", "{tmp}/none.mp4"], "none.mp4"),
    "not a video": (["predict", "{runs}/fine", "{tmp}/text.txt"], "text.txt"),
    "views": (["evaluate", "{runs}/fine", "--data", "bundled", "--views", "5"], "5x3"),
    "other classes": (["evaluate", "{runs}/fine", "--data", "bundled"], "bend"),
    "no such split": (["evaluate", "{runs}/fine", "--data", "{tmp}/list.csv", "--split", "val"], "no split 'val'"),
    "label out of range": (["evaluate", "{runs}/fine", "--data", "{tmp}/range.csv", "--split", "all"], "out of range"),
    "checkpoint of another shape": (
        ["finetune", "--recipe=demo", "--data=bundled", "--out={out}", "--init={runs}/pre", "--set=model.size=small"],
        "does not fit",
    ),
    "no such recipe to show": (["recipe", "show", "k400"], "k400-"),
    "selection": (["bench", "step", "--selection", "reroo", "--steps", "1"], "rero"),
    "not a fixture": (["bench", "parity", "{tmp}/empty"], "not a fixture"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_exit_code_2(
    case: str, everest: Run, trained: Path, videos: Path, tmp_path: Path
) -> None:
    arguments, expected = BAD[case]
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.txt").write_text("not a video, and not weights")
    video = next((videos / "daily").iterdir())
    (tmp_path / "list.csv").write_text(f'path,label,split\n"{video}",daily,test\n')
    (tmp_path / "range.csv").write_text(f'path,label\n"{video}",7\n')
    places = {"tmp": tmp_path, "out": tmp_path / "out", "runs": trained}
    code, out, err = everest(*(argument.format(**places) for argument in arguments))
    told = [line for line in err.splitlines() if line.startswith("error: ")]
    assert code == 2, err
    assert len(told) == 1, err
    assert expected in told[0]
    assert "Traceback" not in out + err
    assert not (tmp_path / "out").exists()


def test_a_run_is_never_clobbered(everest: Run, trained: Path, videos: Path) -> None:
    before = (trained / "pre" / "weights.safetensors").read_bytes()
    command = ("pretrain", "--recipe", "demo", "--data", videos, "--out", trained / "pre", *SMALL)
    code, _, err = everest(*command, "--resume", "never")
    assert code == 2
    assert "already holds a run" in err
    assert (trained / "pre" / "weights.safetensors").read_bytes() == before
    code, _, err = everest(*command)
    assert code == 0
    assert "finished before: all 1 steps are done, nothing is trained again" in err
    assert (trained / "pre" / "weights.safetensors").read_bytes() == before


def test_recipes_are_listed_and_shown_with_the_keys_that_set_takes(everest: Run, tmp_path: Path) -> None:
    code, out, _ = everest("recipe", "list", "--json")
    assert code == 0
    for name in (row["name"] for row in json.loads(out)):
        code, shown, _ = everest("recipe", "show", name, "--json")
        assert code == 0
        values = json.loads(shown)
        assert ("pretrain" in values) is (name != "supervised")  # which is trained with labels only
        assert all("optim.base_lr" in values[stage] for stage in ("pretrain", "finetune") if stage in values)
        assert "evaluation.num_segments" in values["finetune"]
        assert "selection.keep_ratio = " in everest("recipe", "show", name)[1]


def test_data_can_be_indexed_and_checked(everest: Run, videos: Path, tmp_path: Path) -> None:
    manifest = tmp_path / "manifest.csv"
    assert everest("data", "index", videos, "--format", "folder", "--out", manifest)[0] == 0
    assert load_data(manifest).digest != ""
    assert len(load_data(manifest)) == 6
    assert everest("data", "index", videos, "--out", manifest)[0] == 2  # never overwritten
    code, out, _ = everest("data", "check", manifest, "--json")
    assert code == 0
    assert json.loads(out)["num_unreadable"] == 0
    (tmp_path / "bad.mp4").write_bytes(b"")
    (tmp_path / "bad.csv").write_text("path\nbad.mp4\n")
    code, out, _ = everest("data", "check", tmp_path / "bad.csv")
    assert code == 1
    assert "bad.mp4" in out


def test_every_command_has_help(everest: Run) -> None:
    commands = ["demo", "pretrain", "finetune", "evaluate", "predict", "doctor"]
    commands += ["recipe list", "recipe show", "data index", "data check", "data pack", "data verify"]
    benches = ("step", "macs", "peers", "growth", "suite", "loader", "scores", "dial", "parity")
    commands += [f"bench {name}" for name in benches]
    commands += ["runs list", "runs show", "runs compare"]
    for command in commands:
        code, out, _ = everest(*command.split(), "--help")
        assert code == 0
        assert out.startswith(f"usage: everest {command}")
    assert {"demo", "pretrain", "doctor"} <= set(build_parser().format_help().split())


def test_a_source_tree_that_is_not_installed_has_its_commands() -> None:
    words = ["bench", "suite", "--help"]
    program = f"""
from importlib import metadata
known = metadata.version
def version(name):
    if name == "everest-video":
        raise metadata.PackageNotFoundError(name)
    return known(name)
metadata.version = version
from everest.cli import main
main({words})
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: everest bench suite")


def test_version(everest: Run) -> None:
    code, out, _ = everest("--version")
    assert code == 0
    assert out.startswith("everest 0.")


def test_data_can_be_packed_verified_and_measured(everest: Run, videos: Path, tmp_path: Path) -> None:
    out = tmp_path / "packed"
    code, text, _ = everest("data", "pack", videos, out, "--short-side", 64, "--workers", 0, "--json")
    values = json.loads(text)
    assert code == 0
    assert (values["num_clips"], values["failures"]) == (6, [])
    assert values["bytes_after"] == (out / "000000.tar").stat().st_size
    code, text, _ = everest("data", "pack", videos, out, "--short-side", 64, "--workers", 0)
    assert code == 0
    assert f"written: {out / 'manifest.csv'}" in text
    assert everest("data", "verify", out)[:2] == (0, "all shards are as they were written\n")
    small = ["--frames", 4, "--stride", 2, "--size", 32, "--items", 2, "--rounds", 1]
    code, text, _ = everest("bench", "loader", videos, "--packed", out, "--train-step", 0.1, *small, "--json")
    assert code == 0
    arms = json.loads(text)["arms"]
    assert {"pyav", "packed shards"} <= {arm["name"] for arm in arms}
    assert all(arm["clips_per_second"] > 0 for arm in arms)
    with (out / "000000.tar").open("r+b") as shard:
        shard.seek(2000)
        shard.write(b"damage")
    code, text, _ = everest("data", "verify", out, "--json")
    assert code == 1
    assert "000000.tar" in json.loads(text)["problems"][0]


@pytest.mark.parametrize(
    ("arguments", "advice"),
    [
        (("data", "pack", "bundled", "out"), "the same command goes on from there"),
        (("data", "index", "bundled", "--out", "out"), "what was saved stays\n"),
        (("pretrain", "--recipe", "demo", "--data", "bundled", "--out", "out"), "the same command goes on from there"),
    ],
)
def test_an_interruption_says_how_to_go_on(
    everest: Run, arguments: tuple[str, ...], advice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    for function in ("datasets.load_data", "datasets.index_source", "api.pretrain"):
        monkeypatch.setattr(f"everest.{function}", interrupt)
    code, out, err = everest(*arguments)
    assert (code, out) == (130, "")
    assert advice in err


def test_a_folder_that_cannot_be_written_is_found_before_the_evaluation(
    everest: Run, trained: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("x")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        code, printed, err = everest("evaluate", trained, "--data", "bundled", "--out", out)
        assert (code, printed) == (2, "")
        assert len(err.strip().splitlines()) == 1
        assert "cannot be written to" in err


def test_memory_that_does_not_suffice_is_one_line(everest: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def allocate(**_: object) -> None:
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 10 bytes")

    monkeypatch.setattr("everest.bench.step.bench_step", allocate)
    assert everest("bench", "step") == (
        2,
        "",
        "error: the memory does not suffice: take a smaller batch, clip or model; in training, "
        "data.batch_size=N takes more passes for the same step, and run.activation_checkpointing=true keeps less\n",
    )

    def fail(**_: object) -> None:
        raise RuntimeError("something else")

    monkeypatch.setattr("everest.bench.step.bench_step", fail)
    with pytest.raises(RuntimeError, match="something else"):
        everest("bench", "step")
