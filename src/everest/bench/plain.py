"""The plain peer: the same models, computed as masked video autoencoders usually are.

It embeds every token with a strided convolution and keeps its gradient, drops tokens by boolean masks, spells
attention out with all its logits in memory, and normalises the targets of all tokens before it picks some. Parameter
names are those of :mod:`everest.models`, so that both load the same state dict. It shows what the other way of
computing is worth, and, since nothing but parameters and the choice of tokens is shared, it is an oracle for values
and gradients.

Shapes: B clips, T frames, N tokens, K any tokens, V visible, M targets, D width, E of the decoder, h heads, d width of
a head, P pixels of a tubelet, S pixels of one channel of it, C channels (3).
"""

from collections import OrderedDict
from collections.abc import Callable

import torch
from torch import Tensor, nn

from everest.config import VARYING, CheckpointInfo
from everest.errors import ConfigError
from everest.models.layers import NORM_EPSILON, initialize
from everest.models.positions import sine_positions
from everest.models.zoo import SIZES, Size, decoder_depth, grid_of
from everest.tokens import TokenGrid, TokenSelection, select_tokens

Choice = Callable[[Tensor], TokenSelection]
"""Takes the embeddings of all tokens, shape [B, N, D], and chooses."""


class PlainAttention(nn.Module):
    """Self-attention that writes out all logits: shape [B, h, K, K], kept for the backward pass."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.q_bias = nn.Parameter(torch.zeros(width))
        self.v_bias = nn.Parameter(torch.zeros(width))
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Mix tokens: [B, K, D] to [B, K, D]."""
        bias = torch.cat([self.q_bias, torch.zeros_like(self.v_bias), self.v_bias])
        qkv = nn.functional.linear(x, self.qkv.weight, bias)
        q, k, v = qkv.reshape(*x.shape[:2], 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)  # each [B, h, K, d]
        logits = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)  # [B, h, K, K]
        mixed = logits.softmax(dim=-1) @ v  # [B, h, K, d]
        return self.proj(mixed.transpose(1, 2).reshape(x.shape))  # type: ignore[no-any-return]


class PlainBlock(nn.Module):
    """Attention and MLP, each added to its input, each skipped for some clips in training."""

    def __init__(self, width: int, num_heads: int, drop_path: float = 0.0) -> None:
        super().__init__()
        self.drop_path = drop_path
        self.norm1 = nn.LayerNorm(width, eps=NORM_EPSILON)
        self.attn = PlainAttention(width, num_heads)
        self.norm2 = nn.LayerNorm(width, eps=NORM_EPSILON)
        layers = [("fc1", nn.Linear(width, 4 * width)), ("act", nn.GELU()), ("fc2", nn.Linear(4 * width, width))]
        self.mlp = nn.Sequential(OrderedDict[str, nn.Module](layers))

    def forward(self, x: Tensor) -> Tensor:
        """One layer: [B, K, D] to [B, K, D]."""
        x = x + self._drop(self.attn(self.norm1(x)))
        return x + self._drop(self.mlp(self.norm2(x)))

    def _drop(self, x: Tensor) -> Tensor:
        if not self.training or self.drop_path == 0.0:
            return x
        keep = 1.0 - self.drop_path
        return x * (torch.rand(len(x), 1, 1, device=x.device) < keep) / keep


class PlainEncoder(nn.Module):
    """Embeds all tokens, then encodes those that a mask leaves."""

    positions: Tensor

    def __init__(self, grid: TokenGrid, size: Size, *, drop_path: float, final_norm: bool) -> None:
        super().__init__()
        self.grid = grid
        tubelet = (grid.tubelet_size, grid.patch_size, grid.patch_size)
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv3d(3, size.width, kernel_size=tubelet, stride=tubelet)})
        self.register_buffer("positions", sine_positions(grid.num_tokens, size.width), persistent=False)
        self.blocks = _blocks(size.depth, size.width, size.num_heads, drop_path)
        self.norm = nn.LayerNorm(size.width, eps=NORM_EPSILON) if final_norm else nn.Identity()

    def forward(self, clips: Tensor, choose: Choice) -> tuple[Tensor, TokenSelection]:
        """Encode the visible tokens: clips [B, 3, T, H, W] to [B, V, D], and what was chosen."""
        tokens = self.patch_embed["proj"](clips).flatten(2).transpose(1, 2)  # [B, N, D]
        selection = choose(tokens.detach().clone())
        x = tokens + self.positions
        x = x[_mask(selection.visible, self.grid)].reshape(len(clips), -1, x.shape[-1])  # [B, V, D]
        for block in self.blocks:
            x = block(x)
        return self.norm(x), selection


class PlainAutoencoder(nn.Module):
    """Predicts the pixels of the target tokens from the visible ones."""

    decoder_positions: Tensor

    def __init__(self, encoder: PlainEncoder, size: Size, decoder_depth: int) -> None:
        super().__init__()
        self.encoder = encoder
        grid, width = encoder.grid, size.decoder_width
        self.encoder_to_decoder = nn.Linear(size.width, width, bias=False)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        self.register_buffer("decoder_positions", sine_positions(grid.num_tokens, width), persistent=False)
        parts = {
            "blocks": _blocks(decoder_depth, width, size.decoder_heads, 0.0),
            "norm": nn.LayerNorm(width, eps=NORM_EPSILON),
            "head": nn.Linear(width, grid.num_pixels),
        }
        self.decoder = nn.ModuleDict(parts)
        self.apply(initialize)
        nn.init.trunc_normal_(self.mask_token, std=0.02)

    def forward(self, clips: Tensor, choose: Choice) -> tuple[Tensor, TokenSelection]:
        """Predict: clips [B, 3, T, H, W], normalised, to [B, M, P], and what was chosen."""
        encoded, selection = self.encoder(clips, choose)
        x = self.encoder_to_decoder(encoded)  # [B, V, E]
        positions = self.decoder_positions.expand(len(x), -1, -1)
        at_visible = positions[_mask(selection.visible, self.encoder.grid)].reshape(x.shape)
        at_target = positions[_mask(selection.target, self.encoder.grid)].reshape(len(x), -1, x.shape[-1])
        x = torch.cat([x + at_visible, self.mask_token + at_target], dim=1)  # [B, V + M, E]
        for block in self.decoder["blocks"].children():
            x = block(x)
        return self.decoder["head"](self.decoder["norm"](x[:, at_visible.shape[1] :])), selection


class PlainClassifier(nn.Module):
    """Classifies clips by the mean of their kept tokens."""

    def __init__(self, encoder: PlainEncoder, width: int, num_classes: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.fc_norm = nn.LayerNorm(width, eps=NORM_EPSILON)
        self.head = nn.Linear(width, num_classes)
        self.apply(initialize)

    def forward(self, clips: Tensor, choose: Choice) -> tuple[Tensor, TokenSelection]:
        """Logits for clips [B, 3, T, H, W], normalised; and what was chosen."""
        encoded, selection = self.encoder(clips, choose)
        return self.head(self.fc_norm(encoded.mean(dim=1))), selection


def build_plain(info: CheckpointInfo) -> PlainAutoencoder | PlainClassifier:
    """Build the peer of the model that ``info`` describes, with fresh weights.

    Raises:
        ConfigError: Frames are to be selected, or tokens in a way that the peer does not know.
    """
    if info.frame_selection.enabled:
        raise ConfigError("the plain peer does not select frames: turn frame_selection.enabled off")
    if info.selection.method in {*VARYING, "k_centered"}:
        raise ConfigError(f"the plain peer does not select tokens by {info.selection.method}: use rero or a control")
    size, pretrain = SIZES[info.model.size], info.task == "pretrain"
    grid = grid_of(info.model, info.clip)
    encoder = PlainEncoder(grid, size, drop_path=info.model.drop_path, final_norm=pretrain)
    if pretrain:
        return PlainAutoencoder(encoder, size, decoder_depth(info.model, info.objective))
    return PlainClassifier(encoder, size.width, len(info.class_names))


def plain_choice(info: CheckpointInfo, generator: torch.Generator | None = None) -> Choice:
    """Choose tokens from embeddings; draws the same random numbers as :meth:`everest.models.Encoder.select`."""
    grid = grid_of(info.model, info.clip)

    def choose(tokens: Tensor) -> TokenSelection:
        scores = None
        if info.selection.method == "rero":
            slots = tokens.reshape(len(tokens), grid.num_slots, grid.tokens_per_slot, -1)  # [B, t, L, D]
            distances = (slots[:, 1:] - slots[:, :-1]).pow(2).sum(dim=-1).sqrt()  # [B, t - 1, L]
            scores = torch.cat([distances[:, :1], distances], dim=1).flatten(1)  # [B, N]
        given = {"scores": scores, "generator": generator, "device": tokens.device}
        return select_tokens(info.selection, info.task, grid, len(tokens), **given)  # type: ignore[arg-type]

    return choose


@torch.no_grad()
def plain_targets(clips: Tensor, selection: TokenSelection, mean: Tensor, std: Tensor) -> Tensor:
    """Normalise the pixels of all tubelets, each channel by itself, and pick the targets.

    Args:
        clips: Normalised with ``mean`` and ``std``, shape [B, 3, T, H, W].
        selection: Which tubelets are targets.
        mean: Per channel, shape [C].
        std: Per channel, shape [C].

    Returns:
        Values in the order (frame, row, column, channel), shape [B, M, P].
    """
    grid = selection.grid
    (t, h, w), tau, p = grid.shape, grid.tubelet_size, grid.patch_size
    pixels = clips * std.reshape(1, 3, 1, 1, 1) + mean.reshape(1, 3, 1, 1, 1)
    cut = pixels.reshape(len(clips), 3, t, tau, h, p, w, p).permute(
        0, 2, 4, 6, 3, 5, 7, 1
    )  # [B, t, h, w, tau, p, p, C]
    cut = cut.reshape(len(clips), grid.num_tokens, -1, 3)  # [B, N, S, C]
    normal = (cut - cut.mean(dim=2, keepdim=True)) / (cut.var(dim=2, unbiased=True, keepdim=True).sqrt() + 1e-6)
    return normal.flatten(2)[_mask(selection.target, grid)].reshape(len(clips), -1, grid.num_pixels)  # [B, M, P]


def _blocks(depth: int, width: int, num_heads: int, drop_path: float) -> nn.ModuleList:
    return nn.ModuleList(PlainBlock(width, num_heads, drop_path * i / max(1, depth - 1)) for i in range(depth))


def _mask(index: Tensor, grid: TokenGrid) -> Tensor:
    """Mark tokens: numbers [B, K] to bool [B, N]."""
    mask = torch.zeros(len(index), grid.num_tokens, dtype=torch.bool, device=index.device)
    return mask.scatter_(1, index, True)
