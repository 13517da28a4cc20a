"""Targets and loss of Masked Motion Encoding."""

import math

import pytest
import torch
from torch import Tensor

from everest.config import CheckpointInfo, ClipConfig, ModelConfig, ObjectiveConfig, SelectionConfig
from everest.datasets import Batch
from everest.errors import ConfigError, SelectionError
from everest.models import ModelInput, Prediction
from everest.objectives import MotionObjective, build_objective, hog_targets, trajectory_targets
from everest.tokens import FrameSelection, TokenGrid, TokenSelection, patchify

GRID = TokenGrid(num_slots=2, num_rows=2, num_columns=2, tubelet_size=2, patch_size=16)
TARGET = torch.tensor([[1, 4, 7], [0, 2, 5]])
NAN = float("nan")


def motion_of(right: float, down: float, tokens: int = 8) -> Tensor:
    """Every point of two clips takes the same step: [2, N, 32]."""
    return torch.tensor([right, down]).repeat(2, tokens, 16)


def test_even_motion_has_targets_of_length_one() -> None:
    targets, weight = trajectory_targets(motion_of(3.0, -4.0).half(), TARGET, GRID)
    assert targets.shape == weight.shape == (2, 3, 32)
    torch.testing.assert_close(targets, torch.tensor([0.6, -0.8]).repeat(2, 3, 16))
    assert bool((weight == 1).all())


def test_stillness_is_zero_and_little_motion_is_not_blown_up() -> None:
    assert not bool(trajectory_targets(motion_of(0.0, 0.0), TARGET, GRID)[0].any())
    targets, _ = trajectory_targets(motion_of(0.1, 0.0), TARGET, GRID)  # of a quarter of a pixel
    torch.testing.assert_close(targets, torch.tensor([0.4, 0.0]).repeat(2, 3, 16))


def test_the_deviation_is_that_of_the_steps_that_were_tracked() -> None:
    motion = torch.randn(2, 8, 32, generator=torch.Generator().manual_seed(0)) * 5
    motion.reshape(2, 8, 4, 4, 2)[:, :, 1, 2:] = NAN  # a point that is lost after two steps
    targets, weight = trajectory_targets(motion, TARGET, GRID)
    for clip in range(2):
        for place, token in enumerate(TARGET[clip].tolist()):
            steps = [v for v in motion[clip, token].reshape(16, 2).tolist() if not math.isnan(v[0])]
            assert len(steps) == 14
            deviation = math.sqrt(sum(x * x + y * y for x, y in steps) / len(steps))
            expected = (motion[clip, token] / deviation).nan_to_num(0.0)
            torch.testing.assert_close(targets[clip, place], expected)
            assert weight[clip, place].reshape(4, 4, 2)[1].tolist() == [[1, 1], [1, 1], [0, 0], [0, 0]]


def test_chosen_pairs_of_frames_bring_their_motion() -> None:
    motion = torch.arange(5.0).repeat_interleave(4)[None, :, None].expand(2, 20, 32) + 1  # five candidates
    motion = motion * torch.tensor([1.0, 0.0] * 16)
    pairs = torch.tensor([[1, 4], [0, 2]])
    chosen = FrameSelection(pairs, torch.zeros(2, 5))
    indices = torch.stack([torch.arange(20.0)] * 2)[..., None].expand(2, 20, 32)
    steps, _ = trajectory_targets(indices * 100, TARGET, GRID, chosen)  # the numbers of the tokens
    assert bool(steps[0, 0].eq(steps[0, 0, 0]).all())
    slots = pairs.gather(1, TARGET // 4)
    wanted = motion.gather(1, (slots * 4 + TARGET % 4)[..., None].expand(-1, -1, 32))
    found, _ = trajectory_targets(wanted, torch.arange(3).expand(2, 3), GRID)
    torch.testing.assert_close(trajectory_targets(motion, TARGET, GRID, chosen)[0], found)
    spoilt = motion.clone()
    unused = torch.ones(2, 20, dtype=torch.bool).scatter(1, slots * 4 + TARGET % 4, False)
    spoilt[unused] = NAN
    assert bool(trajectory_targets(spoilt, TARGET, GRID, chosen)[1].all())


def case(motion: Tensor | None) -> tuple[ModelInput, Batch]:
    clips = torch.rand(2, 3, *GRID.clip_shape, generator=torch.Generator().manual_seed(0))
    selection = TokenSelection(torch.tensor([[3], [3]]), TARGET, GRID)
    numbers = torch.zeros(2, dtype=torch.int64)
    return ModelInput(patchify(clips, GRID), selection), Batch(clips, numbers, numbers, motion=motion)


def test_the_loss_is_the_average_of_both_errors() -> None:
    motion = motion_of(2.0, 0.0)
    motion[1, :, :16] = NAN  # of the second clip two points of four are lost
    objective = MotionObjective(GRID)
    chosen, batch = case(motion)
    targets = objective.targets(chosen, batch)
    assert torch.equal(targets.histograms, hog_targets(chosen.patches, TARGET, GRID))
    values = torch.cat([targets.histograms, targets.trajectories], dim=-1)
    assert float(objective.loss(Prediction(values, chosen.selection), targets)) == 0.0
    values[0, 0, 0] += 3.0  # a histogram
    values[1, 0, 108] += 100.0  # a point that was lost
    values[1, 0, 108 + 31] += 2.0  # one that was not
    expected = (9 / (2 * 3 * 108) + 4 / (3 * 16) / 2) / 2
    assert float(objective.loss(Prediction(values, chosen.selection), targets)) == pytest.approx(expected)


def test_clips_count_alike_however_many_points_are_lost() -> None:
    """So a step does not depend on how its clips are divided over passes and devices."""
    motion = torch.randn(2, 8, 32, generator=torch.Generator().manual_seed(0)) * 5
    motion[0, :, :30] = NAN
    objective = MotionObjective(GRID)
    chosen, batch = case(motion)
    values = torch.rand(2, 3, 140, generator=torch.Generator().manual_seed(1))
    whole = objective.loss(Prediction(values, chosen.selection), objective.targets(chosen, batch))
    parts = []
    for clip in range(2):
        one = slice(clip, clip + 1)
        selection = TokenSelection(chosen.selection.visible[one], TARGET[one], GRID)
        part = ModelInput(chosen.patches[one], selection)  # type: ignore[index]
        number = torch.zeros(1, dtype=torch.int64)
        targets = objective.targets(part, Batch(batch.frames[one], number, number, motion=motion[one]))
        parts.append(objective.loss(Prediction(values[one], selection), targets))
    torch.testing.assert_close(whole, torch.stack(parts).mean())


def test_a_clip_without_any_tracked_point_has_a_loss() -> None:
    objective = MotionObjective(GRID)
    chosen, batch = case(torch.full((2, 8, 32), NAN))
    values = torch.rand(2, 3, 140, requires_grad=True)
    loss = objective.loss(Prediction(values, chosen.selection), objective.targets(chosen, batch))
    loss.backward()
    assert bool(torch.isfinite(loss.detach()))
    assert values.grad is not None
    assert not bool(values.grad[..., 108:].any())
    assert bool(values.grad[..., :108].all())


def test_half_precision_is_raised_for_the_loss() -> None:
    objective = MotionObjective(GRID)
    chosen, batch = case(motion_of(2.0, 0.0).half())
    targets = objective.targets(chosen, batch)
    loss = objective.loss(Prediction(torch.rand(2, 3, 140).bfloat16(), chosen.selection), targets)
    assert loss.dtype == torch.float32


def test_a_batch_without_trajectories_is_refused() -> None:
    chosen, batch = case(None)
    with pytest.raises(ConfigError, match="this batch has none"):
        MotionObjective(GRID).targets(chosen, batch)


def test_a_prediction_of_something_else_is_refused() -> None:
    objective = MotionObjective(GRID)
    chosen, batch = case(motion_of(1.0, 1.0))
    targets = objective.targets(chosen, batch)
    with pytest.raises(SelectionError, match="does not fit"):
        objective.loss(Prediction(torch.rand(2, 3, 1536), chosen.selection), targets)


def test_the_objective_is_built_by_name() -> None:
    info = CheckpointInfo(
        task="pretrain",
        model=ModelConfig(size="tiny"),
        clip=ClipConfig(num_frames=4, height=32, width=32),
        selection=SelectionConfig(keep_ratio=0.5, encode_ratio=0.25),
        objective=ObjectiveConfig(name="mme"),
    )
    assert isinstance(build_objective(info, GRID, torch.device("cpu")), MotionObjective)
    with pytest.raises(ConfigError, match="no multiple of 8"):
        build_objective(info, TokenGrid(2, 2, 2, 2, 12), torch.device("cpu"))
