"""What a start finds of the one before: other data, other versions, an end without a word."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from everest.datasets import Manifest, load_data
from everest.errors import RunError
from everest.recipes import get_recipe
from everest.settings import override
from everest.training import run_finetuning, run_pretraining
from everest.training.heartbeats import Heart
from everest.training.restarting import changed_versions, since_last_start
from everest.training.rundir import RunFolder
from everest.training.state import latest_state

SMALL = [
    *("model.size=tiny", "clip.num_frames=4", "clip.height=32", "clip.width=32", "optim.warmup_epochs=0"),
    *("optim.global_batch_size=4", "data.num_workers=0", "run.tensorboard=false", "run.device=cpu"),
    *("optim.epochs=1", "run.save_every_epochs=1"),
]


@pytest.fixture(scope="module")
def data() -> Manifest:
    bundled = load_data("bundled").split("train")
    return replace(bundled, records=bundled.records[:4])


def train(data: Manifest, out: Path, *settings: str) -> str:
    said: list[str] = []
    config = get_recipe("demo").pretrain
    assert config is not None
    run_pretraining(override(config, [*SMALL, *settings]), data, out, resume="auto", say=said.append)
    return "\n".join(said)


@pytest.fixture
def run(data: Manifest, tmp_path: Path) -> Path:
    train(data, tmp_path / "run")
    return tmp_path / "run"


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_data_that_changed_is_refused_with_the_numbers_and_nothing_is_touched(data: Manifest, run: Path) -> None:
    before = contents(run)
    fewer = replace(data, records=data.records[:3])
    with pytest.raises(RunError, match="4 clips of 2 files then, 3 of 2 now") as caught:
        train(fewer, run)
    assert "Restore the data, or start a new run in another folder" in str(caught.value)
    renamed = replace(data, class_names=("other", *data.class_names[1:]))
    with pytest.raises(RunError, match=r"the data has changed .* but other classes"):
        train(renamed, run)
    turned = replace(data, records=data.records[::-1])
    with pytest.raises(
        RunError, match="as many clips of as many files, but other paths, labels, spans or another order"
    ):
        train(turned, run)
    assert contents(run) == before
    assert "going on at step 1" in train(data, run) or "finished" in train(data, run)


def test_other_clips_to_evaluate_are_said_once(data: Manifest, tmp_path: Path) -> None:
    train(replace(data, whole_digest="of some test clips"), tmp_path / "run")
    others = replace(data, whole_digest="of other test clips")
    said = train(others, tmp_path / "run")
    assert "the data has changed since the last start, in clips that are not trained on: evaluations from here" in said
    assert "has changed" in RunFolder(tmp_path / "run").log.read_text()
    assert "has changed" not in train(others, tmp_path / "run")


def test_the_best_weights_are_not_chosen_across_two_sets_of_clips(data: Manifest, tmp_path: Path) -> None:
    out = tmp_path / "run"
    settings = [*SMALL, "run.evaluate_every_epochs=1", "optim.epochs=2"]
    config = override(get_recipe("demo").finetune, settings)

    def tune(test_clips: str) -> None:
        part = replace(data, records=data.records[:2] + two, whole_digest=test_clips)
        run_finetuning(config, part, out, say=lambda line: None, on_epoch=lambda *_: {"top1": 0.5})

    two = tuple(r for r in load_data("bundled").split("train").records if r.label != data.records[0].label)[:2]
    tune("of some test clips")
    before = contents(out)
    with pytest.raises(RunError, match="its best weights so far were chosen by such clips") as caught:
        tune("of other test clips")
    assert "move weights-best.safetensors and weights-best.json away" in str(caught.value)
    assert contents(out) == before
    for file in out.glob("weights-best.*"):
        file.unlink()
    tune("of other test clips")


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (2, "states of format 2, and this version of EVEREST reads format 1: go on with the version that wrote them"),
        (None, "states of format 0, .* an earlier version wrote them, .* everest finetune --init"),
    ],
)
def test_states_of_another_format_are_refused(data: Manifest, run: Path, found: int | None, message: str) -> None:
    """The first states did not say: other random numbers would follow."""
    newest = latest_state(run / "checkpoints")
    assert newest is not None
    state = torch.load(newest, weights_only=True)
    assert state.pop("format_version") == 1
    torch.save(state if found is None else state | {"format_version": found}, newest)
    before = contents(run / "checkpoints")
    with pytest.raises(RunError, match=message):
        train(data, run)
    assert contents(run / "checkpoints") == before


def test_a_record_of_the_data_that_cannot_be_read_is_not_passed_over(data: Manifest, run: Path) -> None:
    (run / "data.json").write_text("{")
    with pytest.raises(RunError, match=r"data\.json cannot be read, so whether the data is the same is not known"):
        train(data, run)


def test_data_may_change_as_long_as_nothing_was_learnt(data: Manifest, run: Path) -> None:
    for path in [*run.glob("checkpoints/*"), run / "weights.safetensors"]:
        path.unlink()
    train(replace(data, records=data.records[:3]), run)
    assert json.loads((run / "data.json").read_text())["num_clips"] == 3


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [
        ({"torch": "2.12.1"}, {"torch": "2.13.0+cpu"}, ["torch 2.12.1 -> 2.13.0+cpu"]),
        (
            {"everest": "0.1.0", "av": "18.1"},
            {"everest": "0.1.1", "av": "18.2"},
            ["everest 0.1.0 -> 0.1.1", "av 18.1 -> 18.2"],
        ),
        (
            {"accelerate": "1.1.0", "kornia": "0.7", "numpy": "1.26.4"},
            {"accelerate": "1.2.0", "kornia": "0.9", "numpy": "2.4.0"},
            ["accelerate 1.1.0 -> 1.2.0", "kornia 0.7 -> 0.9", "numpy 1.26.4 -> 2.4.0"],
        ),
        ({"torch": "2.13.0", "rich": "13.0"}, {"torch": "2.13.1+cu130", "rich": "14.0"}, []),
        ({"torch": None}, {"torch": "2.13.0"}, []),
        ({}, {"everest": "0.1.0"}, []),
    ],
)
def test_only_versions_that_may_change_results_are_named(before: Any, now: Any, expected: list[str]) -> None:
    assert changed_versions(before, now) == expected


def test_another_version_is_said_and_written_down(data: Manifest, run: Path) -> None:
    file = RunFolder(run).environment
    starts = json.loads(file.read_text())
    now = starts[0]["packages"]["torch"]
    starts[0]["packages"]["torch"] = "1.9.0"
    file.write_text(json.dumps(starts))
    said = train(data, run)
    line = f"other versions than at the last start: torch 1.9.0 -> {now}; from here on results may differ"
    assert line in said
    assert line in RunFolder(run).log.read_text()
    assert line not in train(data, run)


@pytest.mark.parametrize(
    ("then", "expected"),
    [
        ({"commit": "ab" * 20, "dirty": False}, "everest's source ababababab -> cdcdcdcdcd with changes; from here on"),
        ({"commit": "cd" * 20, "dirty": False}, "everest's source cdcdcdcdcd -> cdcdcdcdcd with changes; from here on"),
        ({"commit": "cd" * 20, "dirty": True}, ""),
        (None, ""),
    ],
)
def test_another_commit_of_the_source_is_said(tmp_path: Path, then: dict[str, Any] | None, expected: str) -> None:
    starts = [{"everest_git": then}, {"everest_git": {"commit": "cd" * 20, "dirty": True}}]
    (tmp_path / "environment.json").write_text(json.dumps(starts))
    lines = since_last_start(RunFolder(tmp_path))
    assert bool(lines) == bool(expected)
    assert expected in " ".join(lines)


def test_an_end_without_a_word_is_said_once(data: Manifest, run: Path) -> None:
    Heart(run, 5).beat(3, lambda: ["a.mp4"])
    said = train(data, run)
    assert "the last start ended without a word: rank 5 on " in said
    assert "at step 3 while it worked on a.mp4" in said
    assert "without a word" not in train(data, run)


def test_a_run_keeps_the_weights_that_it_began_with(data: Manifest, run: Path, tmp_path: Path) -> None:
    config = get_recipe("demo").finetune
    assert config is not None
    config = override(config, SMALL)
    said: list[str] = []

    def start(out: Path, init: Path | None) -> dict[str, Any]:
        said.clear()
        run_finetuning(config, data, out, init=init, resume="auto", say=said.append)
        found = json.loads((out / "data.json").read_text())["start"]
        return found if isinstance(found, dict) else {}

    tuned, fresh, elsewhere = tmp_path / "tuned", tmp_path / "fresh", tmp_path / "elsewhere.safetensors"
    began = start(tuned, run)
    assert began["checkpoint"] == str(run)
    assert start(tuned, None) == began
    assert f"encoder from {run} at the first start" in said
    assert "encoder from fresh weights" not in said
    elsewhere.write_bytes((run / "weights.safetensors").read_bytes())
    assert start(tuned, elsewhere)["digest"] == began["digest"]  # the same, moved
    train(data, tmp_path / "other", "run.seed=1")
    assert start(fresh, None) == {}
    for out, kept in ((tuned, f"the weights of {elsewhere}"), (fresh, "fresh weights")):
        before = contents(out)
        with pytest.raises(RunError, match=f"this run began with {kept}, so it cannot go on .* leave --init out"):
            start(out, tmp_path / "other")
        assert contents(out) == before
    elsewhere.write_bytes((tmp_path / "other" / "weights.safetensors").read_bytes())
    with pytest.raises(RunError, match="which holds others now"):
        start(tuned, elsewhere)
