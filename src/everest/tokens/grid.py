"""How a clip is cut into tokens.

A token is one tubelet: ``tubelet_size`` frames of one ``patch_size`` x ``patch_size`` square. Tokens are numbered slot
by slot, and inside a slot row by row: token = (slot * num_rows + row) * num_columns + column.

Shapes: B clips, T frames, H height, W width, N tokens, K some of them, D any width, P pixels of a tubelet in the order
(channel, frame, row, column).
"""

from dataclasses import dataclass

from torch import Tensor

from everest.errors import SelectionError


@dataclass(frozen=True)
class TokenGrid:
    """The places of a clip's tokens in time and space."""

    num_slots: int  # tubelets in time, t
    num_rows: int  # tubelets from top to bottom, h
    num_columns: int  # tubelets from left to right, w
    tubelet_size: int  # frames of a tubelet, tau
    patch_size: int  # height and width of a tubelet in pixels, p

    def __post_init__(self) -> None:
        if min(*self.shape, self.tubelet_size, self.patch_size) < 1:
            raise SelectionError(f"every size of a token grid must be at least 1, given: {self}")

    @classmethod
    def of_clip(cls, num_frames: int, height: int, width: int, tubelet_size: int, patch_size: int) -> "TokenGrid":
        """Cut a clip of the given size; SelectionError if a size is not a multiple of the tubelet's."""
        sizes = {"frames": num_frames, "pixels of height": height, "pixels of width": width}
        for (name, size), unit in zip(sizes.items(), (tubelet_size, patch_size, patch_size), strict=True):
            if unit < 1 or size < unit or size % unit:
                near = max(unit, size - size % max(unit, 1))
                raise SelectionError(
                    f"{size} {name} cannot be cut into tubelets of {unit}: use a multiple, such as {near}"
                )
        return cls(num_frames // tubelet_size, height // patch_size, width // patch_size, tubelet_size, patch_size)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Slots, rows, columns."""
        return self.num_slots, self.num_rows, self.num_columns

    @property
    def tokens_per_slot(self) -> int:
        """Tokens in one time slot, L."""
        return self.num_rows * self.num_columns

    @property
    def num_tokens(self) -> int:
        """Tokens of a clip, N."""
        return self.num_slots * self.tokens_per_slot

    @property
    def num_pixels(self) -> int:
        """Values of an RGB tubelet, P."""
        return 3 * self.tubelet_size * self.patch_size**2

    @property
    def clip_shape(self) -> tuple[int, int, int]:
        """Frames, height and width of the clip."""
        tau, p = self.tubelet_size, self.patch_size
        return self.num_slots * tau, self.num_rows * p, self.num_columns * p

    def __repr__(self) -> str:
        cut = f"{self.tubelet_size}x{self.patch_size}x{self.patch_size}"
        return f"TokenGrid({'x'.join(map(str, self.shape))} tokens of {cut})"


def patchify(clips: Tensor, grid: TokenGrid) -> Tensor:
    """Cut clips of shape [B, 3, T, H, W] into tubelets of shape [B, N, P]; SelectionError if the grid's is another."""
    _expect(clips, [3, *grid.clip_shape], grid)
    (t, h, w), tau, p = grid.shape, grid.tubelet_size, grid.patch_size
    patches = clips.reshape(-1, 3, t, tau, h, p, w, p).permute(0, 2, 4, 6, 1, 3, 5, 7)  # [B, t, h, w, 3, tau, p, p]
    return patches.reshape(-1, grid.num_tokens, grid.num_pixels)  # [B, N, P]


def unpatchify(patches: Tensor, grid: TokenGrid) -> Tensor:
    """Put tubelets of shape [B, N, P] together to clips of shape [B, 3, T, H, W]: the inverse of :func:`patchify`."""
    _expect(patches, [grid.num_tokens, grid.num_pixels], grid)
    (t, h, w), tau, p = grid.shape, grid.tubelet_size, grid.patch_size
    clips = patches.reshape(-1, t, h, w, 3, tau, p, p).permute(0, 4, 1, 5, 2, 6, 3, 7)  # [B, 3, t, tau, h, p, w, p]
    return clips.reshape(-1, 3, *grid.clip_shape)  # [B, 3, T, H, W]


def gather_tokens(values: Tensor, index: Tensor) -> Tensor:
    """Take tokens by number: [B, N, D], or [1, N, D] for the same of every clip, and [B, K] int64 to [B, K, D].

    One row of numbers, [1, K], counts through the tokens of all clips.
    """
    values = values.reshape(1, -1, values.shape[-1]) if len(index) == 1 else values  # [1, B * N, D]
    values = values.expand(len(index), -1, -1)
    return values.gather(1, index.unsqueeze(-1).expand(-1, -1, values.shape[-1]))  # [B, K, D]


def _expect(values: Tensor, shape: list[int], grid: TokenGrid) -> None:
    if list(values.shape[1:]) != shape:
        raise SelectionError(f"{grid} needs shape [B, {', '.join(map(str, shape))}], given: {list(values.shape)}")
