"""Augmentation never makes motion, and is decided by its generator alone."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from everest.config import AugmentConfig
from everest.video.augment import (
    ClipChanges,
    ErasedBox,
    augment_clip,
    center_box,
    change_clip,
    change_clips_on_device,
    crop_clip,
    draw_changes,
    erase,
    erased_box,
    multi_scale_box,
    random_resized_box,
)

sides = st.integers(2, 400)
aspects = st.sampled_from([1.0, 0.5, 16 / 9])
seeds = st.integers(0, 10_000)
CONFIGS = {
    "pretrain": AugmentConfig(),
    "finetune": AugmentConfig(crop="random_resized", flip=True, rand_augment_ops=4, erase_probability=1.0),
    "strong": AugmentConfig(flip=True, rand_augment_ops=6, rand_augment_magnitude=10, rand_augment_probability=1.0),
    "plain": AugmentConfig(crop="center"),
}


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def picture(T: int = 1, H: int = 48, W: int = 64) -> Tensor:
    """A still clip of noise, [C,T,H,W]."""
    image = torch.randint(0, 256, (3, 1, H, W), dtype=torch.uint8, generator=seeded(1))
    return image.expand(3, T, H, W)


@pytest.mark.parametrize("name", CONFIGS)
def test_the_generator_decides_everything(name: str) -> None:
    clip = torch.randint(0, 256, (3, 4, 48, 64), dtype=torch.uint8, generator=seeded(0))
    before = clip.clone()
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = augment_clip(clip, CONFIGS[name], 32, 40, seeded(7))
    assert torch.equal(torch.get_rng_state(), state)  # the global generator is left alone
    torch.manual_seed(2)
    assert torch.equal(first, augment_clip(clip, CONFIGS[name], 32, 40, seeded(7)))
    assert torch.equal(clip, before)
    assert first.shape == (3, 4, 32, 40)
    assert first.dtype == torch.uint8
    assert first.is_contiguous()
    others = [augment_clip(clip, CONFIGS[name], 32, 40, seeded(s)) for s in range(5)]
    assert any(not torch.equal(first, other) for other in others) == (name != "plain")


@pytest.mark.parametrize("name", ["pretrain", "strong", "plain"])
@given(seed=seeds)
@settings(max_examples=25, deadline=None)
def test_a_still_clip_stays_still(name: str, seed: int) -> None:
    out = augment_clip(picture(T=4), CONFIGS[name], 32, 32, seeded(seed))
    assert torch.equal(out, out[:, :1].expand_as(out))


@given(sides, sides, aspects, seeds)
def test_boxes_lie_inside_the_frame(H: int, W: int, aspect: float, seed: int) -> None:
    generator = seeded(seed)
    for top, left, h, w in (
        center_box(H, W, aspect),
        multi_scale_box(H, W, (1.0, 0.875, 0.75, 0.66), aspect, generator),
        random_resized_box(H, W, 0.08, aspect, generator),
    ):
        assert top >= 0
        assert left >= 0
        assert h >= 1
        assert w >= 1
        assert top + h <= H
        assert left + w <= W


def test_multi_scale_takes_the_scales_of_the_short_side_at_thirteen_places() -> None:
    boxes = [multi_scale_box(240, 320, (1.0, 0.875, 0.75, 0.66), 1.0, seeded(s)) for s in range(600)]
    heights, widths = {b[2] for b in boxes}, {b[3] for b in boxes}
    assert heights == widths == {240, 210, 180, 158}
    ladder = [240, 210, 180, 158]
    assert all(abs(ladder.index(b[2]) - ladder.index(b[3])) <= 1 for b in boxes)
    assert {b[:2] for b in boxes if b[2:] == (180, 180)} == {
        *((r, c) for r in (0, 30, 60) for c in (0, 70, 140)),
        *((r, c) for r in (15, 45) for c in (35, 105)),
    }


def test_random_resized_covers_its_range_of_areas_and_shapes() -> None:
    boxes = [random_resized_box(300, 400, 0.25, 1.0, seeded(s)) for s in range(1000)]
    areas = torch.tensor([h * w / 120_000 for _, _, h, w in boxes])
    shapes = torch.tensor([w / h for _, _, h, w in boxes])
    assert 0.24 < areas.min() < 0.28
    assert 0.9 < areas.max() <= 1.0
    assert 0.74 < shapes.min() < 0.78
    assert 1.28 < shapes.max() < 1.35
    assert random_resized_box(2, 400, 1.0, 1.0, seeded(0)) == (0, 199, 2, 2)  # nothing fits: the centre


def test_centre_crop_keeps_the_middle() -> None:
    clip = picture(T=2, H=40, W=60)
    assert torch.equal(augment_clip(clip, CONFIGS["plain"], 40, 40, seeded(0)), clip[..., 10:50])


def test_half_of_the_clips_are_mirrored() -> None:
    clip = picture(H=32, W=32)
    config = AugmentConfig(crop="center", flip=True)
    generator = seeded(0)
    outs = [augment_clip(clip, config, 32, 32, generator) for _ in range(200)]
    mirrored = sum(torch.equal(out, clip.flip(-1)) for out in outs)
    assert mirrored + sum(torch.equal(out, clip) for out in outs) == 200
    assert 70 < mirrored < 130


@given(seeds)
@settings(deadline=None)
def test_erasing_overwrites_one_box_in_all_frames(seed: int) -> None:
    clip = torch.zeros(3, 4, 64, 48, dtype=torch.uint8)
    drawn = erased_box(64, 48, seeded(seed))
    assert drawn is not None
    erased = erase(clip, drawn) != 0
    touched = erased.any(0)  # [T,H,W]; noise may hit 0 in a channel, hardly in all three and a whole row
    rows, columns = (touched.any(0).any(dim).nonzero().flatten() for dim in (1, 0))
    h, w = int(rows.max() - rows.min()) + 1, int(columns.max() - columns.min()) + 1
    assert 0.01 < h * w / (64 * 48) < 0.36
    assert (h, w) == (drawn.height, drawn.width)
    box = touched[:, rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    assert box.float().mean() > 0.9
    assert torch.equal(touched.sum(), box.sum())


def test_erased_noise_is_standard_normal_after_normalisation_and_new_in_every_frame() -> None:
    mean, std = (torch.tensor(v).view(3, 1, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    clip = torch.full((3, 8, 128, 128), 7, dtype=torch.uint8)
    out = erase(clip, ErasedBox(10, 20, 60, 50, seed=3))
    assert not torch.equal(out, erase(clip, ErasedBox(10, 20, 60, 50, seed=4)))
    box = (out != 7).any(0).any(0)
    values = ((out[:, :, box].float() / 255).unsqueeze(-1) - mean) / std
    assert abs(float(values.mean())) < 0.05
    assert 0.9 < float(values.std()) < 1.0  # a little below 1: uint8 cuts the tails off
    assert not torch.equal(out[:, 0], out[:, 1])


def test_erasing_happens_as_often_as_asked() -> None:
    clip = torch.zeros(3, 1, 32, 32, dtype=torch.uint8)
    config = AugmentConfig(crop="center", erase_probability=0.25)
    generator = seeded(0)
    count = sum(bool(augment_clip(clip, config, 32, 32, generator).any()) for _ in range(400))
    assert 70 < count < 130


@pytest.mark.parametrize("name", CONFIGS)
def test_what_is_drawn_can_be_done_later(name: str) -> None:
    clip = torch.randint(0, 256, (3, 4, 48, 64), dtype=torch.uint8, generator=seeded(0))
    generator = seeded(5)
    cropped = crop_clip(clip, CONFIGS[name], 32, 40, generator)
    changes = draw_changes(CONFIGS[name], 32, 40, generator)
    assert torch.equal(change_clip(cropped, changes), augment_clip(clip, CONFIGS[name], 32, 40, seeded(5)))


@pytest.mark.parametrize("name", CONFIGS)
def test_the_device_does_what_the_workers_do(name: str) -> None:
    clips = torch.stack([picture(4, 32, 40), picture(4, 32, 40).flip(-1)])
    changes = [draw_changes(CONFIGS[name], 32, 40, seeded(s)) for s in (1, 2)]
    before = clips.clone()
    out = change_clips_on_device(clips, changes)
    assert torch.equal(clips, before)
    assert out.shape == clips.shape
    assert out.dtype == torch.uint8
    for clip, change, changed in zip(clips, changes, out, strict=True):
        difference = (changed.int() - change_clip(clip, change).int()).abs()
        assert float((difference > 0).float().mean()) < 0.05  # a last bit that later operations may stretch
    with torch.autocast("cpu", dtype=torch.bfloat16):  # where a training step may be
        assert torch.equal(change_clips_on_device(clips, changes), out)
    assert change_clips_on_device(clips, ()) is clips
    assert change_clips_on_device(clips, [ClipChanges()] * 2) is clips
    with pytest.raises(ValueError, match="shorter"):
        change_clips_on_device(clips, [ClipChanges((("invert", 1.0),))])
