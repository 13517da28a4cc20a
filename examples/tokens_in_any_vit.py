"""ReRo in a plain image ViT, built as those of timm are: `python examples/tokens_in_any_vit.py`.

Three lines are new: the scores, the selection, and the gathering. All else is a usual ViT that looks at all frames at
once; with a model of timm, take its `patch_embed`, `pos_embed`, `blocks`, `norm` and `head` in place of these.
"""

import torch
from torch import Tensor, nn

import everest
from everest.config import SelectionConfig
from everest.tokens import TokenGrid, gather_tokens, rero_scores, select_tokens, token_changes
from everest.video import read_clip
from everest.video.transforms import normalize, resize, to_channels_first

NUM_FRAMES, SIZE, PATCH, WIDTH = 8, 96, 16, 192


class Block(nn.Module):
    """Attention and MLP."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.attn = nn.MultiheadAttention(WIDTH, 3, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        """Mix tokens: [B, V, D] to the same."""
        normed = self.norm1(x)
        x = x + self.attn(normed, normed, normed, need_weights=False)[0]
        return x + self.mlp(self.norm2(x))


class PlainViT(nn.Module):
    """A ViT of images that sees the patches of all frames together."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.grid = TokenGrid.of_clip(NUM_FRAMES, SIZE, SIZE, tubelet_size=1, patch_size=PATCH)
        self.patch_embed = nn.Conv2d(3, WIDTH, PATCH, PATCH)
        self.pos_embed = nn.Parameter(0.02 * torch.randn(1, self.grid.num_tokens, WIDTH))
        self.blocks = nn.Sequential(*(Block() for _ in range(4)))
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, num_classes)

    def forward(self, clips: Tensor, keep_ratio: float | None = None) -> Tensor:
        """Classify clips [B, 3, T, H, W]; with a keep ratio, by the tokens that change most."""
        images = clips.transpose(1, 2).flatten(0, 1)  # [B * T, 3, H, W]
        tokens = self.patch_embed(images).flatten(2).transpose(1, 2)  # [B * T, L, D]
        tokens = tokens.reshape(len(clips), self.grid.num_tokens, WIDTH)  # [B, N, D]
        places = self.pos_embed.expand(len(clips), -1, -1)  # [B, N, D]
        if keep_ratio is not None:
            scores = rero_scores(token_changes(tokens.detach(), self.grid))  # [B, N], before places are added
            config = SelectionConfig(keep_ratio=keep_ratio, encode_ratio=keep_ratio)
            kept = select_tokens(config, "finetune", self.grid, len(clips), scores=scores).visible  # [B, V]
            tokens, places = gather_tokens(tokens, kept), gather_tokens(places, kept)  # [B, V, D]
        return self.head(self.norm(self.blocks(tokens + places)).mean(1))


torch.manual_seed(0)
model = PlainViT(num_classes=5).eval()
records = everest.load_data("bundled").records[::20]
read = (to_channels_first(read_clip(record.path, range(0, 4 * NUM_FRAMES, 4))) for record in records)
clips = torch.stack([resize(frames, SIZE, SIZE) for frames in read])  # [B, 3, T, H, W]
clips = normalize(clips, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
with torch.no_grad():
    full = model(clips)
    print(f"{len(clips)} clips, {model.grid}")
    for ratio in (1.0, 0.5, 0.2):
        difference = (model(clips, ratio) - full).abs().max()
        print(f"{ratio:.0%} of the tokens: logits differ from those of all by {difference:.2e} at most")
