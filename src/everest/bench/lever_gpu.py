"""The levers of two places, or of a faster one: what is copied to a GPU, when, and what is computed there.

Shapes: B clips, V visible, D width, H height, W width.
"""

import warnings
from copy import deepcopy
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from everest.bench.lever import Lever, Place
from everest.config import AugmentConfig
from everest.training.copying import copy_ahead
from everest.video import change_clips_on_device, normalize
from everest.video.augment import change_clip, draw_changes

NUM_CHANGED = 4  # clips that are augmented: on a CPU each takes as long as a step does on a GPU


def bytes_to_the_device(place: Place) -> Lever:
    """On a GPU: what is copied to it."""
    info = place.info
    narrow = place.clips.cpu().pin_memory()
    wide = normalize(place.clips, info.mean, info.std).cpu().pin_memory()
    return Lever(
        "bytes copied to the device, normalised there",
        "normalised clips copied",
        lambda: normalize(narrow.to(place.clips.device, non_blocking=True), info.mean, info.std),
        lambda: wide.to(place.clips.device, non_blocking=True),
    )


def copied_meanwhile(place: Place) -> Lever:
    """On a GPU: clips copied on a stream of their own while the encoder's first block computes, or when it is done."""
    block = deepcopy(place.model.encoder.blocks[0]).eval()
    width = len(place.patch_embed.proj.weight)
    x = torch.randn(*place.visible.shape, width, device=place.clips.device)  # [B, V, D]
    narrow = place.clips.cpu().pin_memory()
    device = place.clips.device

    def computing() -> None:
        with torch.no_grad():
            for _ in range(len(place.model.encoder.blocks)):
                block(x)

    def ours() -> Tensor:
        computing()
        return copy_ahead(narrow, device)

    def usual() -> Tensor:
        computing()
        return narrow.to(device, non_blocking=True)

    return Lever("clips copied while blocks compute", "after them", ours, usual, aligned=_means, shown=_means)


def changed_on_the_device(place: Place) -> Lever:
    """On a GPU: RandAugment of a few clips, where they are computed with or in one process that reads them."""
    H, W = place.clips.shape[-2:]
    config, generator = AugmentConfig(rand_augment_ops=2), torch.Generator().manual_seed(0)
    narrow = place.clips[:NUM_CHANGED].cpu()
    changes = [draw_changes(config, H, W, generator) for _ in narrow]

    def usual() -> Tensor:
        changed = torch.stack([change_clip(clip, change) for clip, change in zip(narrow, changes, strict=True)])
        return changed.to(place.clips.device, non_blocking=True)

    return Lever(
        f"{len(narrow)} clips augmented on the device",
        "by one worker process",
        lambda: change_clips_on_device(narrow.to(place.clips.device, non_blocking=True), changes),
        usual,
        0.01,  # a last bit that later operations may stretch
        aligned=_means,
        shown=_means,
    )


@dataclass(frozen=True)
class AttentionBy:
    """On a GPU: attention of visible tokens in one block by a kernel that is named, or by that which PyTorch chooses.

    Attributes:
        name: Of the kernel, for people.
        backend: The same for PyTorch.
    """

    name: str
    backend: SDPBackend

    def works(self, place: Place) -> bool:
        """Whether the kernel takes queries of this kind, which depends on the GPU and the number format."""
        q = torch.zeros(place.heads, device=place.clips.device, dtype=place.dtype)
        try:
            with sdpa_kernel(self.backend), warnings.catch_warnings(action="ignore"):  # they say why none can be taken
                F.scaled_dot_product_attention(q, q, q)
        except RuntimeError:
            return False
        return True

    def __call__(self, place: Place) -> Lever:
        """Forward and backward."""
        q, k, v, pull = (torch.randn(place.heads, device=place.clips.device, dtype=place.dtype) for _ in range(4))
        inputs = [each.requires_grad_() for each in (q, k, v)]

        def usual() -> Tensor:
            return torch.autograd.grad(F.scaled_dot_product_attention(q, k, v), inputs, pull)[0]

        def ours() -> Tensor:
            with sdpa_kernel(self.backend):
                return usual()

        tolerance = 1e-4 if place.dtype == torch.float32 else 0.05
        return Lever(f"attention by {self.name}", "as PyTorch chooses", ours, usual, tolerance)


ATTENTION_KERNELS = (
    AttentionBy("FlashAttention", SDPBackend.FLASH_ATTENTION),
    AttentionBy("cuDNN", SDPBackend.CUDNN_ATTENTION),
    AttentionBy("the memory-efficient kernel", SDPBackend.EFFICIENT_ATTENTION),
)


def _means(clips: Tensor) -> Tensor:
    """Brightness of every frame of some clips."""
    return clips.float().mean(dim=(1, 3, 4))
