"""Laws of cutting clips into tokens.

Shapes: B clips, T frames, H height, W width, N tokens, P pixels of a tubelet (channel, frame, row, column).
"""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from everest.errors import SelectionError
from everest.tokens import TokenGrid, gather_tokens, patchify, unpatchify

SIZES = st.integers(1, 4)
GRIDS = st.builds(TokenGrid, SIZES, SIZES, SIZES, st.sampled_from([1, 2, 4]), SIZES)
laws = settings(max_examples=40, deadline=None, derandomize=True)


def numbered_clips(batch: int, grid: TokenGrid) -> Tensor:
    """Clips in which no two values are the same."""
    shape = (batch, 3, *grid.clip_shape)
    return torch.arange(torch.Size(shape).numel()).reshape(shape)


@laws
@given(GRIDS, st.integers(1, 3))
def test_unpatchify_undoes_patchify(grid: TokenGrid, batch: int) -> None:
    clips = numbered_clips(batch, grid)
    patches = patchify(clips, grid)
    assert patches.shape == (batch, grid.num_tokens, grid.num_pixels)
    assert torch.equal(unpatchify(patches, grid), clips)
    assert torch.equal(patchify(unpatchify(patches, grid), grid), patches)


@laws
@given(GRIDS, st.data())
def test_every_pixel_is_where_the_two_orders_say(grid: TokenGrid, data: st.DataObject) -> None:
    clips = numbered_clips(2, grid)
    frames, height, width = grid.clip_shape
    b, c = data.draw(st.integers(0, 1)), data.draw(st.integers(0, 2))
    f, y, x = (data.draw(st.integers(0, size - 1)) for size in (frames, height, width))
    tau, p = grid.tubelet_size, grid.patch_size
    token = (f // tau * grid.num_rows + y // p) * grid.num_columns + x // p
    pixel = ((c * tau + f % tau) * p + y % p) * p + x % p
    assert patchify(clips, grid)[b, token, pixel] == clips[b, c, f, y, x]


def test_tokens_run_slot_by_slot_and_row_by_row_and_pixels_channel_by_channel() -> None:
    grid = TokenGrid(num_slots=2, num_rows=1, num_columns=2, tubelet_size=2, patch_size=2)
    c, f, y, x = torch.meshgrid(*(torch.arange(size) for size in (3, 4, 2, 4)), indexing="ij")
    clip = 1000 * c + 100 * f + 10 * y + x  # a pixel reads as its channel, frame, row, column
    first = [0, 1, 10, 11, 100, 101, 110, 111]  # channel 0 of the first token: two frames of two rows
    patches = patchify(clip[None], grid)
    assert patches.shape == (1, 4, 24)
    assert patches[0, 0].tolist() == [channel + value for channel in (0, 1000, 2000) for value in first]
    assert patches[0, :, 0].tolist() == [0, 2, 200, 202]  # right of it, then the two of the second slot


@pytest.mark.parametrize(
    ("clip", "unit", "shape", "num_pixels"),
    [
        ((16, 224, 224), (2, 16), (8, 14, 14), 1536),
        ((8, 96, 128), (1, 8), (8, 12, 16), 192),
        ((24, 96, 128), (2, 8), (12, 12, 16), 384),
        ((32, 48, 80), (4, 16), (8, 3, 5), 3072),
    ],
)
def test_any_size_can_be_cut(
    clip: tuple[int, int, int], unit: tuple[int, int], shape: tuple[int, int, int], num_pixels: int
) -> None:
    grid = TokenGrid.of_clip(*clip, *unit)
    assert grid.shape == shape
    assert grid.clip_shape == clip
    assert grid.num_tokens == shape[0] * grid.tokens_per_slot == shape[0] * shape[1] * shape[2]
    assert grid.num_pixels == num_pixels
    assert repr(grid) == f"TokenGrid({'x'.join(map(str, shape))} tokens of {unit[0]}x{unit[1]}x{unit[1]})"


@pytest.mark.parametrize(
    ("clip", "named"),
    [
        ((15, 224, 224), "15 frames cannot be cut into tubelets of 2: use a multiple, such as 14"),
        ((16, 250, 224), "250 pixels of height cannot be cut into tubelets of 16: use a multiple, such as 240"),
        ((16, 224, 100), "100 pixels of width cannot be cut into tubelets of 16: use a multiple, such as 96"),
        ((1, 224, 224), "1 frames cannot be cut into tubelets of 2: use a multiple, such as 2"),
        ((16, 0, 224), "0 pixels of height cannot be cut into tubelets of 16: use a multiple, such as 16"),
    ],
)
def test_a_size_that_does_not_divide_is_named(clip: tuple[int, int, int], named: str) -> None:
    with pytest.raises(SelectionError) as caught:
        TokenGrid.of_clip(*clip, tubelet_size=2, patch_size=16)
    assert str(caught.value) == named


@pytest.mark.parametrize("place", range(5))
def test_a_grid_has_no_empty_side(place: int) -> None:
    sizes = [2] * 5
    sizes[place] = 0
    with pytest.raises(SelectionError, match="at least 1"):
        TokenGrid(*sizes)


def test_a_clip_of_another_size_is_refused() -> None:
    grid = TokenGrid(2, 3, 4, 2, 2)
    for shape in ((1, 3, 4, 6, 6), (1, 1, 4, 6, 8), (3, 4, 6, 8)):
        with pytest.raises(SelectionError, match=r"needs shape \[B, 3, 4, 6, 8\], given: "):
            patchify(torch.zeros(shape), grid)
    for shape in ((1, 23, 24), (1, 24, 23), (24, 24)):
        with pytest.raises(SelectionError, match=r"needs shape \[B, 24, 24\], given: "):
            unpatchify(torch.zeros(shape), grid)


def test_tokens_are_taken_by_number_from_each_clip() -> None:
    values = torch.arange(2 * 5 * 3).reshape(2, 5, 3)
    index = torch.tensor([[4, 0], [1, 1]])
    taken = gather_tokens(values, index)
    assert torch.equal(taken, torch.stack([values[0, [4, 0]], values[1, [1, 1]]]))


def test_one_table_serves_all_clips() -> None:
    table = torch.randn(1, 5, 3)
    index = torch.tensor([[4, 0], [1, 2], [3, 3]])
    assert torch.equal(gather_tokens(table, index), table[0][index])
