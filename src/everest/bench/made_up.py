"""Made-up clips to measure on, where no real ones are given.

Shapes: B clips, T frames, H height, W width, N' tokens of all sampled frames, J values of a token's trajectories.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from everest.config import CheckpointInfo, num_sampled_frames
from everest.models import grid_of
from everest.models.motion import num_motion_values


def moving_clips(batch: int, info: CheckpointInfo, *, seed: int = 0) -> Tensor:
    """Make clips in which some things move and nothing is quite still.

    A smooth background with sensor noise, over which three textured squares glide.

    Args:
        batch: B.
        info: Size of the clips.
        seed: The same seed gives the same clips.

    Returns:
        Pixel values 0 to 255, uint8, shape [B, 3, T, H, W].
    """
    generator = torch.Generator().manual_seed(seed)
    T, H, W = info.clip.num_frames, info.clip.height, info.clip.width
    coarse = torch.rand(batch, 3, 4, 4, generator=generator)
    background = F.interpolate(coarse, size=(H, W), mode="bilinear") * 200 + 20  # [B, 3, H, W]
    clips = background.unsqueeze(2) + 3 * torch.randn(batch, 3, T, H, W, generator=generator)
    side = max(1, min(H, W) // 4)
    for clip in clips:
        for _ in range(3):
            texture = torch.rand(3, side, side, generator=generator) * 255
            ends = torch.rand(2, 2, generator=generator) * torch.tensor([H - side, W - side])
            for t in range(T):
                top, left = torch.lerp(ends[0], ends[1], t / T).int().tolist()
                clip[:, t, top : top + side, left : left + side] = texture
    return clips.clamp_(0, 255).to(torch.uint8)


def made_motion(batch: int, info: CheckpointInfo) -> Tensor | None:
    """Make trajectories for made-up clips, all of one pixel a step, where the objective needs them."""
    if info.objective.name != "mme":
        return None
    num_tokens = num_sampled_frames(info) // info.model.tubelet_size * grid_of(info.model, info.clip).tokens_per_slot
    return torch.ones(batch, num_tokens, num_motion_values(info.model.patch_size)[1], dtype=torch.float16)  # [B, N', J]
