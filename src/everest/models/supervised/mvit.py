"""MViT, version 1: pooling attention (Fan et al., ICCV 2021, "Multiscale Vision Transformers").

The grid of tokens gets coarser and the channels more numerous from stage to stage. Queries are pooled where a stage
begins, keys and values everywhere, so that there are always few of them. Pooling is a convolution of every channel by
itself, the same for all heads, and a norm; the class token is not pooled. Channels grow in the last MLP of a stage.

Shapes: B clips, N tokens of our grid, P pixels of a tubelet, K tokens of a stage without the class token, t slots, r
rows, c columns of a stage (K = t * r * c), D width, h heads, d width of a head.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from everest.models.layers import growing_drop_path
from everest.models.products import Linear
from everest.models.supervised.attention import SupervisedBlock, make_norm
from everest.models.supervised.base import WholeClipEncoder
from everest.models.supervised.places import LearnedPlaces
from everest.models.tubelets import Tubelets
from everest.tokens import TokenGrid, TokenSelection

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class MViTLayout:
    """The stages of an MViT.

    Attributes:
        width: Channels of the first stage; each further one has twice as many, and twice as many heads.
        depths: Blocks of each stage.
        kernel, stride, padding: Of the convolution that embeds, in frames, rows, columns.
        kv_stride: Of the pooling of keys and values over rows and columns in the first stage; halved in each further.
    """

    width: int
    depths: tuple[int, ...]
    kernel: Shape
    stride: Shape
    padding: Shape
    kv_stride: int

    def narrowed(self, factor: int) -> "MViTLayout":
        """The same with fewer channels, for CPUs and tests."""
        return MViTLayout(self.width // factor, self.depths, self.kernel, self.stride, self.padding, self.kv_stride)


MVIT_S = MViTLayout(128, (3, 7, 6), (3, 8, 8), (2, 8, 8), (1, 0, 0), 4)
MVIT_B = MViTLayout(96, (1, 2, 11, 2), (3, 7, 7), (2, 4, 4), (1, 3, 3), 8)


class Pool(nn.Module):
    """Pools the tokens of each head: a convolution of every channel by itself, then a norm."""

    def __init__(self, width: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(width, width, 3, stride=(1, stride, stride), padding=1, groups=width, bias=False)
        self.norm = make_norm(width)

    def forward(self, x: Tensor, shape: Shape) -> tuple[Tensor, Shape]:
        """Pool all but the class token.

        Args:
            x: Class token, then tokens, shape [B, h, 1 + K, d].
            shape: t, r, c.

        Returns:
            The fewer tokens, and their shape.
        """
        pooled, shape = _on_grid(x, shape, self._convolve)
        return self.norm(pooled), shape

    def _convolve(self, grid: Tensor) -> Tensor:
        """Convolve each channel by itself; on a CPU in float32, as torch 2.13 (oneDNN) gets bfloat16 wrong.

        The gradient of the weights of so small a grid then holds memory that nobody wrote, which may be NaN.
        """
        if grid.device.type != "cpu":
            return self.conv(grid)  # type: ignore[no-any-return]
        with torch.autocast("cpu", enabled=False):
            return self.conv(grid.float()).to(grid.dtype)  # type: ignore[no-any-return]


class PoolingAttention(nn.Module):
    """Attention of pooled queries over pooled keys and values.

    Args:
        width: D.
        num_heads: h.
        q_stride: Over rows and columns; 1 leaves queries as they are.
        kv_stride: Over rows and columns; keys and values are convolved with 1 as well.
    """

    def __init__(self, width: int, num_heads: int, q_stride: int, kv_stride: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = Linear(width, 3 * width)  # with a bias for keys: it does not cancel, for it is pooled
        self.pool_q = Pool(width // num_heads, q_stride) if q_stride > 1 else None
        self.pool_k = Pool(width // num_heads, kv_stride)
        self.pool_v = Pool(width // num_heads, kv_stride)
        self.proj = Linear(width, width)

    def forward(self, x: Tensor, shape: Shape) -> tuple[Tensor, Shape]:
        """Mix tokens: [B, 1 + K, D] to the tokens of the pooled queries and their shape."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)  # each [B, h, 1 + K, d]
        k, v = self.pool_k(k, shape)[0], self.pool_v(v, shape)[0]
        if self.pool_q is not None:
            q, shape = self.pool_q(q, shape)
        mixed = F.scaled_dot_product_attention(q, k, v)
        return self.proj(mixed.transpose(1, 2).flatten(2)), shape


class PoolingBlock(SupervisedBlock):
    """Pooling attention and MLP, each added to its input, which is pooled and widened with it.

    Args:
        width: D.
        out_width: D of the next block.
        num_heads: h.
        q_stride: Over rows and columns, for queries and for what they are added to.
        kv_stride: Over rows and columns, for keys and values.
        drop_path: Probability of skipping a branch for a clip, in training.
    """

    def __init__(
        self, width: int, out_width: int, *, num_heads: int, q_stride: int, kv_stride: int, drop_path: float = 0.0
    ) -> None:
        super().__init__(drop_path)
        self.norm1 = make_norm(width)
        self.attn = PoolingAttention(width, num_heads, q_stride, kv_stride)
        self.norm2 = make_norm(width)
        self.mlp = nn.Sequential(Linear(width, 4 * width), nn.GELU(), Linear(4 * width, out_width))
        self.widen = Linear(width, out_width) if width != out_width else None
        size, stride = q_stride + 1, (1, q_stride, q_stride)
        self.pool = nn.MaxPool3d((1, size, size), stride, (0, size // 2, size // 2)) if q_stride > 1 else None

    def forward(self, x: Tensor, shape: Shape) -> tuple[Tensor, Shape]:
        """One layer: [B, 1 + K, D], and the same of what comes out, with its shape."""
        mixed, pooled_shape = self.attn(self.norm1(x), shape)
        if self.pool is not None:
            x = _on_grid(x.unsqueeze(1), shape, self.pool)[0].squeeze(1)
        x = x + self.skip1(mixed)
        normal = self.norm2(x)
        x = x if self.widen is None else self.widen(normal)
        return x + self.skip2(self.mlp(normal)), pooled_shape


class MViT(WholeClipEncoder):
    """A pyramid of pooling attention over whole clips.

    Args:
        grid: The tokens of a clip as everybody else cuts it; here only its size in frames and pixels matters.
        layout: Stages.
        drop_path: Of the last block.
    """

    def __init__(self, grid: TokenGrid, layout: MViTLayout, *, drop_path: float = 0.0) -> None:
        super().__init__(grid, width=layout.width, num_heads=1)
        del self.patch_embed  # its tubelets do not overlap
        self.stem = nn.Conv3d(3, layout.width, layout.kernel, layout.stride, layout.padding)
        self.stem_grid = _stem_grid(grid, layout)
        self.places = LearnedPlaces(self.stem_grid, layout.width)
        rates = growing_drop_path(drop_path, sum(layout.depths))
        self.blocks = nn.ModuleList(
            PoolingBlock(width, out, num_heads=heads, q_stride=q_stride, kv_stride=kv_stride, drop_path=rate)
            for (width, out, heads, q_stride, kv_stride), rate in zip(_blocks(layout), rates, strict=True)
        )

    def forward(self, patches: Tensor | Tubelets, selection: TokenSelection) -> Tensor:
        """Describe clips: [B, N, P] to [B, 1, D], the class token."""
        x: Tensor = self.stem(self.take_clips(patches, selection)).flatten(2).transpose(1, 2)  # [B, K, D]
        x = torch.cat([self.places.class_tokens(len(x)), x + self.places.table()], dim=1)  # [B, 1 + K, D]
        shape = self.stem_grid.shape
        for block in self.blocks:
            x, shape = block(x, shape)
        return x[:, :1]


def mvit_width(layout: MViTLayout) -> int:
    """Channels of the last stage."""
    return layout.width << (len(layout.depths) - 1)


def _blocks(layout: MViTLayout) -> Sequence[tuple[int, int, int, int, int]]:
    """Width, width of the next, heads, stride of queries and of keys, block by block."""
    blocks = []
    for stage, depth in enumerate(layout.depths):
        width, heads, kv_stride = layout.width * 2**stage, 2**stage, max(1, layout.kv_stride // 2**stage)
        for number in range(depth):
            widens = number == depth - 1 and stage < len(layout.depths) - 1
            q_stride = 2 if number == 0 and stage > 0 else 1
            blocks.append((width, 2 * width if widens else width, heads, q_stride, kv_stride))
    return blocks


def _stem_grid(grid: TokenGrid, layout: MViTLayout) -> TokenGrid:
    """The places that the embedding gives."""
    sizes = zip(grid.clip_shape, layout.kernel, layout.stride, layout.padding, strict=True)
    slots, rows, columns = ((size + 2 * pad - kernel) // stride + 1 for size, kernel, stride, pad in sizes)
    return TokenGrid(slots, rows, columns, layout.stride[0], layout.stride[1])


def _on_grid(x: Tensor, shape: Shape, pool: Callable[[Tensor], Tensor]) -> tuple[Tensor, Shape]:
    """Pool tokens on their grid, the class token apart: [B, h, 1 + K, d] to fewer tokens, and their shape."""
    B, h, _, d = x.shape
    grid = x[:, :, 1:].reshape(B * h, *shape, d).permute(0, 4, 1, 2, 3)  # [B * h, d, t, r, c]
    pooled = pool(grid)
    t, r, c = pooled.shape[2:]
    tokens = pooled.flatten(2).transpose(1, 2).reshape(B, h, t * r * c, d)
    return torch.cat([x[:, :, :1], tokens], dim=2), (t, r, c)
