"""A pass that is recorded gives the losses and gradients of one that is not, whatever is drawn for its clips."""

from typing import Any

import pytest
import torch
from graphs_made_up import record_anywhere
from torch import nn

from everest.bench.described import describe_task
from everest.bench.made_up import moving_clips
from everest.config import (
    AugmentConfig,
    FinetuneConfig,
    FrameSelectionConfig,
    OptimConfig,
    RunConfig,
    num_sampled_frames,
)
from everest.datasets import Batch
from everest.draws import ClipDraws, seed_of_step, seeds_of_clips
from everest.errors import ConfigError
from everest.models import build_classifier, build_masked_model
from everest.objectives import build_objective
from everest.training.blocks import compile_blocks
from everest.training.engine import Engine
from everest.training.losses import finetuning_loss, pretraining_loss
from everest.training.passes import LossFunction, PlainPass, RecordedPass

NUM_STEPS = 3


def engine(precision: str = "float32", device: str = "cpu") -> Engine:
    return Engine.start(RunConfig(device=device, precision=precision))


def pretraining(
    selection: str, device: str = "cpu", *, scoring: str = "auto", frame_selection: bool = False
) -> tuple[nn.Module, LossFunction, torch.Tensor]:
    info = describe_task("tiny", "pretrain", selection, num_frames=4, height=32, width=32, scoring=scoring)
    if frame_selection:
        info = info.model_copy(update={"frame_selection": FrameSelectionConfig(enabled=True)})
    torch.manual_seed(0)
    model = build_masked_model(info.model, info.clip, info.objective).train()
    objective = build_objective(info, model.grid, torch.device(device))
    sampled = info.model_copy(update={"clip": info.clip.model_copy(update={"num_frames": num_sampled_frames(info)})})
    return model, pretraining_loss(model, info, objective), moving_clips(4, sampled, seed=0)


def finetuning(mixing: dict[str, float]) -> tuple[nn.Module, LossFunction, torch.Tensor]:
    info = describe_task("tiny", "finetune", "rero", num_frames=4, height=32, width=32)
    info = info.model_copy(update={"model": info.model.model_copy(update={"drop_path": 0.5, "head_dropout": 0.5})})
    torch.manual_seed(0)
    model = build_classifier(info.model, info.clip, len(info.class_names)).train()
    config = FinetuneConfig(
        model=info.model, clip=info.clip, selection=info.selection, augment=AugmentConfig(**mixing), optim=OptimConfig()
    )
    return model, finetuning_loss(model, info, config), moving_clips(4, info, seed=0)


def train(kind, made, engine: Engine, num_steps: int = NUM_STEPS) -> list[torch.Tensor]:
    """A few steps of plain descent: losses, and the weights that come of them."""
    model, loss, clips = made
    model.to(engine.device)
    one_pass = kind(engine, model, loss)
    found = []
    for step in range(num_steps):
        batch = Batch(clips.roll(step, 0), torch.arange(4) % 2, torch.arange(4))
        draws = ClipDraws(seeds_of_clips(0, step, range(4)), seed_of_step(0, step), engine.device)
        found.append(one_pass(batch, draws, num_passes=1, sync=True).value.detach())
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter.data -= 0.1 * parameter.grad
                parameter.grad = None
    return [*found, *model.state_dict().values()]


def recorded(engine: Engine, model: nn.Module, loss: LossFunction) -> RecordedPass:
    return RecordedPass(engine, model, loss, record=record_anywhere)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("selection", ["rero", "tube", "random_equal"])
def test_pretraining_is_the_same(selection: str, precision: str) -> None:
    plain = train(PlainPass, pretraining(selection), engine(precision))
    assert not torch.equal(plain[0], plain[1])
    torch.testing.assert_close(train(recorded, pretraining(selection), engine(precision)), plain, rtol=0, atol=0)


@pytest.mark.parametrize(
    "mixing", [{"mixup_alpha": 0.0, "cutmix_alpha": 0.0}, {"mixup_alpha": 0.8, "cutmix_alpha": 1.0}]
)
def test_finetuning_is_the_same_with_what_is_left_out_at_random(mixing: dict[str, float]) -> None:
    plain = train(PlainPass, finetuning(mixing), engine())
    torch.testing.assert_close(train(recorded, finetuning(mixing), engine()), plain, rtol=0, atol=0)


ON_A_GPU = {
    "pre-training": lambda: pretraining("rero", "cuda"),
    "pixels score": lambda: pretraining("rero", "cuda", scoring="pixels"),
    "projections score": lambda: pretraining("rero", "cuda", scoring="random_projection"),
    "frames are chosen": lambda: pretraining("rero", "cuda", frame_selection=True),
    "fine-tuning": lambda: finetuning({"mixup_alpha": 0.0, "cutmix_alpha": 0.0}),
    "bytes and blends": lambda: finetuning({"mixup_alpha": 0.8, "cutmix_alpha": 1.0}),  # two recordings
}


@pytest.mark.gpu
@pytest.mark.parametrize("is_compiled", [False, True])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("what", ON_A_GPU)
def test_a_gpu_replays_what_it_computes(what: str, precision: str, is_compiled: bool) -> None:
    """Over many steps: a gradient that is not in the graph, or one from the step before, would add up."""
    found = []
    for kind in (PlainPass, RecordedPass):
        made = ON_A_GPU[what]()
        if is_compiled:
            torch.compiler.reset()
            compile_blocks(made[0])
        found.append(train(kind, made, engine(precision, "cuda"), num_steps=10))
    torch.testing.assert_close(found[1], found[0], rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("options", [{"scoring": "pixels"}, {"frame_selection": True}])
def test_pretraining_is_the_same_however_tokens_and_frames_are_chosen(options: dict[str, Any]) -> None:
    plain = train(PlainPass, pretraining("rero", **options), engine())
    torch.testing.assert_close(train(recorded, pretraining("rero", **options), engine()), plain, rtol=0, atol=0)


def test_recording_is_for_one_gpu_and_one_pass() -> None:
    model, loss, _ = pretraining("rero")
    with pytest.raises(ConfigError, match="needs an NVIDIA GPU, this run is on cpu"):
        RecordedPass(engine(), model, loss)
    with pytest.raises(ConfigError, match="a loss in two parts"):
        RecordedPass(engine(), model, loss.__call__, record=record_anywhere)
    with pytest.raises(
        ConfigError, match=r"in one pass, given: 2\. Raise data\.batch_size to optim\.global_batch_size"
    ):
        RecordedPass(engine(), model, loss, num_passes=2, record=record_anywhere)
