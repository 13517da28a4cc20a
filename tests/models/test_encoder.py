"""Laws of encoding and of choosing tokens and frames with a model's own embedding.

Shapes: B clips, T frames, N tokens, V visible, K chosen pairs.
"""

from dataclasses import replace

import pytest
import torch
from small_models import FINETUNE, GRID, PRETRAIN, autoencoder, classifier, encoder, jitter, random_patches
from torch import nn

from everest.config import FrameSelectionConfig, SelectionConfig
from everest.errors import SelectionError
from everest.models import Encoder
from everest.models.positions import sine_positions
from everest.tokens import TokenGrid, gather_tokens, patchify, take_pairs, unpatchify

FRAMES = FrameSelectionConfig(enabled=True, alpha=1.5)


def fresh_encoder() -> Encoder:
    torch.manual_seed(0)
    return jitter(encoder(final_norm=True))


def selected(keep_ratio: float) -> SelectionConfig:
    return SelectionConfig(keep_ratio=keep_ratio, encode_ratio=keep_ratio)


def candidate_clips(num_slots: int = 6, batch: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(batch, 3, num_slots * GRID.tubelet_size, *GRID.clip_shape[1:], generator=generator)


class TestSelect:
    def test_carries_the_embeddings_of_the_visible_tokens(self) -> None:
        model, patches = fresh_encoder(), random_patches()
        selection = model.select(patches, PRETRAIN, "pretrain")
        assert selection.embedded is not None
        expected = model.patch_embed(gather_tokens(patches, selection.visible))
        torch.testing.assert_close(selection.embedded, expected, rtol=0, atol=1e-5)
        assert not selection.embedded.requires_grad

    def test_takes_the_tokens_whose_embedding_changes_most(self) -> None:
        model, patches = fresh_encoder(), random_patches()
        slots = model.patch_embed(patches).unflatten(1, (4, 16))
        distances = (slots[:, 1:] - slots[:, :-1]).norm(dim=-1)
        scores = torch.cat([distances[:, :1], distances], dim=1).flatten(1)
        expected = scores.argsort(dim=1, descending=True, stable=True)[:, :32].sort(dim=1).values
        assert torch.equal(model.select(patches, FINETUNE, "finetune").visible, expected)

    def test_without_scores_embeds_nothing(self) -> None:
        selection = fresh_encoder().select(random_patches(), FINETUNE.model_copy(update={"method": "tube"}), "finetune")
        assert selection.embedded is None
        assert selection.scores is None

    def test_embedding_before_or_after_choosing_gives_the_same_output(self) -> None:
        model, patches = fresh_encoder().double(), random_patches().double()
        selection = model.select(patches, PRETRAIN, "pretrain")
        outputs = [model(patches, chosen) for chosen in (selection, replace(selection, embedded=None))]
        torch.testing.assert_close(*outputs, rtol=0, atol=1e-12)

    def test_keeping_all_encodes_as_no_selection_does(self) -> None:
        model, patches = fresh_encoder().double(), random_patches().double()
        outputs = [
            model(
                patches, model.select(patches, SelectionConfig(method=method, keep_ratio=1, encode_ratio=1), "finetune")
            )
            for method in ("rero", "all")
        ]
        torch.testing.assert_close(*outputs, rtol=0, atol=1e-12)


class TestDroppedTokens:
    def test_change_neither_prediction_nor_gradients(self) -> None:
        model, patches = autoencoder(), random_patches()
        selection = replace(model.encoder.select(patches, PRETRAIN, "pretrain"), embedded=None)
        spoilt = torch.full_like(patches, float("nan"))
        where = selection.visible.unsqueeze(-1).expand(-1, -1, GRID.num_pixels)
        spoilt.scatter_(1, where, patches.gather(1, where))
        results = []
        for given in (patches, spoilt):
            model.zero_grad()
            values = model(given, selection).values
            values.square().sum().backward()
            results.append([values, *(parameter.grad for parameter in model.parameters())])
        assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))

    def test_change_no_logits(self) -> None:
        model, patches = classifier(), random_patches()
        selection = model.encoder.select(patches, FINETUNE, "finetune")
        dropped = torch.ones(2, GRID.num_tokens).scatter(1, selection.visible, 0).unsqueeze(-1)
        assert torch.equal(model(patches + 7 * dropped, selection), model(patches, selection))
        anew = replace(selection, embedded=None)
        assert not torch.equal(model(patches + 7 * (1 - dropped), anew), model(patches, anew))

    def test_are_no_input_of_the_gradient_to_pixels(self) -> None:
        model, patches = classifier(), random_patches().requires_grad_()
        selection = model.encoder.select(patches, FINETUNE, "finetune")
        model(patches, selection).square().sum().backward()
        assert patches.grad is not None
        touched = patches.grad.abs().sum(dim=-1).nonzero().tolist()
        assert touched == [[clip, token] for clip in range(2) for token in selection.visible[clip].tolist()]


def test_clips_of_a_batch_do_not_see_each_other() -> None:
    model, patches = fresh_encoder().double(), random_patches(batch=3).double()
    selection = model.select(patches, FINETUNE, "finetune")
    together = model(patches, selection)
    for clip in range(3):
        alone = model(patches[clip : clip + 1], model.select(patches[clip : clip + 1], FINETUNE, "finetune"))
        torch.testing.assert_close(together[clip : clip + 1], alone, rtol=0, atol=1e-12)


def test_positions_follow_the_number_of_a_token() -> None:
    model, patches = fresh_encoder().double(), random_patches().double()
    model.blocks = nn.ModuleList()
    selection = model.select(patches, FINETUNE, "finetune")
    everywhere = model.norm(model.patch_embed(patches) + sine_positions(GRID.num_tokens, 24))
    torch.testing.assert_close(model(patches, selection), gather_tokens(everywhere, selection.visible))


def test_a_token_knows_its_place() -> None:
    model = fresh_encoder()
    patches = random_patches()[:, :1].expand(-1, GRID.num_tokens, -1)  # all tokens look the same
    everything = SelectionConfig(method="all", keep_ratio=1, encode_ratio=1)
    encoded = model(patches, model.select(patches, everything, "finetune"))
    assert len(torch.unique(encoded[0].detach(), dim=0)) == GRID.num_tokens


class TestSelectFrames:
    def test_turned_off_leaves_the_clips_as_they_are(self) -> None:
        clips = candidate_clips()
        taken, chosen = fresh_encoder().select_frames(clips, FrameSelectionConfig(), selected(0.3))
        assert taken is clips
        assert chosen is None

    @pytest.mark.parametrize("random", [True, False])
    def test_makes_clips_of_the_size_of_the_grid(self, random: bool) -> None:
        clips = candidate_clips()
        taken, chosen = fresh_encoder().select_frames(clips, FRAMES, selected(0.3), random=random)
        assert chosen is not None
        assert taken.shape == (3, 3, *GRID.clip_shape)
        assert chosen.counts.shape == (3, 6)
        assert torch.equal(taken, take_pairs(clips, chosen.pairs, GRID.tubelet_size))

    def test_finds_the_pairs_that_move(self) -> None:
        still = random_patches(batch=1, seed=2)
        clips = unpatchify(still, GRID)[:, :, :2].repeat(1, 1, 6, 1, 1)
        for pair in (2, 4, 5):  # each begins another image
            clips[:, :, 2 * pair :] += torch.randn(1, 3, 1, *GRID.clip_shape[1:])
        _, chosen = fresh_encoder().select_frames(clips, FRAMES, selected(1.0), random=False)
        assert chosen is not None
        assert chosen.counts.tolist() == [[0, 0, 16, 0, 16, 16]]
        assert chosen.pairs.tolist() == [[0, 2, 4, 5]]

    def test_by_chance_what_moves_makes_no_difference(self) -> None:
        model, blindly = fresh_encoder(), FRAMES.model_copy(update={"by": "chance"})
        clips = unpatchify(random_patches(batch=1, seed=2), GRID)[:, :, :2].repeat(300, 1, 6, 1, 1)
        clips[:, :, 10:] += 1.0
        for_all = [
            model.select_frames(clips, blindly, selected(1.0).model_copy(update={"seed": seed}), random=False)[1]
            for seed in (*range(30), 0)
        ]
        rows = [pairs.pairs.unique(dim=0).tolist() for pairs in for_all if pairs is not None]
        assert all(len(row) == 1 for row in rows)  # the same ones for all clips
        assert len({str(row) for row in rows}) > 8  # of the 15 that there are
        assert rows[0] == rows[-1]
        _, drawn = model.select_frames(clips, blindly, selected(1.0), generator=torch.Generator().manual_seed(0))
        assert drawn is not None
        shares = torch.bincount(drawn.pairs.flatten(), minlength=6) / 300
        assert (shares - 4 / 6).abs().max() < 0.1
        _, chosen = model.select_frames(clips, FRAMES, selected(1.0), generator=torch.Generator().manual_seed(0))
        assert chosen is not None
        assert (chosen.pairs == 5).any(dim=1).all()

    def test_follows_from_the_seed(self) -> None:
        model, clips = fresh_encoder(), candidate_clips(batch=16)
        drawn = []
        for seed in (0, 0, 1):
            generator = torch.Generator().manual_seed(seed)
            drawn.append(model.select_frames(clips, FRAMES, selected(0.3), generator=generator)[0])
        assert torch.equal(drawn[0], drawn[1])
        assert not torch.equal(drawn[0], drawn[2])

    def test_leaves_out_frames_that_fill_no_pair(self) -> None:
        model, clips = fresh_encoder(), candidate_clips()
        longer = torch.cat([clips, torch.randn_like(clips[:, :, :1])], dim=2)
        for random in (True, False):
            outcomes = [
                model.select_frames(
                    given, FRAMES, selected(0.3), generator=torch.Generator().manual_seed(0), random=random
                )[0]
                for given in (clips, longer)
            ]
            assert torch.equal(*outcomes)

    @pytest.mark.parametrize("num_slots", [3, 1])
    def test_too_few_candidates_are_refused(self, num_slots: int) -> None:
        with pytest.raises(SelectionError):
            fresh_encoder().select_frames(candidate_clips(num_slots), FRAMES, selected(0.3))


def test_more_tokens_than_a_clip_has_cannot_be_encoded() -> None:
    patches = random_patches()
    selection = fresh_encoder().select(patches, FINETUNE, "finetune")
    with pytest.raises(SelectionError, match="do not fit"):
        replace(selection, grid=TokenGrid(1, 4, 4, 2, 4))


def test_patches_of_another_grid_have_no_scores() -> None:
    other = TokenGrid(4, 4, 8, 2, 4)
    with pytest.raises(RuntimeError):
        fresh_encoder().select(random_patches(grid=other), FINETUNE, "finetune")
    with pytest.raises(SelectionError, match="needs shape"):
        patchify(unpatchify(random_patches(grid=other), other), GRID)
