"""Distances, the random projection and the camera: each does what it is called, in every way that selects tokens."""

from itertools import product
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from test_scoring import BYTES, NORMALISED, embedding
from test_tubelets import CLIPS, GRID, MEAN, STD, info, real_clips, seeded

from everest.config import SCORINGS_OF, Camera, CheckpointInfo, Distance, Scoring, SelectionConfig
from everest.errors import ConfigError, SelectionError
from everest.models import build_autoencoder, select_input
from everest.models.scoring import NUM_PROJECTIONS, score_as_set, score_tokens
from everest.models.tubelets import Tubelets, cut
from everest.settings import parse
from everest.tokens import TokenGrid, num_tokens, patchify, rank_by_score
from everest.video import normalize

WAYS: list[tuple[Distance, Scoring, Camera]] = [
    (distance, scoring, camera)
    for distance, camera in product(SCORINGS_OF, ("still", "moving"))
    for scoring in SCORINGS_OF[distance]
    if (distance, camera) != ("l2", "still") or scoring == "random_projection"
]


def scores_of(patches: torch.Tensor | Tubelets, way: tuple[Distance, Scoring, Camera]) -> torch.Tensor:
    embed = embedding()
    torch.nn.init.normal_(embed.proj.bias)
    return score_tokens(embed, patches, GRID, way[1], distance=way[0], camera=way[2])[0]


def panned(step: int, num_frames: int = 8, size: tuple[int, int] = (64, 96)) -> torch.Tensor:
    """Bytes of one real frame each, [B, 3, T, H, W], in a window that moves on by so many pixels a frame."""
    whole = real_clips_wide()
    views = [whole[:, :, 20 : 20 + size[0], 80 - n * step : 80 - n * step + size[1]] for n in range(num_frames)]
    return torch.stack(views, dim=2)


def real_clips_wide() -> torch.Tensor:
    """The first frame of each of the real clips and its mirror image, uint8, [B, 3, 64, 192]."""
    first = real_clips(2)[:, :, 0]
    return torch.cat([first.flip(3), first], dim=3).repeat(1, 1, 2, 1)


@pytest.mark.parametrize("way", WAYS)
def test_what_stands_still_scores_exactly_nothing(way: tuple[Distance, Scoring, Camera]) -> None:
    still = CLIPS[:, :, :1].expand_as(CLIPS).contiguous()
    for patches in (cut(still, GRID, MEAN, STD), patchify(normalize(still, MEAN, STD), GRID)):
        scores = scores_of(patches, way)
        assert torch.count_nonzero(scores) == 0
        assert scores.dtype == torch.float32


@pytest.mark.parametrize("way", WAYS)
def test_bytes_and_normalised_tubelets_score_alike(way: tuple[Distance, Scoring, Camera]) -> None:
    tolerance = 0.01 if way[1] == "bfloat16" else 2e-4
    of_bytes, of_numbers = scores_of(BYTES, way), scores_of(NORMALISED, way)
    torch.testing.assert_close(of_bytes, of_numbers, rtol=tolerance, atol=tolerance)
    assert (of_bytes > 0).float().mean() > 0.9


@pytest.mark.parametrize("way", WAYS)
def test_clips_are_scored_apart(way: tuple[Distance, Scoring, Camera]) -> None:
    whole = scores_of(BYTES, way)
    for number, clip in enumerate(CLIPS):
        alone = scores_of(cut(clip[None], GRID, MEAN, STD), way)
        torch.testing.assert_close(alone[0], whole[number], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("patches", [BYTES, NORMALISED])
def test_distances_are_those_of_the_embeddings(patches: torch.Tensor | Tubelets) -> None:
    embed = embedding()
    torch.nn.init.normal_(embed.proj.bias)
    tokens = embed(NORMALISED).detach().reshape(len(CLIPS), GRID.num_slots, GRID.tokens_per_slot, -1)
    expected = {
        "l1": (tokens[:, 1:] - tokens[:, :-1]).abs().sum(dim=-1),
        "cosine": 1 - torch.cosine_similarity(tokens[:, 1:], tokens[:, :-1], dim=-1),
    }
    for distance, wanted in expected.items():
        scores, embedded = score_tokens(embed, patches, GRID, distance=distance)  # type: ignore[arg-type]
        torch.testing.assert_close(scores[:, GRID.tokens_per_slot :], wanted.flatten(1), rtol=1e-3, atol=2e-5)
        assert embedded is not None
        torch.testing.assert_close(embedded, tokens.flatten(1, 2), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("patches", [BYTES, NORMALISED])
def test_distances_are_those_of_the_pixels(patches: torch.Tensor | Tubelets) -> None:
    pixels = NORMALISED.reshape(len(CLIPS), GRID.num_slots, GRID.tokens_per_slot, -1)
    expected = {
        "l1": (pixels[:, 1:] - pixels[:, :-1]).abs().sum(dim=-1),
        "cosine": 1 - torch.cosine_similarity(pixels[:, 1:], pixels[:, :-1], dim=-1),
    }
    for distance, wanted in expected.items():
        scores, _ = score_tokens(embedding(), patches, GRID, "pixels", distance=distance)  # type: ignore[arg-type]
        torch.testing.assert_close(scores[:, GRID.tokens_per_slot :], wanted.flatten(1), rtol=1e-3, atol=2e-5)


def test_cosine_is_exact_under_autocast_too() -> None:
    plain = score_tokens(embedding(), BYTES, GRID, distance="cosine")[0]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(score_tokens(embedding(), BYTES, GRID, distance="cosine")[0], plain)
        coarse = score_tokens(embedding(), BYTES, GRID, distance="l1")[0]
    assert torch.equal(coarse, score_tokens(embedding(), BYTES, GRID, "bfloat16", distance="l1")[0])


def test_the_random_projection_measures_pixels_whatever_the_weights() -> None:
    pixels, projected = (score_tokens(embedding(), BYTES, GRID, each)[0] for each in ("pixels", "random_projection"))
    moving = pixels > pixels.median()
    ratio = projected[moving] / pixels[moving]
    assert abs(float(ratio.mean()) - 1) < 0.08
    assert float(ratio.std()) < 3 / (2 * NUM_PROJECTIONS) ** 0.5
    assert torch.equal(score_tokens(embedding(48), BYTES, GRID, "random_projection")[0], projected)


@pytest.mark.parametrize("scoring", SCORINGS_OF["l2"])
@pytest.mark.parametrize("patches", [cut(CLIPS[1:], GRID, MEAN, STD), NORMALISED[1:]])
def test_before_a_camera_that_stands_all_is_as_it_was(scoring: Scoring, patches: torch.Tensor | Tubelets) -> None:
    """In the clip that is left out, somebody who walks before a plain wall fills a narrow crop, and is followed."""
    plain, followed = (
        score_tokens(embedding(), patches, GRID, scoring, camera=camera)[0] for camera in ("still", "moving")
    )
    assert torch.equal(plain, followed)


@pytest.mark.parametrize("distance", SCORINGS_OF)
@pytest.mark.parametrize("step", [1, 3])
def test_a_still_picture_that_is_panned_over_scores_nothing(distance: Distance, step: int) -> None:
    clips = panned(step)
    for scoring, patches in product(
        SCORINGS_OF[distance], (cut(clips, GRID, MEAN, STD), patchify(normalize(clips, MEAN, STD), GRID))
    ):
        before, after = (scores_of(patches, (distance, scoring, camera)) for camera in ("still", "moving"))
        assert (before > 0).float().mean() > 0.95
        assert after.max() < 1e-3 * before.mean()


def test_what_moves_before_a_camera_that_pans_draws_the_budget() -> None:
    clips = panned(2)
    for n in range(8):
        clips[:, :, n, 16:32, 16 + 6 * n : 32 + 6 * n] = clips[:, :, 0, 40:56, 40:56].flip(3)
    passed = torch.zeros(GRID.shape, dtype=torch.bool)
    for slot in range(4):
        for n in (*range(2 * slot, 2 * slot + 2), *range(max(0, 2 * slot - 2), max(2, 2 * slot))):  # and before
            left = 16 + 6 * n + (4 if n < 2 * slot else 0)
            passed[slot, 1, left // 16 : (left + 15) // 16 + 1] = True
    passed[0] |= passed[1]
    num_kept = num_tokens(0.1, GRID.num_tokens)
    shares = []
    for camera in ("still", "moving"):
        kept = rank_by_score(scores_of(cut(clips, GRID, MEAN, STD), ("l2", "exact", camera)))[:, :num_kept]
        shares.append(float(passed.flatten()[kept].float().mean()))
    assert shares[1] > 0.95 > 0.8 > shares[0]


@pytest.mark.parametrize("scoring", SCORINGS_OF["l2"])
def test_clips_are_followed_apart_whoever_is_with_them(scoring: Scoring) -> None:
    clips = torch.cat([panned(3), CLIPS, panned(1), CLIPS.flip(2)])  # more of them than are followed together
    whole = scores_of(cut(clips, GRID, MEAN, STD), ("l2", scoring, "moving"))
    parts = [scores_of(cut(clip[None], GRID, MEAN, STD), ("l2", scoring, "moving")) for clip in clips]
    torch.testing.assert_close(whole, torch.cat(parts), rtol=1e-3, atol=1e-4)
    num_panned = len(panned(3))
    assert not whole[:num_panned].any()
    assert whole[num_panned : num_panned + len(CLIPS)].any(dim=1).all()


@pytest.mark.parametrize("method", ["rero", "adaptive"])
@pytest.mark.parametrize("given", [{"distance": "cosine"}, {"distance": "l1"}, {"camera": "moving"}])
def test_settings_reach_the_selection_of_tokens_and_frames(method: str, given: dict[str, Any]) -> None:
    of = info("pretrain", method, frames=True)
    selection = SelectionConfig.model_validate(of.selection.model_dump() | given)
    clips = panned(2, num_frames=12)
    encoder = build_autoencoder(of.model, of.clip).encoder
    chosen = select_input(encoder, clips, of.model_copy(update={"selection": selection}), generator=seeded())
    assert chosen.selection.scores is not None
    assert torch.equal(chosen.selection.scores, score_as_set(encoder.patch_embed, chosen.patches, GRID, selection)[0])
    plain = score_as_set(encoder.patch_embed, chosen.patches, GRID, of.selection)[0]
    assert not torch.equal(chosen.selection.scores, plain)
    assert chosen.frames is not None
    if given.get("camera") == "moving":
        assert not chosen.frames.counts.any()  # nothing but the camera moves


@pytest.mark.parametrize(
    ("distance", "scoring"),
    [("l1", "projection"), ("l1", "random_projection"), ("cosine", "projection"), ("cosine", "bfloat16")],
)
def test_what_cannot_be_measured_is_refused(distance: Distance, scoring: Scoring) -> None:
    told = f"distance={distance} cannot be measured with scoring={scoring}; it goes with auto, exact"
    with pytest.raises(ValidationError, match=told):
        SelectionConfig(keep_ratio=0.5, encode_ratio=0.5, distance=distance, scoring=scoring)
    with pytest.raises(SelectionError, match=f"distance {distance} takes scoring auto"):
        score_tokens(embedding(), BYTES, GRID, scoring, distance=distance)


def test_older_settings_are_the_papers() -> None:
    values = info("finetune").model_dump()
    for key in ("distance", "camera"):
        del values["selection"][key]
    found = parse(CheckpointInfo, values).selection
    assert (found.distance, found.camera) == ("l2", "still")
    with pytest.raises(ConfigError, match="distance"):
        parse(CheckpointInfo, values | {"selection": values["selection"] | {"distance": "l3"}})


def test_one_slot_has_nothing_to_be_compared_with() -> None:
    grid = TokenGrid.of_clip(2, 64, 96, 2, 16)
    patches = cut(CLIPS[:, :, :2], grid, MEAN, STD)
    for way in WAYS:
        with pytest.raises(SelectionError, match="at least two"):
            score_tokens(embedding(), patches, grid, way[1], distance=way[0], camera=way[2])
