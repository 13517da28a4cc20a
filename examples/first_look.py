"""A first look: what EVEREST makes of a bundled clip. Run it with `python examples/first_look.py [FOLDER]`.

It needs no training and no downloads: scores are those of a random embedding, which finds what moves as well.
"""

import sys
from pathlib import Path

import everest
from everest.config import SelectionConfig
from everest.tokens import TokenGrid, patchify, rero_scores, select_tokens, token_changes
from everest.video import read_clip
from everest.video.transforms import resize_short_side, to_channels_first

folder = Path(sys.argv[1] if len(sys.argv) > 1 else "first-look")

# One clip: 16 frames, every second one of a recording of somebody who falls.
record = next(record for record in everest.load_data("bundled").records if "Fall" in record.path.parts)
clip = read_clip(record.path, range(0, 32, 2))
print(clip)

# Tokens: 2 frames of 16 x 16 pixels each. The 112 pixels in the middle of the picture are 7 x 7 of them.
frames = resize_short_side(to_channels_first(clip), 112)  # [3, T, H, W]
left = (frames.shape[-1] - 112) // 2
frames = frames[..., left : left + 112].float() / 255
grid = TokenGrid.of_clip(16, 112, 112, tubelet_size=2, patch_size=16)
tokens = patchify(frames[None], grid)  # [1, N, P]
print(grid)

# Scores: how much each token differs from the one before it. ReRo keeps the highest, and encodes a third of those.
scores = rero_scores(token_changes(tokens, grid))  # [1, N]
selection = select_tokens(SelectionConfig(keep_ratio=0.3, encode_ratio=0.1), "pretrain", grid, 1, scores=scores)
kept = selection.visible.shape[1] + selection.target.shape[1]
share = scores.gather(1, selection.visible).sum() + scores.gather(1, selection.target).sum()
print(f"{selection.visible.shape[1]} tokens are encoded, {selection.target.shape[1]} predicted, of {grid.num_tokens}")
print(f"these {kept / grid.num_tokens:.0%} hold {share / scores.sum():.0%} of all change")

# The same as pictures, on one page.
report = everest.inspect(record.path, folder, keep_ratio=0.3, encode_ratio=0.1)
print(report.summary())
