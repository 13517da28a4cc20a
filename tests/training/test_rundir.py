"""Which folders a run may use, and what it leaves there."""

import json
from pathlib import Path

import pytest

from everest.config import (
    AugmentConfig,
    ClipConfig,
    FinetuneConfig,
    ModelConfig,
    OptimConfig,
    PretrainConfig,
    SelectionConfig,
)
from everest.errors import RunError
from everest.settings import flatten, override
from everest.training.rundir import FREE_KEYS, RunFolder

PARTS = {
    "model": ModelConfig(size="tiny"),
    "clip": ClipConfig(),
    "selection": SelectionConfig(keep_ratio=0.3, encode_ratio=0.1),
    "augment": AugmentConfig(),
    "optim": OptimConfig(),
}
CONFIG = PretrainConfig(**PARTS)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("resume", ["auto", "never"])
@pytest.mark.parametrize("config", [CONFIG, FinetuneConfig(**PARTS)], ids=["pretrain", "finetune"])
def test_a_new_run_records_its_configuration(tmp_path: Path, config, resume) -> None:
    folder = RunFolder.create(tmp_path / "a" / "b", config, resume=resume)
    assert folder.config() == config
    assert len(folder.starts()) == 1
    assert sorted(contents(folder.path)) == ["config.json", "environment.json"]
    assert RunFolder.open(folder.path) == folder


def test_continuing_adds_a_start_and_keeps_the_configuration(tmp_path: Path) -> None:
    RunFolder.create(tmp_path, CONFIG, resume="never")
    changed = override(CONFIG, ["run.device=cpu", "data.num_workers=0", "run.log_every_steps=5"])
    folder = RunFolder.create(tmp_path, changed, resume="auto")
    assert folder.config() == CONFIG
    first, second = folder.starts()
    assert "changed_settings" not in first
    assert second["changed_settings"] == {
        "run.device": "cpu",
        "data.num_workers": 0,
        "run.log_every_steps": 5,
    }


def test_other_settings_are_refused_by_name(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, CONFIG, resume="never")
    before = contents(folder.path)
    changed = override(CONFIG, ["optim.base_lr=0.5", "run.seed=3", "run.device=cpu"])
    with pytest.raises(RunError, match=r"optim.base_lr \(0.001 -> 0.5\), run.seed \(0 -> 3\)") as caught:
        RunFolder.create(tmp_path, changed, resume="auto")
    assert "run.device" not in str(caught.value)
    with pytest.raises(RunError, match=r"task \(pretrain -> finetune\)"):
        RunFolder.create(tmp_path, FinetuneConfig(**PARTS), resume="auto")
    assert contents(folder.path) == before


def test_never_refuses_an_earlier_run(tmp_path: Path) -> None:
    before = contents(RunFolder.create(tmp_path, CONFIG, resume="never").path)
    with pytest.raises(RunError, match="leave --resume never away"):
        RunFolder.create(tmp_path, CONFIG, resume="never")
    assert contents(tmp_path) == before


@pytest.mark.parametrize("resume", ["auto", "never"])
@pytest.mark.parametrize(
    ("name", "text"),
    [("thesis.tex", "x"), ("config.json", '{"model_type": "bert"}'), ("config.json", "[1]"), ("config.json", "{")],
)
def test_a_folder_of_other_files_is_never_written(tmp_path: Path, name: str, text: str, resume) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(RunError):
        RunFolder.create(tmp_path, CONFIG, resume=resume)
    assert contents(tmp_path) == {name: text.encode()}


@pytest.mark.parametrize("name", [".config.json.tmp", ".lock", "interrupted.json"])
def test_what_a_start_that_was_killed_at_once_left_is_no_obstacle(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text('{"task": "pre')
    folder = RunFolder.create(tmp_path, CONFIG, resume="never")
    assert folder.config() == CONFIG
    assert not folder.interruption.exists()


def test_what_was_not_written_to_the_end_is_deleted(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, CONFIG, resume="auto")
    folder.checkpoints.mkdir()
    leftovers = (
        tmp_path / ".environment.json.tmp",
        tmp_path / ".weights.safetensors.partial",
        folder.checkpoints / ".step-00000003.pt.tmp",
    )
    for path in leftovers:
        path.write_text("half of i")
    (tmp_path / ".notes").write_text("mine")
    RunFolder.create(tmp_path, CONFIG, resume="auto")
    assert sorted(path.name for path in tmp_path.rglob(".*")) == [".notes"]
    assert len(folder.starts()) == 2


def test_one_process_at_a_time_holds_a_run(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    with folder.locked():
        RunFolder.create(folder.path, CONFIG, resume="never")
        with pytest.raises(RunError, match="this one, is training this run; wait for it or stop it"), folder.locked():
            pass
    assert sorted(contents(folder.path)) == ["config.json", "environment.json"]
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(RunError, match="files that are not a run's"), RunFolder(tmp_path).locked():
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "thesis.tex"]


def test_an_interruption_is_noted_until_the_next_start(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, CONFIG, resume="auto")
    folder.note_interruption("stopped", 75)
    values = json.loads(folder.interruption.read_text())
    assert (values["message"], values["exit_code"]) == ("stopped", 75)
    RunFolder.create(tmp_path, CONFIG, resume="auto")
    assert not folder.interruption.exists()
    (tmp_path / "file").write_text("x")
    RunFolder(tmp_path / "file").note_interruption("stopped", 75)  # nowhere to leave it: no error on the way out


def test_a_file_is_not_a_folder(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("x")
    with pytest.raises(RunError, match="is a file"):
        RunFolder.create(tmp_path / "run", CONFIG, resume="auto")
    with pytest.raises(RunError, match="cannot be used"):
        RunFolder.create(tmp_path / "run" / "inner", CONFIG, resume="auto")


def test_a_run_of_another_version_is_named_as_such(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, CONFIG, resume="never")
    values = json.loads(folder.config_file.read_text()) | {"future": 1}
    folder.config_file.write_text(json.dumps(values))
    with pytest.raises(RunError, match=r"does not fit this version: future"):
        RunFolder.create(tmp_path, CONFIG, resume="auto")


def test_opening_what_is_not_a_run_fails(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(RunError, match=r"has no config.json"):
            RunFolder.open(path)


def test_free_keys_exist() -> None:
    assert flatten(CONFIG).keys() | flatten(FinetuneConfig(**PARTS)).keys() >= FREE_KEYS
