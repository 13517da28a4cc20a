"""What a selection costs beside all tokens: with all tokens it costs the same, with fewer less."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from everest.bench.costs import beside_all_tokens, costs_of, frame_choice_gmacs
from everest.bench.macs import count_task
from everest.config import CheckpointInfo, ClipConfig, FrameSelectionConfig, ModelConfig, SelectionConfig, Task
from everest.models import build_autoencoder


def an_info(task: Task, **selection: object) -> CheckpointInfo:
    return CheckpointInfo(
        task=task,
        model=ModelConfig(size="tiny"),
        clip=ClipConfig(num_frames=4, height=64, width=64),
        selection=SelectionConfig.model_validate({"keep_ratio": 0.5, "encode_ratio": 0.25} | selection),
        class_names=("a", "b", "c") if task == "finetune" else (),
    )


@pytest.mark.parametrize("task", ["pretrain", "finetune"])
def test_fewer_tokens_cost_less_and_all_cost_what_is_counted(task: Task) -> None:
    this, whole = beside_all_tokens(an_info(task))
    assert this.num_encoded + this.num_predicted == this.num_tokens // 2
    assert whole.num_encoded + whole.num_predicted == whole.num_tokens == this.num_tokens
    assert this.gmacs < whole.gmacs
    assert this.gmacs_training < whole.gmacs_training
    assert this.gmacs == count_task(an_info(task))["gmacs"]
    costs = costs_of(an_info(task), ["rero", "rlt"], "a ViT")
    assert list(costs) == ["rero"]  # of others the cost is that of a clip
    assert costs["rero"].share == this.gmacs / whole.gmacs


@pytest.mark.parametrize("task", ["pretrain", "finetune"])
def test_choosing_frames_costs_an_embedding_of_each_candidate(task: Task) -> None:
    info = an_info(task)
    with_frames = info.model_copy(update={"frame_selection": FrameSelectionConfig(enabled=True, alpha=1.5)})
    one_embedding = 3 * 16 * (2 * 16 * 16 * 3) * 192 / 1e9  # slots of six frames, spots, pixels, width of ViT-tiny
    assert frame_choice_gmacs(info) == 0
    assert frame_choice_gmacs(with_frames) == pytest.approx(one_embedding)
    plain, chosen = (costs_of(each, ["rero"], "a ViT")["rero"] for each in (info, with_frames))
    assert chosen.gmacs - plain.gmacs == pytest.approx(one_embedding)
    runs = [beside_all_tokens(each) for each in (info, with_frames)]
    assert runs[1][0].gmacs - runs[0][0].gmacs == pytest.approx(one_embedding)
    assert runs[1][1] == runs[0][1]


SCORED = [
    {},
    {"scoring": "bfloat16"},
    {"scoring": "pixels"},
    {"scoring": "random_projection"},
    {"distance": "l1"},
    {"distance": "cosine"},
    {"camera": "moving"},
    {"camera": "moving", "distance": "cosine"},
    {"camera": "moving", "scoring": "bfloat16"},
]


@pytest.mark.parametrize("selection", SCORED)
def test_choosing_frames_costs_what_scoring_them_multiplies(selection: dict[str, object]) -> None:
    info = an_info("finetune", **selection)
    info = info.model_copy(update={"frame_selection": FrameSelectionConfig(enabled=True, alpha=1.5)})
    encoder = build_autoencoder(info.model, info.clip).encoder
    with FlopCounterMode(display=False) as counter:
        encoder.select_frames(torch.rand(1, 3, 6, 64, 64), info.frame_selection, info.selection)
    assert frame_choice_gmacs(info) == pytest.approx(counter.get_total_flops() / 2e9)


def test_a_run_with_all_tokens_stands_alone() -> None:
    (only,) = beside_all_tokens(an_info("finetune", method="all", keep_ratio=1.0))
    assert only.num_encoded == only.num_tokens


def test_what_depends_on_the_clip_is_not_counted() -> None:
    assert beside_all_tokens(an_info("finetune", method="rlt")) == ()
    assert beside_all_tokens(an_info("pretrain", method="adaptive")) == ()
    huge = an_info("finetune").model_copy(update={"clip": ClipConfig(num_frames=1000, height=16000, width=16000)})
    assert beside_all_tokens(huge) == ()


def test_a_head_of_unknown_classes_costs_next_to_nothing() -> None:
    known, unknown = an_info("finetune"), an_info("finetune").model_copy(update={"class_names": ()})
    assert beside_all_tokens(unknown)[0].gmacs == pytest.approx(beside_all_tokens(known)[0].gmacs, rel=1e-3)
