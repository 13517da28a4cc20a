"""Each operation treats all frames alike and grows with its strength."""

import pytest
import torch
from torch import Tensor

from everest.config import AugmentConfig
from everest.video import tensor_operations
from everest.video.rand_augment import OPERATIONS, apply_operation, draw_operations

WITHOUT_STRENGTH = {"auto_contrast", "equalize", "invert"}


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def clip() -> Tensor:
    """A rough picture that moves by a pixel a frame, values 40 to 210, [C,T,H,W]."""
    y, x = torch.meshgrid(torch.arange(32), torch.arange(40), indexing="ij")
    frames = [torch.stack([40 + 4 * x, 50 + 4 * (y + t), 60 + 2 * (x + y)]) for t in range(4)]
    noise = torch.randint(11, (3, 4, 32, 40), generator=seeded(0))
    return (torch.stack(frames, 1).clamp(0, 200) + noise).to(torch.uint8)


@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_keep_form_and_treat_frames_alike(name: str, clip: Tensor) -> None:
    still = clip[:, :1].expand_as(clip)
    before = still.clone()
    out = apply_operation(still, name, 0.6)
    assert out.shape == clip.shape
    assert out.dtype == torch.uint8
    assert torch.equal(out, out[:, :1].expand_as(out))
    assert torch.equal(still, before)
    assert not torch.equal(out, still)


@pytest.mark.parametrize("name", sorted(set(OPERATIONS) - WITHOUT_STRENGTH))
def test_strength_is_the_size_of_the_change(name: str, clip: Tensor) -> None:
    changes = [float((apply_operation(clip, name, s).float() - clip.float()).abs().mean()) for s in (0.0, 0.3, 1.0)]
    assert changes[0] == 0
    assert changes[0] < changes[1] < changes[2]


@pytest.mark.parametrize("name", ["auto_contrast", "equalize", "contrast"])
def test_tables_that_depend_on_the_content_are_those_of_the_whole_clip(name: str, clip: Tensor) -> None:
    out = apply_operation(clip, name, 0.7)
    for channel in range(3):
        for value in clip[channel].unique():
            mapped = out[channel][clip[channel] == value]
            assert (mapped == mapped[0]).all()


def test_directions_are_opposite(clip: Tensor) -> None:
    darker, brighter = (apply_operation(clip, "brightness", s).float().mean() for s in (-0.5, 0.5))
    assert darker < clip.float().mean() < brighter
    moved = apply_operation(clip, "translate_x", 0.25 / 0.45)  # a quarter of 40 pixels
    assert torch.equal(moved[..., :30], clip[..., 10:])
    assert (moved[..., 30:] == 128).all()


def test_nothing_is_drawn_without_operations_or_chance() -> None:
    for config in (AugmentConfig(), AugmentConfig(rand_augment_ops=4, rand_augment_probability=0.0)):
        assert draw_operations(config, seeded(0)) == ()


def test_operations_are_drawn_at_the_given_rate_and_magnitude() -> None:
    config = AugmentConfig(rand_augment_ops=4, rand_augment_magnitude=7, rand_augment_probability=0.5)
    generator = seeded(0)
    applied = [operation for _ in range(500) for operation in draw_operations(config, generator)]
    strengths = torch.tensor([s for _, s in applied])
    assert 900 < len(applied) < 1100
    assert {name for name, _ in applied} == set(OPERATIONS)
    assert abs(float(strengths.abs().mean()) - 0.7) < 0.01
    assert abs(float(strengths.abs().std()) - 0.5 / 10) < 0.005
    assert 0.4 < float((strengths > 0).float().mean()) < 0.6


def test_values_are_counted_alike_on_every_device(clip: Tensor) -> None:
    assert torch.equal(tensor_operations._count_without_waiting(clip), tensor_operations._count(clip))
