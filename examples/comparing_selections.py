"""Selections side by side on real clips: `python examples/comparing_selections.py [FOLDER]`.

For each way to choose tokens: how many it keeps, how much of all change they hold, how many of them ReRo keeps too, and
what a ViT-S then costs. Pictures of one clip go to FOLDER.
"""

import sys
from pathlib import Path

import torch

import everest
from everest.bench.macs import count_macs
from everest.config import ClipConfig, EvaluationConfig, SelectionConfig
from everest.datasets import build_view_loader
from everest.tokens import TokenGrid, patchify, rero_scores, select_tokens, token_changes

METHODS = ("rero", "random_equal", "running_cell", "tube", "all")
folder = Path(sys.argv[1] if len(sys.argv) > 1 else "selections")

# The middle of eight of the bundled clips, 16 frames each.
manifest = everest.load_data("bundled").split("test")
shape = ClipConfig(num_frames=16, height=128, width=128, stride=2)
views = EvaluationConfig(num_segments=1, num_crops=1)
loader = build_view_loader(manifest, shape, views, num_workers=0)
clips = torch.cat([video.frames for video, _ in zip(loader, range(8), strict=False)]).float() / 255  # [B, 3, T, H, W]

grid = TokenGrid.of_clip(16, 128, 128, tubelet_size=2, patch_size=16)
tokens = patchify(clips, grid)  # [B, N, P]
scores = rero_scores(token_changes(tokens, grid))  # [B, N]


def keep(method: str) -> torch.Tensor:
    """Mark what a selection keeps of every clip in fine-tuning at 30 %: [B, N]."""
    config = SelectionConfig(method=method, keep_ratio=0.3, encode_ratio=0.3)
    generator = torch.Generator().manual_seed(0)
    selection = select_tokens(config, "finetune", grid, len(clips), scores=scores, generator=generator)
    return torch.zeros_like(scores, dtype=torch.bool).scatter_(1, selection.visible, True)


best = keep("rero")
print(f"{len(clips)} clips of {grid}\n{'selection':14}{'kept':>7}{'of all change':>16}{'as ReRo':>10}{'GMAC':>8}")
for method in METHODS:
    kept = keep(method)
    change = (scores * kept).sum() / scores.sum()
    same = (kept & best).sum() / kept.sum()
    cost = count_macs("small", "finetune", method, num_frames=16, height=128, width=128, keep_ratio=0.3)["gmacs"]
    print(f"{method:14}{kept.float().mean():7.0%}{change:16.0%}{same:10.0%}{cost:8.1f}")

report = everest.inspect(manifest.records[0].path, folder, compare=METHODS[:4], keep_ratio=0.3)
print(report.summary())
