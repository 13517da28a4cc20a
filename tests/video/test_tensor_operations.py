"""Pillow is the oracle: the same operations on tensors give the same pictures."""

import pytest
import torch
from torch import Tensor

from everest.datasets import load_data
from everest.video import VideoReader
from everest.video.rand_augment import OPERATIONS, apply_operation
from everest.video.tensor_operations import apply_operation_on_device

ON_GEOMETRY = {"rotate", "shear_x", "shear_y", "translate_x", "translate_y"}
STRENGTHS = (-1.0, -0.9, -0.313, 0.0, 0.05, 0.5, 0.87, 1.0)


@pytest.fixture(scope="module")
def real() -> Tensor:
    """Frames of a real clip, of odd size, [C,T,H,W]."""
    with VideoReader(load_data("bundled").records[0].source) as reader:
        return reader.read([0, 9, 18]).frames.permute(3, 0, 1, 2)[:, :, :97, :113]


def clips(real: Tensor) -> dict[str, Tensor]:
    noise = torch.randint(256, (3, 2, 31, 45), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    return {
        "real": real,
        "noise": noise,
        "dull": noise // 9 + 60,
        "one value": torch.full((3, 1, 8, 8), 77, dtype=torch.uint8),
        "black": torch.zeros(3, 2, 9, 7, dtype=torch.uint8),
        "tiny": noise[:, :, :2, :2],
        "few values": noise[:, :1, :16, :20] // 128 * 128,
    }


@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_give_what_pillow_gives(name: str, real: Tensor) -> None:
    for kind, clip in clips(real).items():
        before = clip.clone()
        for strength in STRENGTHS:
            expected = apply_operation(clip, name, strength)
            found = apply_operation_on_device(clip, name, strength)
            assert found.dtype == torch.uint8
            assert found.shape == clip.shape
            difference = (found.int() - expected.int()).abs()
            case = f"{name} {strength} on {kind}: largest difference {int(difference.max())}"
            if name in ON_GEOMETRY:
                assert int(difference.max()) <= 1, case
                assert float((difference > 0).float().mean()) < 0.06, case
            else:
                assert torch.equal(found, expected), case
        assert torch.equal(clip, before)


def test_every_operation_is_there() -> None:
    with pytest.raises(KeyError):
        apply_operation_on_device(torch.zeros(3, 1, 4, 4, dtype=torch.uint8), "nonsense", 0.5)
