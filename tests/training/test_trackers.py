"""What trackers are sent, that they go on with their runs, and that they never end one of ours."""

import getpass
import json
import platform
import sys
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from everest.config import FinetuneConfig, PretrainConfig
from everest.datasets import Manifest, load_data
from everest.errors import ConfigError
from everest.recipes import get_recipe
from everest.settings import flatten, override
from everest.training import run_pretraining, trackers
from everest.training.engine import Engine
from everest.training.metrics import MetricsLog, read_metrics
from everest.training.rundir import RunFolder
from everest.training.trackers import describe_trackers, expect_trackers, public_settings
from tracker_libraries import FAKES, LIBRARIES, FakeWandb, Library

SMALL = (
    *("clip.height=32", "clip.width=32", "optim.global_batch_size=4", "optim.epochs=2", "optim.warmup_epochs=0"),
    *("data.num_workers=0", "run.tensorboard=false", "run.device=cpu", "run.log_every_steps=1"),
)


def config(*settings: str) -> PretrainConfig:
    recipe = get_recipe("demo").pretrain
    assert recipe is not None
    return override(recipe, [*SMALL, *settings])


@pytest.fixture(scope="module")
def data() -> Manifest:
    """Eight clips."""
    bundled = load_data("bundled").split("train")
    return replace(bundled, records=bundled.records[:8])


@pytest.fixture(params=LIBRARIES)
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Library:
    for name in trackers._ENVIRONMENT:
        monkeypatch.setenv(name, trackers._ENVIRONMENT[name])  # which is put back afterwards
    monkeypatch.setattr(Library, "error", None, raising=False)
    return LIBRARIES[request.param](monkeypatch, tmp_path)


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    Engine.start(config().run)  # which tells Accelerate's trackers whose process this is
    return RunFolder.create(tmp_path / "my run", config("objective.name=pixels"), resume="never")


def test_settings_and_every_line_arrive_and_nothing_on_stdout(
    library: Library, data: Manifest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said: list[str] = []
    given = config(f"run.trackers={library.name}")
    run = run_pretraining(given, data, tmp_path / "run", say=said.append)
    ((own, sent),) = library.read().items()
    assert {k: str(v) for k, v in sent.config.items()} == {k: _said(v) for k, v in flatten(given).items()}
    lines = read_metrics(run.folder.metrics)
    assert len(lines) == run.num_steps == 4
    for line, (step, values) in zip(lines, sent.lines, strict=True):
        assert step == line.pop("step")
        del line["time"]
        assert values == pytest.approx(line)
    assert sent.state == "finished"
    assert json.loads(run.folder.trackers.read_text()) == {library.name: own}
    assert capsys.readouterr().out == ""
    assert [line for line in said if line.startswith(f"settings and metrics also go to {library.name}")]


def _said(value: object) -> str:
    return str(value)


def test_nothing_of_the_machine_is_sent(library: Library, folder: RunFolder, tmp_path: Path) -> None:
    with MetricsLog(folder, tensorboard=False, trackers=(library.name,)) as log:
        log.write(0, 0.5, loss=1.0)
    everything = library.everything()
    assert b"rero" in everything  # a setting
    for private in (str(tmp_path), platform.node(), sys.argv[0], str(Path.cwd()), getpass.getuser()):
        assert len(private) < 5 or private.encode() not in everything, private  # shorter ones are in other words


def test_files_and_folders_of_this_machine_go_by_their_last_name() -> None:
    mine = config("objective.name=mvd", "objective.video_teacher=/home/me/secret/teacher")
    assert public_settings(mine)["objective.video_teacher"] == "teacher"
    theirs = config("objective.name=mvd", "objective.video_teacher=hf:MCG-NJU/videomae-base")
    assert public_settings(theirs)["objective.video_teacher"] == "hf:MCG-NJU/videomae-base"
    assert public_settings(mine).keys() == flatten(mine).keys()


@pytest.mark.parametrize("task", [PretrainConfig, FinetuneConfig])
def test_no_setting_that_takes_any_text_is_sent_as_it_is(task: type[BaseModel]) -> None:
    keys = list(_free_texts(task))
    assert "data.remote.cache_dir" in keys
    given: Any = SimpleNamespace(model_dump=lambda **_: dict.fromkeys(keys, "/home/me/secret/last"))
    assert public_settings(given) == dict.fromkeys(keys, "last")


def _free_texts(config: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Name the settings that are not numbers, choices and the like."""
    for name, field in config.model_fields.items():
        kind: Any = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from _free_texts(kind, f"{prefix}{name}.")
        elif kind is str or str in get_args(kind):
            yield prefix + name


def test_a_resumed_run_goes_on_in_the_same_place_without_doubles(library: Library, folder: RunFolder) -> None:
    log = MetricsLog(folder, tensorboard=False, trackers=(library.name,))
    for step in range(4):
        log.write(step, step / 2, loss=1.0 + step)
    log.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert [sent.state for sent in library.read().values()] == ["failed"]
    before = json.loads(folder.trackers.read_text())
    with MetricsLog(folder, tensorboard=False, trackers=(library.name,)) as log:
        log.truncate_from(2)
        log.write(2, 1.0, loss=3.0)
        log.write(3, 1.5, loss=4.0)
        log.write(3, 1.5, top1=0.5)  # of the same step, and new
        log.write(4, 2.0, loss=5.0)
    assert json.loads(folder.trackers.read_text()) == before
    (sent,) = library.read().values()
    losses = [(step, values["loss"]) for step, values in sent.lines if "loss" in values]
    assert losses == [(0, 1.0), (1, 2.0), (2, 3.0), (3, 4.0), (4, 5.0)]
    assert [(step, values["top1"]) for step, values in sent.lines if "top1" in values] == [(3, 0.5)]


@pytest.mark.parametrize("name", FAKES)
@pytest.mark.parametrize("when", ["at the start", "on the way"])
def test_a_tracker_that_fails_is_one_warning_and_no_end(
    name: str, when: str, folder: RunFolder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    library = FAKES[name](monkeypatch, tmp_path)
    gone = ConnectionError("the network\nis gone")
    library.error = gone if when == "at the start" else None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with MetricsLog(folder, tensorboard=False, trackers=(library.name,)) as log:
            for step in range(4):
                log.write(step, 0.0, loss=1.0)
                library.error = gone
    assert [str(each.message).partition(";")[0] for each in caught] == [
        f"{library.name} gets nothing more of this run: the network is gone"
    ]
    assert len(read_metrics(folder.metrics)) == 4
    library.error = None
    with MetricsLog(folder, tensorboard=False, trackers=(library.name,)) as log:
        log.write(4, 0.0, loss=2.0)  # tried again, in the same run
    (sent,) = library.read().values()
    assert sent.lines[-1][0] == 4


def test_errors_of_a_library_s_own_classes_are_contained_and_others_are_not(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    library = FakeWandb(monkeypatch, tmp_path)
    theirs = type("MailboxClosedError", (Exception,), {"__module__": "wandb.sdk.mailbox"})
    with MetricsLog(folder, tensorboard=False, trackers=("wandb",)) as log:
        library.error = theirs()
        with pytest.warns(UserWarning, match="MailboxClosedError"):
            log.write(0, 0.0, loss=1.0)
    library.error = None
    with MetricsLog(folder, tensorboard=False, trackers=("wandb",)) as log:
        library.error = type("OursError", (Exception,), {"__module__": "everest.x"})()
        with pytest.raises(type(library.error)):
            log.write(1, 0.0, loss=1.0)


def test_a_damaged_list_of_runs_is_a_warning(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    library = FakeWandb(monkeypatch, tmp_path)
    folder.trackers.write_text("{")
    with pytest.warns(UserWarning, match=r"trackers.json is damaged .* delete it"):
        MetricsLog(folder, tensorboard=False, trackers=("wandb",)).close()
    assert not library.runs


def test_only_the_main_process_has_trackers(data: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = FakeWandb(monkeypatch, tmp_path)
    monkeypatch.setattr(Engine, "is_main", property(lambda engine: False))
    RunFolder.create(tmp_path / "run", config("run.trackers=wandb"), resume="never")
    run_pretraining(config("run.trackers=wandb"), data, tmp_path / "run", resume="auto", say=lambda _: None)
    assert not library.runs


def test_the_environment_of_a_library_decides_where_to(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    library = FakeWandb(monkeypatch, tmp_path)
    MetricsLog(folder, tensorboard=False, trackers=("wandb",)).close()
    assert (library.arguments["project"], library.arguments["name"]) == ("everest", "my run")
    assert Path(library.arguments["dir"]) == folder.path
    assert "mode" not in library.arguments
    assert "mode" not in library.arguments["settings"]
    monkeypatch.setenv("WANDB_PROJECT", "falls")
    monkeypatch.setenv("WANDB_NAME", "third")
    MetricsLog(folder, tensorboard=False, trackers=("wandb",)).close()
    assert (library.arguments["project"], library.arguments["name"]) == ("falls", "third")


def test_a_missing_library_is_said_before_anything_is_written(
    data: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("wandb", "mlflow"):
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(ConfigError, match=rf"run.trackers={name} .* pip install 'everest-video\[{name}\]'"):
            run_pretraining(config(f"run.trackers={name}"), data, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    expect_trackers(())
    assert describe_trackers(()) == ""


def test_names_are_given_with_commas_and_may_change_on_the_way(tmp_path: Path) -> None:
    assert config("run.trackers=wandb, mlflow,wandb").run.trackers == ("wandb", "mlflow")
    assert config('run.trackers=["mlflow"]').run.trackers == ("mlflow",)
    assert config("run.trackers=none").run.trackers == ()
    with pytest.raises(ConfigError, match=r"run.trackers.*'wandb' or 'mlflow'.*tensorboard"):
        config("run.trackers=tensorboard")
    RunFolder.create(tmp_path, config(), resume="never")
    RunFolder.create(tmp_path, config("run.trackers=wandb"), resume="auto")


def test_passwords_in_an_address_are_not_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:secret@example.org/x")
    assert describe_trackers(("mlflow",)) == "settings and metrics also go to mlflow (https://example.org/x)"
    for uri in ("postgresql://host/db?user=me&password=secret", "mysql+pymysql://me:sec'ret@host/db?password=secret"):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        told = describe_trackers(("mlflow",))
        assert "://host/db?...)" in told
        assert not any(word in told for word in ("me:", "ret@", "secret"))


@pytest.mark.parametrize("name", FAKES)
@pytest.mark.parametrize("uri", ["https://me:hunter2@host/x?sig=hunter2", "mysql://host/db?user=me&password=hunter2"])
def test_passwords_in_the_errors_of_a_library_are_not_said(
    name: str, uri: str, folder: RunFolder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    library = FAKES[name](monkeypatch, tmp_path)
    library.error = OSError(f"API request to {uri} failed")
    with pytest.warns(UserWarning, match="API request to .*host.* failed") as caught:
        MetricsLog(folder, tensorboard=False, trackers=(library.name,)).close()
    assert "hunter2" not in str(caught[0].message)
