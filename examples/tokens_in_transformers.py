"""ReRo in a model of Hugging Face's transformers: `python examples/tokens_in_transformers.py [NAME]`.

NAME is a folder, or a VideoMAE of the hub such as MCG-NJU/videomae-base-finetuned-kinetics, which is downloaded.
Without it a small one with random weights is taken, which shows the same. Its own patch embedding scores the tokens.
"""

import sys
import timeit

import torch
from transformers import VideoMAEConfig, VideoMAEForVideoClassification

import everest
from everest.config import SelectionConfig
from everest.tokens import TokenGrid, rero_scores, select_tokens, token_changes
from everest.video import read_clip
from everest.video.transforms import normalize, resize, to_channels_first

if len(sys.argv) > 1:
    model = VideoMAEForVideoClassification.from_pretrained(sys.argv[1]).eval()
else:
    torch.manual_seed(0)
    sizes = {"hidden_size": 192, "num_hidden_layers": 6, "num_attention_heads": 3, "intermediate_size": 768}
    small = VideoMAEConfig(image_size=112, **sizes)
    model = VideoMAEForVideoClassification(small).eval()
config = model.config
size, num_frames = config.image_size, config.num_frames
grid = TokenGrid.of_clip(num_frames, size, size, config.tubelet_size, config.patch_size)

record = everest.load_data("bundled").records[-1]
frames = resize(to_channels_first(read_clip(record.path, range(0, 2 * num_frames, 2))), size, size)  # [3, T, H, W]
clips = normalize(frames[None], (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # [1, 3, T, H, W]
pixels = clips.transpose(1, 2)  # [1, T, 3, H, W], as transformers takes it


@torch.no_grad()
def classify(keep_ratio: float) -> torch.Tensor:
    """Classify by the tokens that change most; the rest is neither embedded with places nor encoded."""
    embedded = model.videomae.embeddings.patch_embeddings(pixels)  # [B, N, D], before places are added
    scores = rero_scores(token_changes(embedded, grid))  # [B, N]
    config = SelectionConfig(keep_ratio=keep_ratio, encode_ratio=keep_ratio)
    kept = select_tokens(config, "finetune", grid, len(scores), scores=scores).visible  # [B, V]
    left_out = torch.ones_like(scores, dtype=torch.bool).scatter_(1, kept, False)  # [B, N]
    tokens = model.videomae(pixels, bool_masked_pos=left_out).last_hidden_state  # [B, V, D]
    pooled = tokens.mean(1) if model.fc_norm is None else model.fc_norm(tokens.mean(1))  # [B, D]
    return model.classifier(pooled)


with torch.no_grad():
    full = model(pixels).logits
print(f"{grid}, {config.num_labels} classes")
for ratio in (1.0, 0.6, 0.3):
    difference = (classify(ratio) - full).abs().max()
    seconds = min(timeit.repeat(lambda ratio=ratio: classify(ratio), number=1, repeat=3))
    print(f"{ratio:.0%} of the tokens: {seconds:.3f} s, logits differ from those of all by {difference:.2e} at most")
