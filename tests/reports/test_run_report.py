"""The page about a run, at any time: finished, going on, stopped, damaged, or from somebody else."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from everest.errors import RunError
from everest.history import read_run
from everest.history.show import summarize
from everest.reports import find_clips, make_report
from run_folders import GONE, make_run

Copy = Callable[[str], Path]


def cut(run: Path, num_lines: int = 2) -> Path:
    """Make a run one that was stopped half way."""
    lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run / "metrics.jsonl").write_text("".join(lines[:num_lines]))
    starts = json.loads((run / "environment.json").read_text())
    starts[-1]["process"] = GONE
    (run / "environment.json").write_text(json.dumps(starts))
    return run


def test_the_numbers_are_those_of_the_run(trained: Path) -> None:
    for name in ("pre", "fine"):
        values = make_report(trained / name).values
        assert values["metrics"] == summarize(read_run(trained / name))
        assert (values["state"], values["clips"], values["problems"]) == ("finished", "shown", [])
        this, whole = values["cost"]
        assert this["num_encoded"] + this["num_predicted"] < this["num_tokens"]
        assert 0 < this["gmacs_training"] < whole["gmacs_training"]
    evaluation = json.loads((trained / "fine" / "evaluation.json").read_text())
    assert values["evaluation"] == {key: evaluation[key] for key in values["evaluation"]}


def test_a_run_that_was_stopped_says_so_at_the_top(copied: Copy) -> None:
    run = cut(copied("fine"))
    (run / "evaluation.json").unlink()
    made = make_report(run)
    assert made.values["state"] == "stopped"
    top = made.page.render().partition("<section")[0]
    assert "was stopped before its end: 2 of 4 steps are done" in top
    assert "was not evaluated at its end" in made.page.render()
    assert "data:image/jpeg" in made.page.render()  # pictures of the weights that are there


def test_a_run_that_has_saved_nothing_has_a_page_too(tmp_path: Path) -> None:
    made = make_report(make_run(tmp_path / "run", steps_per_epoch=30))
    assert made.values["state"] == "going on"
    page = made.page.render()
    assert "still goes on: 3 of 9,000 steps" in page
    assert "has not saved any weights yet" in page
    empty = make_report(make_run(tmp_path / "empty", losses=()))
    assert "No step has been logged yet" in empty.page.render()


def test_clips_are_shown_only_where_they_are_the_same(copied: Copy, clips: Path) -> None:
    run = copied("fine")
    data = json.loads((run / "data.json").read_text())

    def why(**changes: object) -> str:
        (run / "data.json").write_text(json.dumps(data | changes))
        return find_clips(read_run(run)).why_not

    assert why() == ""
    assert "not where they were" in why(source="/no/such/list.csv")
    assert "not say which clips" in why(source=None)
    assert "has changed since" in why(manifest_digest="0" * 64)
    assert "at a URL" in why(source="https://example.invalid/list.csv")  # and nobody has asked for it
    page = make_report(run).page.render()
    assert page.count("at a URL: name them with --data") >= 2
    assert "data:image/webp" not in page
    page = make_report(run, clips=find_clips(read_run(run), clips)).page.render()
    assert page.count("data:image/webp") == 6


def test_the_newest_evaluation_of_the_folder_counts(copied: Copy) -> None:
    run = copied("fine")
    values = json.loads((run / "evaluation.json").read_text())
    (run / "5x3").mkdir()
    (run / "5x3" / "evaluation.json").write_text(json.dumps(values | {"top1": 0.875, "num_views": 15}))
    os.utime(run / "5x3" / "evaluation.json", (time.time() + 10,) * 2)
    made = make_report(run)
    assert made.values["evaluation"]["top1"] == 0.875
    page = made.page.render()
    assert "87.5%" in page
    assert "All evaluations in the folder" in page
    os.utime(run / "5x3" / "evaluation.json", (0, 0))
    assert make_report(run).values["evaluation"]["top1"] == values["top1"]


def test_what_is_damaged_is_named_in_the_page(copied: Copy) -> None:
    run = copied("fine")
    for name, content in (("evaluation.json", "{"), ("metrics.jsonl", "no line\n"), ("data.json", "[]")):
        (run / name).write_text(content)
    (run / "weights.safetensors").write_text("torn")
    page = make_report(run).page.render()
    for told in ("does not hold an evaluation", "lines of metrics.jsonl cannot be read", "data.json holds a list"):
        assert told in page
    assert "No pictures" in page
    assert "weights.safetensors" in page


def test_a_run_of_another_version_has_a_page(copied: Copy) -> None:
    run = copied("fine")
    config = json.loads((run / "config.json").read_text())
    config["model"]["size"] = "another"
    (run / "config.json").write_text(json.dumps(config))
    page = make_report(run).page.render()
    assert "does not fit this version" in page
    assert "data:image/jpeg" in page  # by what travels with the weights


def test_the_settings_that_differ_come_first(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", "optim.base_lr=0.125")
    config = json.loads((run / "config.json").read_text())
    del config["run"]["report"]  # an older version did not have it
    (run / "config.json").write_text(json.dumps(config))
    (section,) = [each for each in make_report(run).page.sections if each.heading == "Settings"]
    rows = {key: (mine, theirs) for key, mine, theirs in section.tables[0].rows}
    assert rows["optim.base_lr"] == ("0.125", "0.005")
    assert rows["run.report"] == ("not a setting of the version that ran", "True")
    assert len(rows) == 3  # and no warm-up, as tests have it
    every = dict(section.folded[0].tables[0].rows)
    assert every["optim.base_lr"] == "0.125"
    assert len(every) > 60


def test_odd_values_are_shown_as_they_are(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", task="finetune")
    odd = {"source": 5, "num_clips": "many", "start": [1], "part_digest": 3, "class_names": 7, "note": {"a": 1}}
    (run / "data.json").write_text(json.dumps(odd))
    start = {"cpu": 3, "packages": [1], "gpus": "x", "command": [None], "date": 5, "everest_git": 2, "process": "x"}
    (run / "environment.json").write_text(json.dumps([start, 7]))
    config = json.loads((run / "config.json").read_text())
    config["optim"] |= {"global_batch_size": "four", "epochs": []}
    config["selection"] |= {"method": {"a": 1}, "keep_ratio": "x"}
    config["data"] |= {"holdout": 7.5}
    (run / "config.json").write_text(json.dumps(config))
    page = make_report(run).page.render()
    assert "does not fit this version" in page
    assert "many clips" in page


def test_the_clips_of_training_are_not_taken_for_others(copied: Copy) -> None:
    run = copied("fine")
    values = json.loads((run / "evaluation.json").read_text())
    learnt = json.loads((run / "data.json").read_text())["part_digest"]
    (run / "evaluation.json").write_text(json.dumps(values | {"part_digest": learnt}))
    assert "These are the clips that it was trained on" in make_report(run).page.render()


def test_another_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="not the folder of a run"):
        make_report(tmp_path)
