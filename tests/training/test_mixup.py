"""Laws of soft targets, mixup and cutmix."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from everest.draws import ClipDraws, seeds_of_clips
from everest.errors import DataError
from everest.training.mixup import mix_clips, soft_cross_entropy, soft_targets

NUM_CLASSES = 4


def batch(size: int = 4, height: int = 16, width: int = 24) -> tuple[Tensor, Tensor]:
    """Clip i has the value i everywhere and belongs to class i."""
    values = torch.arange(size, dtype=torch.float32)
    clips = values.view(-1, 1, 1, 1, 1).expand(size, 3, 2, height, width).clone()
    return clips, soft_targets(torch.arange(size) % NUM_CLASSES, NUM_CLASSES)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def share_of(targets: Tensor) -> float:
    """What is left of clip 0's own class (its partner has another)."""
    return float(targets[0, 0])


def test_targets_are_those_of_label_smoothing() -> None:
    logits = torch.randn(8, 5, generator=generator(0))
    labels = torch.randint(5, (8,), generator=generator(1))
    for smoothing in (0.0, 0.1):
        targets = soft_targets(labels, 5, smoothing)
        assert torch.allclose(targets.sum(1), torch.ones(8))
        expected = F.cross_entropy(logits, labels, label_smoothing=smoothing)
        assert torch.allclose(soft_cross_entropy(logits, targets), expected)


def test_loss_is_computed_in_float32() -> None:
    logits = torch.tensor([[100.0, 99.0]], dtype=torch.bfloat16)
    loss = soft_cross_entropy(logits, soft_targets(torch.tensor([0]), 2))
    assert loss.dtype == torch.float32
    assert torch.allclose(loss, F.cross_entropy(logits.float(), torch.tensor([0])))


@pytest.mark.parametrize("labels", [[0, 4], [-1, 2]])
def test_labels_that_are_no_class_are_refused(labels: list[int]) -> None:
    with pytest.raises(DataError, match="0 to 3 for 4 classes"):
        soft_targets(torch.tensor(labels), 4)


def test_off_returns_the_very_arguments() -> None:
    clips, targets = batch()
    mixed, mixed_targets = mix_clips(clips, targets, mixup_alpha=0, cutmix_alpha=0, draws=generator(0))
    assert mixed is clips
    assert mixed_targets is targets


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.floats(0.1, 3.0), st.integers(2, NUM_CLASSES))
def test_mixup_blends_pixels_and_targets_alike(seed: int, alpha: float, size: int) -> None:
    clips, targets = batch(size)
    partners = [1, 0, 3, 2][:size] if size % 2 == 0 else [1, 0, 2]
    mixed, mixed_targets = mix_clips(clips, targets, mixup_alpha=alpha, cutmix_alpha=0, draws=generator(seed))
    share = mixed_targets.diagonal()  # what is left of each clip's own class
    assert all(float(share[i]) == pytest.approx(float(share[j]), abs=1e-6) for i, j in enumerate(partners))
    own = share[:, None, None, None, None]
    torch.testing.assert_close(mixed, own * clips + (1 - own) * clips[partners], atol=1e-5, rtol=0)
    mean = share[:, None] * targets + (1 - share[:, None]) * targets[partners]
    torch.testing.assert_close(mixed_targets, mean, atol=1e-5, rtol=0)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.floats(0.1, 3.0))
def test_cutmix_share_is_the_area_of_one_box_in_all_frames(seed: int, alpha: float) -> None:
    clips, targets = batch()
    original = clips.clone()
    mixed, mixed_targets = mix_clips(clips, targets, mixup_alpha=0, cutmix_alpha=alpha, draws=generator(seed))
    pasted = mixed[0] == 1.0  # [C, T, H, W]
    assert torch.equal(pasted | (mixed[0] == 0.0), torch.ones_like(pasted))
    assert torch.equal(pasted, pasted[:1, :1].expand_as(pasted))
    rows, columns = pasted[0, 0].any(1), pasted[0, 0].any(0)
    assert torch.equal(pasted[0, 0], rows[:, None] & columns[None, :])  # a rectangle
    assert share_of(mixed_targets) == pytest.approx(1.0 - float(pasted.float().mean()), abs=1e-6)
    assert torch.equal(clips, original)


def test_cutmix_pastes_the_partner_at_its_own_place() -> None:
    clips = torch.randn(2, 3, 2, 16, 16, generator=generator(0))
    mixed, _ = mix_clips(clips, batch(2)[1], mixup_alpha=0, cutmix_alpha=1.0, draws=generator(3))
    swapped = mixed[0] != clips[0]
    assert 0 < swapped.float().mean() < 1
    assert torch.equal(mixed[0], torch.where(swapped, clips[1], clips[0]))


def test_both_on_takes_each_for_about_half_of_the_batches() -> None:
    clips, targets = batch()
    draws = generator(0)
    num_cutmix = 0
    for _ in range(200):
        mixed, _ = mix_clips(clips, targets, mixup_alpha=1.0, cutmix_alpha=1.0, draws=draws)
        num_cutmix += bool(((mixed[0] == 0.0) | (mixed[0] == 1.0)).all())
    assert 70 < num_cutmix < 130


def test_the_generator_decides_everything() -> None:
    clips, targets = batch()
    first, again, other = (
        mix_clips(clips, targets, mixup_alpha=0.8, cutmix_alpha=1.0, draws=generator(seed))[1] for seed in (5, 5, 6)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_shares_follow_the_beta_distribution() -> None:
    """Beta(a, a) has mean 1/2 and variance 1 / (4 (2 a + 1))."""
    clips, targets = batch(height=1, width=1)
    draws = generator(0)
    shares = torch.tensor(
        [share_of(mix_clips(clips, targets, mixup_alpha=0.8, cutmix_alpha=0, draws=draws)[1]) for _ in range(500)]
    )
    assert float(shares.mean()) == pytest.approx(0.5, abs=0.05)
    assert float(shares.var()) == pytest.approx(1 / (4 * 2.6), abs=0.015)


@pytest.mark.parametrize("alphas", [{"mixup_alpha": 1, "cutmix_alpha": 0}, {"mixup_alpha": 0, "cutmix_alpha": 1}])
def test_bytes_are_mixed_as_other_numbers_are(alphas: dict[str, float]) -> None:
    clips, targets = batch()
    clips = (clips * 50 + 120).clamp(0, 255).to(torch.uint8)
    mixed, mixed_targets = mix_clips(clips, targets, draws=generator(3), **alphas)
    expected, expected_targets = mix_clips(clips.float(), targets, draws=generator(3), **alphas)
    assert mixed.dtype == (torch.float32 if alphas["mixup_alpha"] else torch.uint8)
    assert torch.equal(mixed.float(), expected)
    assert torch.equal(mixed_targets, expected_targets)
    assert not torch.equal(mixed.float(), clips.float())


def test_a_pair_is_mixed_the_same_in_any_batch_that_holds_it() -> None:
    """So a step is the same however it is divided over passes and processes."""
    clips = torch.randn(8, 3, 2, 16, 16, generator=generator(0))
    targets = soft_targets(torch.arange(8) % NUM_CLASSES, NUM_CLASSES)
    seeds = seeds_of_clips(0, 0, range(8))
    for step_seed in range(4):  # both kinds come up
        both = {"mixup_alpha": 0.8, "cutmix_alpha": 1.0}
        whole = mix_clips(clips, targets, draws=ClipDraws(seeds, step_seed), **both)
        for part in (slice(0, 2), slice(2, 6), slice(6, 8)):
            some = mix_clips(clips[part], targets[part], draws=ClipDraws(seeds[part], step_seed), **both)
            assert torch.equal(some[0], whole[0][part])
            assert torch.equal(some[1], whole[1][part])


def test_clips_of_one_video_are_not_partners() -> None:
    clips, targets = batch(4)
    _, mixed = mix_clips(clips, targets, mixup_alpha=1.0, cutmix_alpha=0.0, draws=generator(0), clips_per_video=2)
    assert (mixed > 0).tolist() == [[i % 2 == j % 2 for j in range(4)] for i in range(4)]


def test_what_cannot_be_mixed_is_refused() -> None:
    clips, targets = batch()
    with pytest.raises(DataError, match="floating-point or uint8"):
        mix_clips(clips.long(), targets, mixup_alpha=1, cutmix_alpha=0, draws=generator(0))
    with pytest.raises(DataError, match=r"\[4, 3, 2, 16, 24\]"):
        mix_clips(clips, targets[:2], mixup_alpha=1, cutmix_alpha=0, draws=generator(0))
