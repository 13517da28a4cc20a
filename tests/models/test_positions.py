"""The fixed positions against their formula and against recorded tables."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from everest.errors import ConfigError
from everest.models import Encoder
from everest.models.positions import interpolate_positions, position_table, sine_3d_positions, sine_positions
from everest.tokens import TokenGrid

RECORDED = Path(__file__).parents[1] / "data" / "release_mini" / "pos_embed.safetensors"
INTERPOLATED = Path(__file__).parents[1] / "data" / "weights" / "pos_embed_interpolation.safetensors"


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


def test_positions_in_three_dimensions_are_waves_of_slot_column_and_row() -> None:
    shape, width = (3, 2, 4), 32
    table = sine_3d_positions(shape, width)
    assert table.shape == (1, 24, width)
    for slot, row, column in ((0, 0, 0), (2, 1, 3), (1, 0, 2)):
        parts = []
        for index, part in ((slot, 8), (column, 12), (row, 12)):
            angles = index / 10000 ** (np.arange(part // 2) / (part // 2))
            parts += [np.sin(angles), np.cos(angles)]
        token = (slot * 2 + row) * 4 + column
        np.testing.assert_allclose(table[0, token].numpy(), np.concatenate(parts), rtol=0, atol=1e-7)


def test_a_width_that_cannot_be_shared_out_is_refused() -> None:
    with pytest.raises(ConfigError, match="width that 16 divides, given: 24"):
        position_table("sine_3d", (2, 2, 2), 24)


def test_a_table_is_stretched_in_space_as_the_release_does() -> None:
    recorded = load_file(INTERPOLATED)
    stretched = interpolate_positions(recorded["pos_embed_in_64"], (8, 4, 4), (8, 6, 6))
    torch.testing.assert_close(stretched, recorded["pos_embed_out_96"], rtol=0, atol=1e-6)


def test_a_table_is_stretched_in_time_without_leaving_its_range() -> None:
    table = torch.arange(4.0).repeat_interleave(6).reshape(1, 24, 1)  # what a slot says is its number
    stretched = interpolate_positions(table, (4, 2, 3), (8, 2, 3)).reshape(8, 6)
    assert torch.equal(stretched, stretched[:, :1].expand(8, 6))
    assert stretched[:, 0].tolist() == [0.0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3.0]
    assert torch.equal(interpolate_positions(table, (4, 2, 3), (4, 2, 3)), table)


@pytest.mark.parametrize("kind", ["sine", "sine_3d"])
def test_an_encoder_has_the_table_of_another_grid(kind: str) -> None:
    grid = TokenGrid(num_slots=4, num_rows=6, num_columns=6, tubelet_size=2, patch_size=4)
    own = Encoder(grid, width=32, depth=1, num_heads=2, kind=kind)  # type: ignore[arg-type]
    other = Encoder(grid, width=32, depth=1, num_heads=2, kind=kind, made_for=(4, 4, 4))  # type: ignore[arg-type]
    table = position_table(kind, (4, 4, 4), 32)  # type: ignore[arg-type]
    assert torch.equal(other.positions, interpolate_positions(table, (4, 4, 4), (4, 6, 6)))
    assert own.positions.shape == other.positions.shape
    assert not torch.allclose(own.positions, other.positions, atol=0.1)
    assert own.state_dict().keys() == other.state_dict().keys()
