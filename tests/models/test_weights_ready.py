"""The weights that come with the program."""

import json
import sys
from pathlib import Path

import pytest

import everest
from everest.errors import WeightsError
from everest.models import Classifier, load_model
from everest.models.autoencoder import MaskedAutoencoder
from everest.models.weights import find_weights
from everest.models.weights.ready import READY_MADE, locate

sys.path.append(str(Path(__file__).parents[2] / "experiments"))
from results import from_hex

ROOT = Path(__file__).parents[2]
RESULTS = [
    json.loads(line) for line in (ROOT / "experiments" / "results" / "ready_made.jsonl").read_text().splitlines()
]
MOST_MEGABYTES = 4


@pytest.mark.parametrize("name", READY_MADE)
def test_a_name_is_found_from_anywhere(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = locate(Path(name))
    assert path == find_weights(Path(name))
    assert path.stat().st_size < MOST_MEGABYTES * 1e6


def test_what_the_user_called_so_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bundled").mkdir()
    assert locate(Path("bundled")) == Path("bundled")
    with pytest.raises(WeightsError, match="bundled: expected a run folder that holds"):
        load_model(Path("bundled"))


def test_other_names_are_left_alone_and_the_right_ones_told() -> None:
    assert locate(Path("bundle")) == Path("bundle")
    with pytest.raises(WeightsError, match="bundle: expected a run folder or a weights file, or bundled or"):
        load_model(Path("bundle"))


def test_one_is_pre_trained_and_one_classifies() -> None:
    pretrained, info = load_model(Path("bundled"))
    assert isinstance(pretrained, MaskedAutoencoder)
    assert info.model.size == "nano"
    classifier, found = load_model(Path("bundled-falls"))
    assert isinstance(classifier, Classifier)
    assert found.class_names == ("bend", "fall", "lie", "sit", "stand_or_walk")
    assert (found.clip, found.model.patch_size) == (info.clip, info.model.patch_size)


def test_the_classifier_is_as_accurate_as_its_card_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.json").write_text('{"of": "another program"}')  # no business of ours
    found = everest.evaluate("bundled-falls", "bundled", views="3x1")
    right = [int(clip.probabilities.argmax() == clip.label) for clip in found.predictions]
    told = f"{100 * found.top1:.1f} % ({sum(right)} of {len(right)})"
    assert f"| `bundled-falls` | {told} |" in (ROOT / "docs" / "ready-made.md").read_text()
    assert f"right in {sum(right)} of these {len(right)}\nwindows" in (ROOT / "README.md").read_text()
    (first,) = (row for row in RESULTS if (row["data"], row["init"], row["seed"]) == ("falls", "pretrained", 0))
    assert right == from_hex(first["right"], first["num_test"])


def test_it_is_a_start_for_the_recipe_of_its_size(tmp_path: Path) -> None:
    settings = ["optim.epochs=1", "optim.warmup_epochs=0", "run.evaluate_every_epochs=0", "data.num_workers=0"]
    settings += ["run.report=false", "run.tensorboard=false"]
    run = everest.finetune(recipe="own-nano", data="bundled", out=tmp_path, init="bundled", settings=settings)
    assert run.evaluation is not None
    assert "encoder from bundled" in (tmp_path / "log.txt").read_text()
