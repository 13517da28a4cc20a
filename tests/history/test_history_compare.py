"""Runs side by side."""

import json
from pathlib import Path

import pytest

from everest.errors import RunError
from everest.history import compare_runs, end_of, points_of, read_run
from run_folders import START, make_run


def test_only_what_differs_is_said(tmp_path: Path) -> None:
    one = make_run(tmp_path / "one", "optim.base_lr=0.5", top1=0.5)
    other = make_run(tmp_path / "other", losses=(3.0, 0.5))
    compared = compare_runs([one, other])
    assert compared.names == ("one", "other")
    assert compared.differing == {"optim.base_lr": (0.5, 0.005)}
    rows = {line.split("  ")[0]: line.split() for line in str(compared).splitlines()}
    assert rows["optim.base_lr"][1:] == ["0.5", "0.005"]
    assert rows["last loss"][2:] == ["1.0000", "0.5000"]
    assert rows["top-1"][1:] == ["50.0%", "(40%", "to", "60%)"]
    assert "top-5" not in rows
    values = json.loads(json.dumps(compared.to_dict()))
    assert values["differing"] == {"optim.base_lr": [0.5, 0.005]}
    assert values["runs"][0]["evaluation"]["num_views"] == 3


def test_runs_of_one_name_are_told_apart(tmp_path: Path) -> None:
    paths = [make_run(tmp_path / where / "run") for where in ("a", "b")]
    assert compare_runs(paths).names == ("a/run", "b/run")
    assert compare_runs([*paths, paths[0]]).names == ("a/run", "b/run")
    assert "the same" in str(compare_runs(paths))


def test_runs_of_different_kinds_and_versions_can_be_compared(tmp_path: Path) -> None:
    one, other = make_run(tmp_path / "one"), make_run(tmp_path / "other", task="finetune")
    config = json.loads((one / "config.json").read_text())
    config["optim"]["new"] = {"a": 1}
    (one / "config.json").write_text(json.dumps(config))
    differing = compare_runs([one, other]).differing
    assert differing["task"] == ("pretrain", "finetune")
    assert differing["optim.new.a"] == (1, None)
    assert differing["optim.label_smoothing"] == (0.0, 0.1)


def test_damaged_folders_are_named_and_the_others_compared(tmp_path: Path) -> None:
    one = make_run(tmp_path / "one")
    (tmp_path / "bert").mkdir()
    (tmp_path / "bert" / "config.json").write_text("{}")
    compared = compare_runs([tmp_path / "bert", one, tmp_path / "none"])
    assert compared.names == ("one",)
    assert len(compared.problems) == 2
    with pytest.raises(RunError, match=r"bert.*none"):
        compare_runs([tmp_path / "bert", tmp_path / "none"])


def test_points_lie_over_steps_epochs_and_hours(tmp_path: Path) -> None:
    path = make_run(tmp_path / "run")
    with (path / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"step": 2, "epoch": 1.0, "time": START + 40, "top1": 0.5}) + "\n")
        file.write(json.dumps({"step": 3, "epoch": None, "time": START + 50, "loss": None}) + "\n")
    run = read_run(path)
    assert points_of(run, "loss", "steps") == [(1, 3.0), (2, 2.0), (3, 1.0)]
    assert points_of(run, "top1", "epochs") == [(1.0, 0.5)]
    assert [round(3600 * hour) for hour, _ in points_of(run, "loss", "hours")] == [10, 20, 30]
    assert end_of(run, "steps") == 4
    assert end_of(run, "epochs") == 1.0
    assert end_of(read_run(make_run(tmp_path / "empty", losses=())), "hours") is None
