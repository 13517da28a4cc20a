"""The best weights stay the best, whatever happens between writing them and writing what they are."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from everest.config import CheckpointInfo, ClipConfig, ModelConfig
from everest.errors import RunError
from everest.models import Classifier, build_classifier, load_model
from everest.recipes import get_recipe
from everest.training.best import best_so_far, keep_best
from everest.training.rundir import RunFolder
from everest.training.runs import describe_checkpoint
from full_disk import no_file_above


@pytest.fixture(scope="module")
def info() -> CheckpointInfo:
    recipe = get_recipe("demo").finetune
    assert recipe is not None
    clip = ClipConfig(num_frames=4, height=32, width=32)
    small = {"model": ModelConfig(size="tiny"), "clip": clip}
    return describe_checkpoint(recipe, ("a", "b")).model_copy(update=small)


@pytest.fixture(scope="module")
def model(info: CheckpointInfo) -> Classifier:
    return build_classifier(info.model, info.clip, 2)


def mark(model: Classifier, value: float) -> Classifier:
    torch.nn.init.constant_(model.head.bias, value)
    return model


def kept(folder: RunFolder) -> tuple[float, dict[str, float]]:
    """The mark of the weights that are kept, and what the file beside them says."""
    return float(load_file(folder.best)["head.bias"][0]), json.loads(folder.best_record.read_text())


def test_only_better_weights_replace_the_best(model: Classifier, info: CheckpointInfo, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    assert best_so_far(folder) is None
    found = [
        keep_best(folder, mark(model, epoch), info, epoch=epoch, top1=top1)
        for epoch, top1 in enumerate((0.25, 0.5, 0.5, 0.25, 0.75, 0.0), start=1)
    ]
    assert found == [True, True, False, False, True, False]
    assert kept(folder) == (5.0, {"epoch": 5, "top1": 0.75})
    assert best_so_far(folder) == {"epoch": 5, "top1": 0.75}
    assert load_model(folder.best)[1] == info


def test_what_the_weights_say_of_themselves_counts(model: Classifier, info: CheckpointInfo, tmp_path: Path) -> None:
    """A process that was killed between the two files has left an old one, or none, beside the new weights."""
    folder = RunFolder(tmp_path)
    keep_best(folder, mark(model, 1), info, epoch=1, top1=0.25)
    old = folder.best_record.read_bytes()
    keep_best(folder, mark(model, 2), info, epoch=2, top1=0.75)
    folder.best_record.write_bytes(old)
    assert not keep_best(folder, mark(model, 3), info, epoch=3, top1=0.5)
    assert kept(folder) == (2.0, {"epoch": 2, "top1": 0.75})
    folder.best_record.unlink()
    assert not keep_best(folder, mark(model, 3), info, epoch=3, top1=0.5)
    assert kept(folder) == (2.0, {"epoch": 2, "top1": 0.75})


def test_damaged_weights_are_not_the_best(model: Classifier, info: CheckpointInfo, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    keep_best(folder, mark(model, 1), info, epoch=1, top1=0.75)
    folder.best.write_bytes(folder.best.read_bytes()[:100])
    assert keep_best(folder, mark(model, 2), info, epoch=2, top1=0.5)
    assert kept(folder) == (2.0, {"epoch": 2, "top1": 0.5})


def test_a_full_disk_is_said_as_of_other_files_and_the_best_before_stay(
    model: Classifier, info: CheckpointInfo, tmp_path: Path
) -> None:
    folder = RunFolder(tmp_path)
    keep_best(folder, mark(model, 1), info, epoch=1, top1=0.5)
    with no_file_above(1000), pytest.raises(RunError, match=r"weights-best.*nothing that was there before is lost"):
        keep_best(folder, mark(model, 2), info, epoch=2, top1=0.75)
    assert kept(folder) == (1.0, {"epoch": 1, "top1": 0.5})
    assert not list(tmp_path.glob(".*"))
