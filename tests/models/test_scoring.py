"""Cheaper scores rank tokens of real clips nearly as the exact ones do, and keep their laws."""

import pytest
import torch
from test_tubelets import CLIPS, GRID, MEAN, STD, info

from everest.bench.macs import count_macs
from everest.config import Scoring
from everest.models import build_autoencoder, build_classifier, classify_clips
from everest.models.embedding import PatchEmbed
from everest.models.scoring import NUM_PROJECTIONS, score_tokens
from everest.models.tubelets import cut
from everest.tokens import num_tokens, patchify, rank_by_score, rero_scores
from everest.video import normalize

CHEAPER: tuple[Scoring, ...] = ("bfloat16", "projection", "pixels")
BYTES = cut(CLIPS, GRID, MEAN, STD)
NORMALISED = patchify(normalize(CLIPS, MEAN, STD), GRID)


def embedding(width: int = 192) -> PatchEmbed:
    torch.manual_seed(0)
    return PatchEmbed(GRID, width)


def agreement(scoring: Scoring, keep_ratio: float, width: int = 192) -> float:
    embed, num_kept = embedding(width), num_tokens(keep_ratio, GRID.num_tokens)
    kept = [
        torch.zeros(len(CLIPS), GRID.num_tokens).scatter_(
            1, rank_by_score(score_tokens(embed, BYTES, GRID, each)[0])[:, :num_kept], 1.0
        )
        for each in ("exact", scoring)
    ]
    return float((kept[0] * kept[1]).sum() / kept[0].sum())


@pytest.mark.parametrize("patches", [BYTES, NORMALISED])
def test_exact_scores_are_those_of_the_embedding(patches: torch.Tensor) -> None:
    tokens, changes = embedding().embed_all(patches, GRID)
    scores, embedded = score_tokens(embedding(), patches, GRID, "exact")
    assert torch.equal(scores, rero_scores(changes))
    assert embedded is not None
    assert torch.equal(embedded, tokens)


@pytest.mark.parametrize("scoring", CHEAPER)
def test_what_stands_still_scores_exactly_nothing(scoring: Scoring) -> None:
    still = CLIPS[:, :, :1].expand_as(CLIPS).contiguous()
    for patches in (cut(still, GRID, MEAN, STD), patchify(normalize(still, MEAN, STD), GRID)):
        scores, embedded = score_tokens(embedding(), patches, GRID, scoring)
        assert torch.count_nonzero(scores) == 0
        assert embedded is None
        assert scores.dtype == torch.float32


@pytest.mark.parametrize("scoring", CHEAPER)
def test_bytes_and_normalised_tubelets_score_alike(scoring: Scoring) -> None:
    of_bytes, of_numbers = (score_tokens(embedding(), each, GRID, scoring)[0] for each in (BYTES, NORMALISED))
    tolerance = 0.01 if scoring == "bfloat16" else 1e-4
    torch.testing.assert_close(of_bytes, of_numbers, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("scoring", CHEAPER)
@pytest.mark.parametrize("patches", [BYTES, NORMALISED])
def test_clips_are_scored_apart(scoring: Scoring, patches: torch.Tensor) -> None:
    whole = score_tokens(embedding(), BYTES, GRID, scoring)[0]
    for number, clip in enumerate(CLIPS):
        alone = score_tokens(embedding(), cut(clip[None], GRID, MEAN, STD), GRID, scoring)[0]
        torch.testing.assert_close(alone[0], whole[number], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("scoring", "least"), [("bfloat16", 0.99), ("projection", 0.9), ("pixels", 0.9)])
@pytest.mark.parametrize("keep_ratio", [0.3, 0.6])
def test_cheaper_scores_keep_nearly_the_same_tokens(scoring: Scoring, least: float, keep_ratio: float) -> None:
    assert least <= agreement(scoring, keep_ratio)


def test_lengths_are_kept_on_average_by_the_projection() -> None:
    exact, projected = (score_tokens(embedding(768), BYTES, GRID, each)[0] for each in ("exact", "projection"))
    moving = exact > exact.median()
    ratio = projected[moving] / exact[moving]
    assert abs(float(ratio.mean()) - 1) < 0.05
    assert float(ratio.std()) < 2 / (2 * NUM_PROJECTIONS) ** 0.5


def test_a_projection_to_the_full_width_is_exact() -> None:
    exact, projected = (score_tokens(embedding(48), BYTES, GRID, each)[0] for each in ("exact", "projection"))
    torch.testing.assert_close(projected, exact, rtol=1e-4, atol=1e-4)


def test_left_to_the_program_it_is_exact_unless_training_computes_in_bfloat16() -> None:
    embed = embedding()
    assert torch.equal(score_tokens(embed, BYTES, GRID)[0], score_tokens(embed, BYTES, GRID, "exact")[0])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        scores, embedded = score_tokens(embed, BYTES, GRID)
        assert embedded is None
        assert torch.equal(scores, score_tokens(embed, BYTES, GRID, "bfloat16")[0])


@pytest.mark.parametrize("scoring", CHEAPER)
def test_what_is_kept_is_embedded_afterwards(scoring: Scoring) -> None:
    """With the tokens that a cheaper score has chosen, the model computes what it computes with exact ones."""
    of = info("finetune")
    cheap = of.model_copy(update={"selection": of.selection.model_copy(update={"scoring": scoring, "keep_ratio": 1.0})})
    exact = of.model_copy(update={"selection": of.selection.model_copy(update={"keep_ratio": 1.0})})
    torch.manual_seed(0)
    model = build_classifier(of.model, of.clip, 3).eval()
    torch.nn.init.normal_(model.head.weight)
    with torch.no_grad():
        probabilities = classify_clips(model, CLIPS, exact)
        torch.testing.assert_close(classify_clips(model, CLIPS, cheap), probabilities, rtol=1e-4, atol=1e-5)
    selection = build_autoencoder(of.model, of.clip).encoder.select(BYTES, cheap.selection, "finetune")
    assert selection.embedded is None


def test_cheaper_scores_cost_what_the_sheet_says() -> None:
    """19.8 GMAC of a ViT-B pre-training forward pass would become about 18.3 with a small projection.

    The decoder's last layer, for predicted tokens only, spares 0.26 of both.
    """
    gmacs = {each: count_macs("base", "pretrain", "rero", scoring=each)["gmacs"] for each in ("exact", *CHEAPER)}
    assert gmacs["exact"] == pytest.approx(19.78 - 0.26, abs=0.02)
    assert gmacs["projection"] == pytest.approx(18.33 - 0.26, abs=0.02)
    assert gmacs["pixels"] < gmacs["projection"] < gmacs["bfloat16"] < gmacs["exact"]
