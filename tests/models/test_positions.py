"""The fixed positions against their formula and against recorded tables."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from everest.models.positions import sine_positions

RECORDED = Path(__file__).parents[1] / "data" / "release_mini" / "pos_embed.safetensors"


@pytest.mark.parametrize(("num_tokens", "width"), [(1568, 384), (60, 24), (7, 6)])
def test_positions_are_sines_and_cosines_of_falling_rates(num_tokens: int, width: int) -> None:
    table = np.empty((num_tokens, width))
    for pair in range(width // 2):
        angle = np.arange(num_tokens) / 10000 ** (2 * pair / width)
        table[:, 2 * pair] = np.sin(angle)
        table[:, 2 * pair + 1] = np.cos(angle)
    positions = sine_positions(num_tokens, width)
    assert positions.shape == (1, num_tokens, width)
    assert positions.dtype == torch.float32
    np.testing.assert_allclose(positions[0].numpy(), table, rtol=0, atol=1e-7)


def test_a_table_starts_with_zeros_and_ones() -> None:
    assert sine_positions(3, 4)[0, 0].tolist() == [0.0, 1.0, 0.0, 1.0]


@pytest.mark.parametrize("name", ["encoder_pos_embed", "decoder_pos_embed", "finetune_pos_embed"])
def test_positions_are_those_of_the_release(name: str) -> None:
    recorded = load_file(RECORDED)[name]
    assert torch.equal(sine_positions(*recorded.shape[1:]), recorded)


def test_every_token_has_its_own_position() -> None:
    assert len(torch.unique(sine_positions(1568, 384)[0], dim=0)) == 1568
