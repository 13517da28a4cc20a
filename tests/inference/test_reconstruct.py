from dataclasses import replace

import pytest
import torch
from torch import Tensor

from everest.config import (
    CheckpointInfo,
    ClipConfig,
    EvaluationConfig,
    FrameSelectionConfig,
    ModelConfig,
    ObjectiveConfig,
    SelectionConfig,
    num_sampled_frames,
)
from everest.datasets import ViewClips, load_data
from everest.errors import DataError, SelectionError, WeightsError
from everest.inference import Reconstruction, assemble, reconstruct
from everest.inference.reconstruct import nearest_visible
from everest.models import (
    MaskedAutoencoder,
    ModelInput,
    Prediction,
    build_autoencoder,
    build_masked_model,
    select_input,
)
from everest.objectives import pixel_targets
from everest.tokens import TokenGrid, TokenSelection, gather_tokens, patchify, take_pairs
from everest.video import normalize

GREY = 0.5


def an_info(*, frames: bool = False, **selection: object) -> CheckpointInfo:
    return CheckpointInfo(
        task="pretrain",
        model=ModelConfig(size="tiny", decoder_depth=1, drop_path=0.2),
        clip=ClipConfig(num_frames=8, height=32, width=48, fps=7.5),
        selection=SelectionConfig.model_validate({"keep_ratio": 0.5, "encode_ratio": 0.2, **selection}),
        frame_selection=FrameSelectionConfig(enabled=frames),
    )


def some_clips(info: CheckpointInfo) -> Tensor:
    views = EvaluationConfig(num_segments=1, num_crops=1)
    bundled = load_data("bundled").records[::12][:3]
    clips = ViewClips(bundled, info.clip, views, num_sampled_frames=num_sampled_frames(info))
    return torch.cat([clips[i].frames for i in range(3)])  # [B,C,T,H,W]


def a_model(info: CheckpointInfo) -> MaskedAutoencoder:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return build_autoencoder(info.model, info.clip).eval()


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


INFO = an_info()
CLIPS = some_clips(INFO)
MODEL = a_model(INFO)


def chosen_input() -> ModelInput:
    return select_input(MODEL.encoder, normalize(CLIPS, INFO.mean, INFO.std), INFO, generator=seeded())


def perfect(chosen: ModelInput) -> Reconstruction:
    mean, std = torch.tensor(INFO.mean), torch.tensor(INFO.std)
    targets = pixel_targets(chosen.patches, chosen.selection.target, chosen.selection.grid, mean, std)
    return assemble(chosen, Prediction(targets, chosen.selection), INFO)


def tokens_of(clips: Tensor, tokens: Tensor) -> Tensor:
    return gather_tokens(patchify(clips, MODEL.grid), tokens)


def others(selection: TokenSelection) -> Tensor:
    """Numbers of the tokens that are neither visible nor targets, [B, K]."""
    used = torch.cat([selection.visible, selection.target], dim=1)
    everything = range(selection.grid.num_tokens)
    return torch.tensor([[n for n in everything if n not in set(row)] for row in used.tolist()])


def test_the_original_is_the_clip() -> None:
    found = reconstruct(MODEL, CLIPS, INFO, seeded())
    torch.testing.assert_close(found.original, CLIPS.float() / 255, atol=1e-5, rtol=0)
    assert found.frames is None
    assert repr(found).startswith("Reconstruction([3, 3, 8, 32, 48], TokenSelection(visible [3, 4], target [3, 8]")


def test_every_picture_shows_what_it_says() -> None:
    found = reconstruct(MODEL, CLIPS, INFO, seeded())
    selection = found.selection
    assert selection.visible.shape == (3, 4)
    assert selection.target.shape == (3, 8)
    assert others(selection).shape == (3, 12)
    for picture in (found.encoded_only, found.with_true_statistics, found.with_visible_statistics):
        assert tokens_of(picture, selection.visible).equal(tokens_of(found.original, selection.visible))
        assert (tokens_of(picture, others(selection)) == GREY).all()
        assert picture.dtype == torch.float32
        assert 0 <= picture.min() <= picture.max() <= 1
    assert (tokens_of(found.encoded_only, selection.target) == GREY).all()
    for picture in (found.with_true_statistics, found.with_visible_statistics):
        shown = tokens_of(picture, selection.target)
        assert shown.std() > 1e-3
        assert not shown.equal(tokens_of(found.original, selection.target))


def test_a_perfect_prediction_with_true_statistics_is_the_original() -> None:
    found = perfect(chosen_input())
    target = found.selection.target
    torch.testing.assert_close(
        tokens_of(found.with_true_statistics, target), tokens_of(found.original, target), atol=1e-5, rtol=0
    )
    wrong = tokens_of(found.with_visible_statistics, target) - tokens_of(found.original, target)
    assert wrong.abs().mean() > 0.01  # what the model cannot know


def test_visible_statistics_do_not_depend_on_what_was_hidden() -> None:
    """Of the same prediction, one picture changes with the hidden pixels and the other does not."""
    chosen = chosen_input()
    values = torch.randn(3, 8, MODEL.grid.num_pixels, generator=seeded())
    prediction = Prediction(values, chosen.selection)
    hidden = torch.cat([chosen.selection.target, others(chosen.selection)], dim=1)
    index = hidden.unsqueeze(-1).expand(-1, -1, MODEL.grid.num_pixels)
    spoilt = replace(chosen, patches=chosen.patches.scatter(1, index, 2.0))
    before, after = assemble(chosen, prediction, INFO), assemble(spoilt, prediction, INFO)
    assert before.with_visible_statistics.equal(after.with_visible_statistics)
    assert before.encoded_only.equal(after.encoded_only)
    assert not before.with_true_statistics.equal(after.with_true_statistics)


def test_visible_statistics_are_those_of_the_nearest_visible_token() -> None:
    chosen = chosen_input()
    selection = chosen.selection
    flat = Prediction(torch.zeros(3, 8, MODEL.grid.num_pixels), selection)  # a flat tubelet shows the mean it is given
    found = assemble(chosen, flat, INFO)
    nearest = selection.visible.gather(1, nearest_visible(selection))
    given = tokens_of(found.original, nearest).unflatten(-1, (3, -1)).mean(-1, keepdim=True)  # [B, M, C, 1]
    shown = tokens_of(found.with_visible_statistics, selection.target).unflatten(-1, (3, -1))  # [B, M, C, S]
    torch.testing.assert_close(shown, given.expand_as(shown), atol=1e-5, rtol=0)


def test_nearest_is_counted_in_steps_of_the_grid() -> None:
    grid = TokenGrid(3, 3, 4, 2, 16)  # slots, rows, columns; 12 tokens a slot
    visible = torch.tensor([[0, 11, 17, 35], [5, 6, 30, 31]])
    target = torch.tensor([[1, 10, 16, 22, 23], [29, 7, 4, 18, 0]])
    selection = TokenSelection(visible, target, grid)
    # Token 22 lies as far from 11 as from 17: of equally near ones, the first.
    assert nearest_visible(selection).tolist() == [[0, 1, 2, 1, 1], [2, 1, 0, 1, 0]]
    coordinates = torch.cartesian_prod(*(torch.arange(float(n)) for n in grid.shape))
    distances = torch.cdist(coordinates[target], coordinates[visible])
    chosen = distances.gather(2, nearest_visible(selection)[..., None])[..., 0]
    torch.testing.assert_close(chosen, distances.amin(-1))


def test_the_generator_decides_what_is_hidden() -> None:
    first, again, other = (reconstruct(MODEL, CLIPS, INFO, seeded(seed)) for seed in (0, 0, 1))
    assert first.with_visible_statistics.equal(again.with_visible_statistics)
    assert not first.selection.visible.equal(other.selection.visible)


def test_the_model_is_used_as_in_evaluation_and_left_as_it_was() -> None:
    model = a_model(INFO).train()
    found = reconstruct(model, CLIPS, INFO, seeded())
    assert model.training
    assert found.with_true_statistics.equal(reconstruct(MODEL, CLIPS, INFO, seeded()).with_true_statistics)
    assert not found.with_true_statistics.requires_grad


def test_a_clip_made_of_chosen_frames_is_shown_as_it_is() -> None:
    info = an_info(frames=True)
    clips = some_clips(info)
    assert clips.shape[2] == 12
    found = reconstruct(a_model(info), clips, info, seeded())
    assert found.frames is not None
    assert found.original.shape == (3, 3, 8, 32, 48)
    expected = take_pairs(clips, found.frames.pairs, 2).float() / 255
    torch.testing.assert_close(found.original, expected, atol=1e-5, rtol=0)


def test_where_everything_is_predicted_nothing_stays_grey() -> None:
    info = an_info(method="tube", encode_ratio=0.34)
    found = reconstruct(MODEL, CLIPS, info, seeded())
    assert found.selection.visible.shape[1] + found.selection.target.shape[1] == 24
    assert not (found.with_visible_statistics == GREY).all(dim=1).flatten(1).any()


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(WeightsError, match="use a pre-training checkpoint"):
        reconstruct(MODEL, CLIPS, INFO.model_copy(update={"task": "finetune"}))
    with pytest.raises(DataError, match=r"given: torch\.float32 \[3, 3, 8, 32, 48\]"):
        reconstruct(MODEL, CLIPS.float(), INFO)
    with pytest.raises(DataError, match=r"given: torch\.uint8 \[3, 8, 32, 48\]"):
        reconstruct(MODEL, CLIPS[0], INFO)
    with pytest.raises(SelectionError, match=r"needs shape \[B, 3, 8, 32, 48\]"):
        reconstruct(MODEL, CLIPS[:, :, :6], INFO)
    found = reconstruct(MODEL, CLIPS, INFO, seeded())
    with pytest.raises(DataError, match="need the same shape"):
        replace(found, encoded_only=found.original[:1])


def test_a_model_that_predicts_something_else_is_refused() -> None:
    info = INFO.model_copy(update={"objective": ObjectiveConfig(name="mvd", video_width=1536)})  # as many as pixels
    with pytest.raises(WeightsError, match=r"mvd predicts no pixels: use a checkpoint of objective\.name=pixels"):
        reconstruct(build_masked_model(info.model, info.clip, info.objective), CLIPS, info)
