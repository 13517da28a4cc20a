import pytest
import torch
from torch import Tensor, nn

from everest.bench.described import describe_task
from everest.bench.made_up import moving_clips
from everest.bench.plain import build_plain, plain_choice, plain_targets
from everest.bench.tasks import build_model
from everest.config import CheckpointInfo, FrameSelectionConfig
from everest.errors import ConfigError
from everest.models import ModelInput, select_input
from everest.models.weights import load_state
from everest.objectives import pixel_loss, pixel_targets
from everest.tokens import patchify
from everest.video import normalize

CASES = [
    ("pretrain", "rero"),
    ("pretrain", "tube"),
    ("pretrain", "running_cell"),
    ("finetune", "rero"),
    ("finetune", "random"),
    ("finetune", "all"),
]


def settings(task: str, selection: str) -> CheckpointInfo:
    info = describe_task("tiny", task, selection, num_frames=8, height=64, width=48, num_classes=5)
    return info.model_copy(update={"model": info.model.model_copy(update={"drop_path": 0.0})})


def pair(info: CheckpointInfo) -> tuple[nn.Module, nn.Module, Tensor]:
    """Our model and its peer with the same weights, none of which is 0 or 1, and clips; all float64."""
    torch.manual_seed(0)
    ours, plain = build_model(info), build_plain(info)
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    load_state(plain, ours.state_dict(), source="ours", strict=True)
    return ours.double(), plain.double(), normalize(moving_clips(3, info), info.mean, info.std).double()


def chosen_by_ours(model: nn.Module, clips: Tensor, info: CheckpointInfo) -> ModelInput:
    return select_input(model.encoder, clips, info, generator=torch.Generator().manual_seed(1))


def losses(ours: nn.Module, plain: nn.Module, clips: Tensor, info: CheckpointInfo) -> tuple[Tensor, Tensor]:
    """The loss of both for the same selection."""
    given = chosen_by_ours(ours, clips, info)
    values, _ = plain(clips, lambda _: given.selection)
    predicted = ours(given.patches, given.selection)
    if info.task == "finetune":
        labels = torch.tensor([0, 1, 2])
        return tuple(nn.functional.cross_entropy(v, labels, label_smoothing=0.1) for v in (predicted, values))
    mean, std = (torch.tensor(v, dtype=torch.float64) for v in (info.mean, info.std))
    targets = pixel_targets(given.patches, given.selection.target, ours.grid, mean, std)
    plainly = plain_targets(clips, given.selection, mean, std)
    return pixel_loss(predicted, targets), nn.functional.mse_loss(values, plainly)


@pytest.mark.parametrize(("task", "selection"), CASES)
def test_loss_and_gradients_are_ours(task: str, selection: str) -> None:
    info = settings(task, selection)
    ours, plain, clips = pair(info)
    loss_of_ours, loss_of_plain = losses(ours.train(), plain.train(), clips, info)
    loss_of_ours.backward()
    loss_of_plain.backward()
    torch.testing.assert_close(loss_of_ours, loss_of_plain, rtol=1e-12, atol=0)
    theirs = {name: parameter.grad for name, parameter in plain.named_parameters()}
    assert theirs.keys() == dict(ours.named_parameters()).keys()
    for name, parameter in ours.named_parameters():
        allowed = 1e-10 * max(1e-3, float(theirs[name].abs().max()))
        assert float((parameter.grad - theirs[name]).abs().max()) <= allowed, name


@pytest.mark.parametrize(("task", "selection"), CASES)
def test_the_same_random_numbers_choose_the_same_tokens(task: str, selection: str) -> None:
    info = settings(task, selection)
    ours, plain, clips = pair(info)
    given = chosen_by_ours(ours, clips, info).selection
    _, chosen = plain(clips, plain_choice(info, torch.Generator().manual_seed(1)))
    assert torch.equal(chosen.visible, given.visible)
    assert torch.equal(chosen.target, given.target)


def test_targets_are_normalised_tubelets() -> None:
    info = settings("pretrain", "rero")
    ours, _, clips = pair(info)
    given = chosen_by_ours(ours, clips, info)
    assert torch.equal(given.patches, patchify(clips, ours.grid))
    targets = plain_targets(clips, given.selection, torch.zeros(3).double(), torch.ones(3).double())
    pixels = targets.unflatten(-1, (-1, 3))  # [B, M, S, C]
    torch.testing.assert_close(pixels.mean(dim=2), torch.zeros_like(pixels[:, :, 0]))
    torch.testing.assert_close(pixels.var(dim=2), torch.ones_like(pixels[:, :, 0]), rtol=1e-3, atol=0)


def test_drop_path_skips_branches_in_training_only() -> None:
    info = describe_task("tiny", "finetune", "rero", num_frames=4, height=32, width=32, num_classes=5)
    plain = build_plain(info)
    clips, choose = normalize(moving_clips(2, info), info.mean, info.std), plain_choice(info)
    torch.nn.init.normal_(plain.head.weight)
    first, second = (plain.train()(clips, choose)[0] for _ in range(2))
    assert not torch.equal(first, second)
    first, second = (plain.eval()(clips, choose)[0] for _ in range(2))
    assert torch.equal(first, second)


def test_frame_selection_is_refused() -> None:
    info = settings("pretrain", "rero").model_copy(update={"frame_selection": FrameSelectionConfig(enabled=True)})
    with pytest.raises(ConfigError, match="does not select frames"):
        build_plain(info)
