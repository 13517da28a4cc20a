"""The transformer block, plain: pre-norm attention and MLP.

Shapes: B clips, K tokens, D width, h heads, d width of a head (D = h * d).
"""

import torch
from torch import Tensor, nn

from everest.models.dropping import SkipPath
from everest.models.lean import gelu_linear, norm_linear
from everest.models.mixing import mix
from everest.models.products import Linear
from everest.models.recomputing import BlockBase
from everest.models.varlen import Lengths, attend

NORM_EPSILON = 1e-6


class Projections(nn.Module):
    """The linear maps around an attention.

    Queries and values have a bias, keys have none: a bias on the keys adds the same number to all logits of a query
    and cancels in the softmax.
    """

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.q_bias = nn.Parameter(torch.zeros(width))
        self.v_bias = nn.Parameter(torch.zeros(width))
        self.proj = Linear(width, width)

    def joint(self, x: Tensor, norm: nn.LayerNorm | None = None) -> Tensor:
        """Queries, keys and values, of normalised tokens where ``norm`` is given: [B, K, D] to [B, K, 3 * D]."""
        bias = torch.cat([self.q_bias, torch.zeros_like(self.q_bias), self.v_bias])
        return norm_linear(x, norm, self.qkv.weight, bias)


class Attention(Projections):
    """Multi-head self-attention, fused."""

    def forward(
        self, x: Tensor, norm: nn.LayerNorm | None = None, lengths: Lengths | None = None, num_last: int | None = None
    ) -> Tensor:
        """Mix tokens, normalised first where ``norm`` is given: [B, K, D] to [B, K, D].

        With ``lengths``, clips lie one after another in a single row, [1, K, D], and do not see each other. With
        ``num_last``, only the last ones of each clip are asked for: [B, K, D] to [B, num_last, D].
        """
        qkv = self.joint(x, norm).reshape(*x.shape[:2], 3, self.num_heads, -1)  # [B, K, 3, h, d]
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # each [B, h, K, d]
        if num_last is not None:
            q = q[:, :, -num_last:]
        mixed = mix(q, k, v) if lengths is None else attend(q, k, v, lengths)
        return self.proj(mixed.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


class Mlp(nn.Module):
    """Two layers with a GELU between, four times as wide inside."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x: Tensor, norm: nn.LayerNorm | None = None) -> Tensor:
        """Change each token by itself, normalised first where ``norm`` is given: [B, K, D] to [B, K, D]."""
        inside = norm_linear(x, norm, self.fc1.weight, self.fc1.bias)  # [B, K, H], before the GELU
        return gelu_linear(inside, self.fc2.weight, self.fc2.bias)


class Block(BlockBase):
    """Attention and MLP, each added to its input.

    Args:
        width: D.
        num_heads: h.
        drop_path: Probability of skipping each of the two for a clip, in training.
    """

    def __init__(self, width: int, num_heads: int, drop_path: float = 0.0) -> None:
        super().__init__()
        self.skip1, self.skip2 = SkipPath(drop_path), SkipPath(drop_path)
        self.norm1 = nn.LayerNorm(width, eps=NORM_EPSILON)
        self.attn = Attention(width, num_heads)
        self.norm2 = nn.LayerNorm(width, eps=NORM_EPSILON)
        self.mlp = Mlp(width)

    def forward(self, x: Tensor, lengths: Lengths | None = None, num_last: int | None = None) -> Tensor:
        """One layer: [B, K, D] to [B, K, D].

        With ``lengths``, of clips that lie one after another in a single row. With ``num_last``, what becomes of the
        last tokens of each clip, [B, num_last, D]: the others are only looked at, as nothing comes after a last layer.
        """
        mixed = self.attn(x, self.norm1, lengths, num_last)
        x = (x if num_last is None else x[:, -num_last:]) + self.skip1(mixed, lengths)
        return x + self.skip2(self.mlp(x, self.norm2), lengths)  # type: ignore[no-any-return]


def make_blocks(depth: int, width: int, num_heads: int, drop_path: float = 0.0) -> nn.ModuleList:
    """Stack blocks whose drop path grows from 0 to ``drop_path``."""
    return nn.ModuleList(Block(width, num_heads, rate) for rate in growing_drop_path(drop_path, depth))


def growing_drop_path(drop_path: float, depth: int) -> list[float]:
    """Rates of the blocks: linear from 0 to ``drop_path``."""
    return [drop_path * i / max(1, depth - 1) for i in range(depth)]


def initialize(module: nn.Module) -> None:
    """Give one layer its starting weights: Xavier for matrices, 0 and 1 for the rest. For ``Module.apply``."""
    if isinstance(module, nn.Linear | nn.Conv3d):
        nn.init.xavier_uniform_(module.weight.view(module.weight.shape[0], -1))
        if module.bias is not None:
            nn.init.zeros_(module.bias)
