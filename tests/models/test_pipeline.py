"""From clips to model input and to probabilities.

Shapes: B clips, T frames, T' candidate frames, N tokens, K classes.
"""

import pytest
import torch
from small_models import CLASS_NAMES, FINETUNE, SMALL_CLIP, tiny_info
from torch import Tensor

from everest.config import CheckpointInfo, FrameSelectionConfig, SelectionConfig, num_sampled_frames
from everest.errors import SelectionError
from everest.models import (
    Classifier,
    build_autoencoder,
    build_classifier,
    classify_clips,
    select_input,
)
from everest.tokens import patchify, take_pairs
from everest.video import normalize

WITH_FRAMES = FrameSelectionConfig(enabled=True, alpha=2.0)


def tiny_classifier() -> Classifier:
    torch.manual_seed(0)
    info = tiny_info("finetune")
    model = build_classifier(info.model, info.clip, len(CLASS_NAMES)).eval()
    with torch.no_grad():
        model.head.weight.mul_(1e4)  # so that classes differ
    return model


def u8_clips(num_frames: int = 4, batch: int = 3) -> Tensor:
    shape = (batch, 3, num_frames, SMALL_CLIP.height, SMALL_CLIP.width)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def changed(info: CheckpointInfo, **values: object) -> CheckpointInfo:
    return info.model_copy(update=values)


def test_more_frames_are_sampled_where_frames_are_selected() -> None:
    info = tiny_info("pretrain")
    assert num_sampled_frames(info) == 4
    assert num_sampled_frames(changed(info, frame_selection=WITH_FRAMES)) == 8


def test_input_is_cut_and_selected() -> None:
    info, clips = tiny_info("pretrain"), normalize(u8_clips(), (0.5,) * 3, (0.25,) * 3)
    encoder = build_autoencoder(info.model, info.clip).encoder
    chosen = select_input(encoder, clips, info)
    assert torch.equal(chosen.patches, patchify(clips, encoder.grid))
    assert chosen.frames is None
    assert chosen.selection.visible.shape == (3, 1)  # a fifth of 8, rounded down
    assert chosen.selection.target.shape == (3, 3)
    assert repr(chosen).startswith("ModelInput(patches [3, 8, 1536], TokenSelection(visible [3, 1], target [3, 3]")


@pytest.mark.parametrize(("task", "is_random"), [("pretrain", True), ("finetune", False)])
def test_frames_are_drawn_in_pretraining_only(task: str, is_random: bool) -> None:
    info = changed(tiny_info(task), frame_selection=WITH_FRAMES)
    clips = normalize(u8_clips(8, batch=16), info.mean, info.std)
    encoder = tiny_classifier().encoder
    first, second = (
        select_input(encoder, clips, info, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1)
    )
    assert first.frames is not None
    assert second.frames is not None
    assert first.frames.counts.shape == (16, 4)
    assert torch.equal(first.frames.pairs, second.frames.pairs) is not is_random
    assert torch.equal(first.patches, patchify(take_pairs(clips, first.frames.pairs, 2), encoder.grid))


@pytest.mark.parametrize("method", ["rero", "random", "random_equal", "tube", "running_cell", "all"])
@pytest.mark.parametrize("frame_selection", [FrameSelectionConfig(), WITH_FRAMES])
def test_the_same_clips_get_the_same_probabilities(method: str, frame_selection: FrameSelectionConfig) -> None:
    selection = SelectionConfig(method=method, keep_ratio=0.5, encode_ratio=0.5)  # type: ignore[arg-type]
    info = changed(tiny_info("finetune"), selection=selection, frame_selection=frame_selection)
    model, clips = tiny_classifier(), u8_clips(num_sampled_frames(info))
    first = classify_clips(model, clips, info)
    torch.rand(7)  # PyTorch's own random state has no say
    assert torch.equal(classify_clips(model, clips, info), first)
    assert first.shape == (3, len(CLASS_NAMES))
    assert first.dtype == torch.float32
    assert not first.requires_grad
    torch.testing.assert_close(first.sum(dim=1), torch.ones(3))
    assert len(torch.unique(first)) > 3
    for clip in range(3):  # in any batch
        torch.testing.assert_close(classify_clips(model, clips[clip : clip + 1], info)[0], first[clip])


@pytest.mark.parametrize("method", ["random", "random_equal", "tube", "running_cell"])
def test_the_seed_says_which_tokens_a_control_draws(method: str) -> None:
    model, clips = tiny_classifier(), u8_clips()

    def probabilities(seed: int) -> torch.Tensor:
        selection = SelectionConfig(method=method, keep_ratio=0.4, encode_ratio=0.4, seed=seed)  # type: ignore[arg-type]
        return classify_clips(model, clips, changed(tiny_info("finetune"), selection=selection))

    assert torch.equal(probabilities(1), probabilities(1))
    assert any(not torch.equal(probabilities(1), probabilities(seed)) for seed in range(2, 12))


def test_probabilities_are_those_of_the_model() -> None:
    info, model, clips = tiny_info("finetune"), tiny_classifier(), u8_clips()
    patches = patchify(normalize(clips, info.mean, info.std), model.grid)
    logits = model(patches, model.encoder.select(patches, FINETUNE, "finetune"))
    torch.testing.assert_close(classify_clips(model, clips, info), logits.softmax(dim=1).detach())


@pytest.mark.parametrize("method", ["rero", "random"])
def test_classifying_leaves_the_random_state_alone(method: str) -> None:
    info = changed(tiny_info("finetune"), selection=FINETUNE.model_copy(update={"method": method}))
    model, clips = tiny_classifier(), u8_clips()
    state = torch.get_rng_state()
    classify_clips(model, clips, info)
    assert torch.equal(torch.get_rng_state(), state)


def test_another_number_of_frames_is_refused() -> None:
    info = tiny_info("finetune")
    with pytest.raises(SelectionError, match="given: "):
        classify_clips(tiny_classifier(), u8_clips(6), info)
