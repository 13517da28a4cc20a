"""One run in detail."""

import json
from pathlib import Path

import pytest

from everest.errors import RunError
from everest.history import read_run, show_run
from everest.history.show import nearest_recipe, summarize
from everest.recipes import list_recipes
from run_folders import GONE, make_run


def test_everything_is_said(tmp_path: Path) -> None:
    changed = ("optim.epochs=2", "clip.height=32")
    path = make_run(tmp_path / "run", *changed, task="finetune", top1=0.5, process=GONE, grad_norm=2.0, wait_share=0.25)
    starts = json.loads((path / "environment.json").read_text())
    starts.append(starts[0] | {"gpus": ["NVIDIA H100", "NVIDIA H100"], "changed_settings": {"run.device": "cuda"}})
    (path / "environment.json").write_text(json.dumps(starts))
    (path / "log.txt").write_text("48 clips\ncannot read /data/x\x1b[1m.mp4: moov atom not found\nstopped: full disk\n")
    (path / "trackers.json").write_text('{"wandb": "abcd1234"}')
    (path / "replays").mkdir()
    (path / "replays" / "step-7.json").write_text("{}")
    (path / "replays" / "step-7-weights.safetensors").write_text("")
    shown = show_run(path)
    text = str(shown)
    for part in (
        "stopped: full disk; 3 of 6 steps (1 of 2 epochs)",
        "on a CPU",
        "NVIDIA H100, NVIDIA H100",
        "with run.device=cuda",
        "3.0000 first, 1.0000 lowest (step 2), 1.0000 last",
        "top-1 50.0%, 95 % interval 40.0% to 60.0%; the most frequent class 25.0%",
        "100 clips, 3 views of each",
        "1 clips cannot be read",
        "recipe demo, but for 3:",
        "clip.height: 32 instead of 112",
        "/data/x\\x1b[1m.mp4: moov atom not found",
        "1 steps can be repeated: everest replay ",
        "replays/step-7.json",
        "run abcd1234",
        "everest finetune --recipe demo --out 'my runs/x' --resume auto",
    ):
        assert part in text, part
    values = json.loads(json.dumps(shown.to_dict()))
    assert values["recipe"] == "demo"
    assert values["differing"] == {"clip.height": [112, 32], "optim.epochs": [50, 2], "optim.warmup_epochs": [5, 0]}
    assert values["metrics"]["best_loss_step"] == 2
    assert values["num_bytes"] > 1000
    assert values["failed"] == ["/data/x\x1b[1m.mp4: moov atom not found"]


def test_what_to_do_next_follows_from_the_state(tmp_path: Path) -> None:
    done = make_run(tmp_path / "done", "optim.epochs=1")
    assert show_run(done).advice() == f"everest finetune --init {done} ..."
    tuned = make_run(tmp_path / "tuned", "optim.epochs=1", task="finetune")
    assert show_run(tuned).advice().startswith("everest predict ")
    stopped = make_run(tmp_path / "stopped", process=GONE)
    starts = json.loads((stopped / "environment.json").read_text())
    for command, told in (
        (["/x/everest/__main__.py", "pretrain", "--resume", "auto"], "everest pretrain --resume auto"),
        (["everest", "pretrain", "--resume=auto"], "everest pretrain --resume=auto"),
        (["my_script.py", "3"], "start it again with the same command and --resume auto"),
        (None, "start it again with the same command and --resume auto"),
    ):
        (stopped / "environment.json").write_text(json.dumps([starts[0] | {"command": command}]))
        assert show_run(stopped).advice() == told


def test_steps_that_were_skipped_are_counted(tmp_path: Path) -> None:
    path = make_run(tmp_path / "run", grad_norm=1.0, skipped_steps=4)
    assert summarize(read_run(path))["skipped_steps"] == 4
    assert "4 steps skipped" in str(show_run(path))


@pytest.mark.parametrize("recipe", list_recipes(), ids=lambda recipe: recipe.name)
def test_the_recipe_of_a_run_is_found_again(recipe, tmp_path: Path) -> None:
    for task, config in (("pretrain", recipe.pretrain), ("finetune", recipe.finetune)):
        if config is not None:
            path = make_run(tmp_path / task, task=task)
            (path / "config.json").write_text(json.dumps(config.model_dump(mode="json")))
            assert nearest_recipe(read_run(path)).differing == {}  # some recipes share a stage


def test_many_starts_take_a_few_lines(tmp_path: Path) -> None:
    path = make_run(tmp_path / "run")
    (path / "environment.json").write_text(json.dumps(json.loads((path / "environment.json").read_text()) * 40))
    assert "... 36 more" in str(show_run(path))
    assert str(show_run(path)).count("on a CPU") == 4


def test_an_empty_run_can_be_shown(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"task": "pretrain"}')
    shown = show_run(tmp_path)
    assert "stopped: nothing was written; 0 of ? steps" in str(shown)
    json.dumps(shown.to_dict())
    with pytest.raises(RunError):
        show_run(tmp_path / "none")
