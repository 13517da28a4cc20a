"""Pictures of tokens: what is encoded is shown as it is, what is predicted is veiled, what is dropped is dark."""

import numpy as np
import torch

from everest.tokens import TokenGrid
from everest.visualize import draw_pairs, draw_scores, draw_selection, slot_pictures, strip
from everest.visualize.tokens import ENCODED_COLOR, TARGET_COLOR

GRID = TokenGrid(3, 2, 4, 2, 16)  # 6 frames of 32 x 64, drawn four times as large


def clip() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (3, 6, 32, 64), generator=generator, dtype=torch.uint8)


def test_a_picture_is_the_first_frame_of_its_slot_enlarged() -> None:
    frames = clip()
    pictures = slot_pictures(frames, GRID)
    assert pictures.shape == (3, 128, 256, 3)
    assert pictures[1, ::4, ::4].tolist() == frames[:, 2].permute(1, 2, 0).tolist()
    assert (slot_pictures(frames.float() / 255, GRID) == pictures).all()


def test_encoded_tokens_are_shown_as_they_are_predicted_ones_veiled_and_dropped_ones_dark() -> None:
    frames = clip()
    plain = slot_pictures(frames, GRID)
    drawn = draw_selection(frames, torch.tensor([0]), torch.tensor([8 + 5]), GRID)
    encoded, target, dropped = (
        (slice(0, 64), slice(0, 64)),
        (slice(64, 128), slice(64, 128)),
        (slice(0, 64), slice(64, 128)),
    )
    assert (drawn[0][encoded][8:-8, 8:-8] == plain[0][encoded][8:-8, 8:-8]).all()
    veiled, behind = (pictures[1][target][8:-8, 8:-8].astype(float) for pictures in (drawn, plain))
    expected = 0.45 * behind + 0.55 * np.array(TARGET_COLOR)
    assert np.abs(veiled - expected).max() <= 1
    assert drawn[0, 0, 0].tolist() == list(ENCODED_COLOR)
    assert drawn[1, 64, 64].tolist() == list(TARGET_COLOR)
    assert drawn[0][dropped].mean() < 0.4 * plain[0][dropped].mean()
    assert (drawn[0][dropped][..., 0] == drawn[0][dropped][..., 2]).all()  # without colour


def test_higher_scores_are_brighter() -> None:
    still = torch.full((3, 6, 32, 64), 100, dtype=torch.uint8)
    scores = torch.zeros(24)
    scores[9] = 2.0
    heat = draw_scores(still, scores, GRID)
    assert heat[1, 10, 74].sum() > heat[1, 10, 10].sum()
    assert draw_scores(still, torch.zeros(24), GRID).shape == (3, 128, 256, 3)


def test_chosen_pairs_are_framed() -> None:
    frames = torch.zeros(3, 8, 32, 64, dtype=torch.uint8)
    sheet = draw_pairs(frames, torch.tensor([1]), torch.tensor([0, 7, 2, 3]), tubelet_size=2)
    assert sheet[0, 64 + 4 + 1].tolist() == list(ENCODED_COLOR)
    assert sheet[0, 0].tolist() == [0, 0, 0]
    assert sheet.shape[1] == 4 * 64 + 3 * 4


def test_many_pairs_are_drawn_in_rows() -> None:
    frames = torch.zeros(3, 22, 32, 64, dtype=torch.uint8)
    sheet = draw_pairs(frames, torch.tensor([9]), torch.arange(11), tubelet_size=2)
    one_row = draw_pairs(frames[:, :16], torch.tensor([0]), torch.arange(8), tubelet_size=2)
    assert sheet.shape == (2 * one_row.shape[0], *one_row.shape[1:])
    assert sheet[one_row.shape[0], 64 + 4].tolist() == list(ENCODED_COLOR)
    assert (sheet[one_row.shape[0] :, 3 * 68 :] == 255).all()  # three of eight


def test_a_sheet_holds_every_picture() -> None:
    red = torch.tensor([255, 0, 0], dtype=torch.uint8).expand(10, 20, 3).numpy()
    sheet = strip([[red, red], [red]], captions=["a", "b"], labels=["first", "second"])
    assert ((sheet == red[0, 0]).all(-1)).sum() == 3 * 200
