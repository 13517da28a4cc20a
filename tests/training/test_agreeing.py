"""Processes that were not started alike do not train together."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from everest.config import PretrainConfig
from everest.datasets import Manifest, load_data
from everest.errors import RunError
from everest.recipes import get_recipe
from everest.settings import override
from everest.training import agreeing, run_pretraining
from everest.training.agreeing import require_same_start

SMALL = ["model.size=tiny", "data.num_workers=0", "run.tensorboard=false", "run.device=cpu"]


def settings(*changes: str) -> PretrainConfig:
    config = get_recipe("demo").pretrain
    assert config is not None
    return override(config, [*SMALL, *changes])


@pytest.fixture(scope="module")
def data() -> Manifest:
    return load_data("bundled").split("train")


def agree(monkeypatch: pytest.MonkeyPatch, *starts: tuple[PretrainConfig, Manifest]) -> list[str]:
    """Let each process start, and give what each of them raises; empty where it may train."""
    sent: list[Any] = []

    def collect(value: Any) -> list[Any]:
        sent.append(value)
        return [value]

    monkeypatch.setattr(agreeing, "this_process", lambda: (0, len(starts)))
    monkeypatch.setattr(agreeing, "gather_values", collect)
    for start in starts:
        require_same_start(*start)
    monkeypatch.setattr(agreeing, "gather_values", lambda value: sent)
    told = []
    for start in starts:
        try:
            require_same_start(*start)
            told.append("")
        except RunError as error:
            told.append(str(error))
    return told


def test_what_belongs_to_a_machine_may_differ(monkeypatch: pytest.MonkeyPatch, data: Manifest, tmp_path: Path) -> None:
    own = settings("data.num_workers=3", "data.memory_cache=true", f"data.remote.cache_dir={tmp_path}")
    assert agree(monkeypatch, (settings(), data), (own, data), (settings(), data)) == ["", "", ""]


def test_other_settings_are_named_with_their_rank_in_all_processes(
    monkeypatch: pytest.MonkeyPatch, data: Manifest
) -> None:
    other = settings("optim.base_lr=0.02", "run.save_every_steps=7")
    told = agree(monkeypatch, (settings(), data), (settings(), data), (other, data))
    assert len(set(told)) == 1
    assert told[0].startswith("rank 2 was not started as rank 0 was: optim.base_lr is 0.02 instead of ")
    assert "run.save_every_steps is 7 instead of None. Start all processes with the same command" in told[0]


def test_other_data_is_named_with_its_rank_in_all_processes(monkeypatch: pytest.MonkeyPatch, data: Manifest) -> None:
    fewer = replace(data, records=data.records[:3])
    told = agree(monkeypatch, (settings(), data), (settings(), fewer), (settings(), fewer))
    assert len(set(told)) == 1
    assert told[0].startswith("rank 1 was not started as rank 0 was: its data is 3 clips of ")
    assert "(2 of 3 processes differ from it)" in told[0]
    elsewhere = replace(data, whole_digest="of other test clips")
    assert (
        "other clips in the parts that are not trained on"
        in agree(monkeypatch, (settings(), data), (settings(), elsewhere))[0]
    )


def test_a_run_asks_before_it_makes_a_folder(monkeypatch: pytest.MonkeyPatch, data: Manifest, tmp_path: Path) -> None:
    def with_another(value: Any) -> list[Any]:
        return [value, value | {"settings": value["settings"] | {"optim.epochs": 999}}]

    monkeypatch.setattr(agreeing, "this_process", lambda: (0, 2))
    monkeypatch.setattr(agreeing, "gather_values", with_another)
    with pytest.raises(RunError, match=r"rank 1 was not started as rank 0 was: optim\.epochs is 999 instead of"):
        run_pretraining(settings(), data, tmp_path / "run", say=lambda line: None)
    assert not (tmp_path / "run").exists()
