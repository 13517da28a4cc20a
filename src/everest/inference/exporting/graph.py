"""A trained model as one function of bytes, choosing its frames and tokens itself, for any number of clips.

Everything here is the plain way: one product for all clips, nothing written in place, no length read off data. So it
can be recorded, and any program that has the file computes what :func:`everest.models.pipeline.choose_to_use` and the
model compute here; :mod:`everest.inference.exporting.verifying` holds it to them.

Shapes: B clips, T frames, T' candidate frames, H height, W width, t time slots, L tokens of a slot, N tokens, V kept
tokens, P pixels of a tubelet, C channels, D width, K classes.
"""

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from everest.config import VARYING, CheckpointInfo, num_sampled_frames
from everest.errors import ConfigError
from everest.models import Classifier
from everest.models.autoencoder import MaskedModel
from everest.models.encoder import blind_noise
from everest.models.pipeline import draw_for_all
from everest.models.scoring import project, project_pixels
from everest.tokens import (
    TokenGrid,
    count_per_pair,
    num_tokens,
    patchify,
    rank_by_score,
    rero_scores,
    select_pairs,
    take_pairs,
)

OUTPUTS = {
    "finetune": ("logits", "probabilities", "features", "visible"),
    "pretrain": ("features", "tokens", "visible"),
}
"""What comes out, in order, of a classifier and of an encoder; where frames are chosen, ``chosen_frames`` follows."""

_ADVICE = "export a model that was fine-tuned with rero, random, random_equal, running_cell, tube or all"
_SCORINGS = ("auto", "exact", "projection", "pixels", "random_projection")


def refuse_what_cannot_be_exported(info: CheckpointInfo) -> None:
    """Let pass what a graph of fixed shapes can compute.

    Args:
        info: As the model shall be used.

    Raises:
        ConfigError: It cannot, and why.
    """
    method, selection = info.selection.method, info.selection
    if info.model.arch != "vit":
        raise ConfigError(f"model.arch={info.model.arch} cannot be exported: only the plain ViT (model.arch=vit) can")
    if method in VARYING:
        raise ConfigError(
            f"selection.method={method} keeps another number of tokens of every clip, and a graph has one number for "
            f"all: {_ADVICE}"
        )
    if method == "k_centered":
        raise ConfigError(
            "selection.method=k_centered takes its tokens one after the other, which would be hundreds of steps in a "
            f"graph: {_ADVICE}"
        )
    if method != "rero" and not info.frame_selection.enabled:  # nothing is scored
        return
    if selection.scoring not in _SCORINGS:
        raise ConfigError(f"selection.scoring={selection.scoring} cannot be exported; there are {', '.join(_SCORINGS)}")
    for name, value, only in (("distance", selection.distance, "l2"), ("camera", selection.camera, "still")):
        if value != only:
            raise ConfigError(
                f"selection.{name}={value} cannot be exported; there is {only}: fine-tune a model with "
                f"selection.{name}={only}"
            )


class ClipGraph(nn.Module):
    """Bytes of clips to what a model says of them.

    Args:
        model: A classifier or a pre-trained masked model, in evaluation mode on the CPU, a plain ViT. Its weights are
            used as they are.
        info: As it shall be used: of a pre-trained model what :func:`everest.models.features.to_use` makes.

    Attributes:
        outputs: Names of what comes out, in order.
        input_shape: Frames (those that are sampled, T'), height, width and channels of a clip.

    Raises:
        ConfigError: Such a model cannot be exported.
    """

    fixed: Tensor
    shift: Tensor
    scale: Tensor
    pairs: Tensor
    directions: Tensor

    def __init__(self, model: Classifier | MaskedModel, info: CheckpointInfo) -> None:
        super().__init__()
        refuse_what_cannot_be_exported(info)
        self.encoder, self.info = model.encoder, info
        self.fc_norm = model.fc_norm if isinstance(model, Classifier) else None
        self.head = model.head if isinstance(model, Classifier) else None
        names = OUTPUTS["finetune" if isinstance(model, Classifier) else "pretrain"]
        self.outputs = (*names, "chosen_frames") if info.frame_selection.enabled else names
        self.input_shape = (num_sampled_frames(info), info.clip.height, info.clip.width, 3)
        grid = self.encoder.grid
        each = grid.num_pixels // 3
        self._buffer("shift", torch.tensor([m * 255 for m in info.mean]).repeat_interleave(each))  # [P]
        self._buffer("scale", torch.tensor([1 / (s * 255) for s in info.std]).repeat_interleave(each))  # [P]
        if info.selection.method != "rero":
            self._buffer("fixed", draw_for_all(info, grid, torch.device("cpu")).visible)  # [1, V]
        if info.frame_selection.by == "chance":
            counts = torch.zeros(1, num_sampled_frames(info) // grid.tubelet_size, dtype=torch.int64)
            noise = blind_noise(info.selection, counts)
            self._buffer("pairs", select_pairs(counts, grid.num_slots, noise).pairs)  # [1, k]
        if info.selection.scoring == "projection":
            self._buffer("directions", project(self._weight.detach()))  # [k, P]
        elif info.selection.scoring == "random_projection":
            self._buffer("directions", project_pixels(grid))  # [k, P]

    def forward(self, frames: Tensor) -> tuple[Tensor, ...]:
        """Compute everything.

        Args:
            frames: RGB, uint8, shape [B, T', H, W, 3].

        Returns:
            As :attr:`outputs` name them. Of a classifier logits [B, K], probabilities [B, K], features [B, D]; of an
            encoder features [B, D] and tokens [B, V, D]; then numbers of the kept tokens, ascending, int64 [B, V]; and
            where frames are chosen the numbers of those, ascending, int64 [B, T].
        """
        clips = frames.permute(0, 4, 1, 2, 3)  # [B, 3, T', H, W]
        taken: tuple[Tensor, ...] = ()
        if self.info.frame_selection.enabled:
            clips, numbers = self._choose_frames(clips)
            taken = (numbers,)
        pixels = patchify(clips, self.encoder.grid).float()  # [B, N, P], 0 to 255
        visible, x = self._embed_kept(pixels)  # [B, V], [B, V, D]
        x = x + self.encoder.positions[0][visible]
        for block in self.encoder.blocks:
            x = block(x)
        x = self.encoder.norm(x)  # [B, V, D]
        features = x.mean(dim=1)  # [B, D]
        if self.fc_norm is None or self.head is None:
            return features, x, visible, *taken
        features = self.fc_norm(features)
        logits = self.head(features)  # [B, K]
        return logits, logits.softmax(dim=-1), features, visible, *taken

    def _embed_kept(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Choose tokens and embed them: [B, N, P] to numbers [B, V] and embeddings [B, V, D]."""
        config, grid = self.info.selection, self.encoder.grid
        if config.method != "rero":
            visible = self.fixed.expand(pixels.shape[0], -1)  # [B, V]
            return visible, self._embed(_take(pixels, visible))
        changes, embedded = self._changes(pixels, grid), None
        if config.scoring in {"auto", "exact"}:
            first = self._embed(_by_slot(pixels, grid)[:, :1])
            embedded = torch.cat([first, changes], dim=1).cumsum(dim=1).flatten(1, 2)  # [B, N, D], as running sums
        count = num_tokens(config.keep_ratio, grid.num_tokens)
        visible = rank_by_score(rero_scores(changes))[:, :count].sort(dim=1).values  # [B, V]
        return visible, self._embed(_take(pixels, visible)) if embedded is None else _take(embedded, visible)

    def _embed(self, pixels: Tensor) -> Tensor:
        """Normalise and embed: [..., P] to [..., D]."""
        return F.linear((pixels - self.shift) * self.scale, self._weight, self.encoder.patch_embed.proj.bias)

    def _changes(self, pixels: Tensor, grid: TokenGrid) -> Tensor:
        """What the lengths of changes are measured on: [B, N, P] to [B, t - 1, L, D], or k or C instead of D."""
        slots = _by_slot(pixels, grid)
        differences = slots[:, 1:] - slots[:, :-1]  # of bytes: exact
        scoring = self.info.selection.scoring
        if scoring == "pixels":
            by_channel = differences.reshape(*differences.shape[:-1], 3, -1)  # [B, t - 1, L, C, P / C]
            lengths: Tensor = torch.linalg.vector_norm(by_channel, dim=-1)
            return lengths * self.scale.reshape(3, -1)[:, 0]
        weight = self._weight if scoring in {"auto", "exact"} else self.directions
        return F.linear(differences, weight * self.scale)

    def _choose_frames(self, clips: Tensor) -> tuple[Tensor, Tensor]:
        """Make clips of the most informative pairs: [B, 3, T', H, W] to [B, 3, T, H, W] and frame numbers [B, T]."""
        size = self.encoder.grid.tubelet_size
        if self.info.frame_selection.by == "chance":
            pairs = self.pairs.expand(clips.shape[0], -1)  # [B, k]
        else:
            candidates = replace(self.encoder.grid, num_slots=clips.shape[2] // size)
            changes = self._changes(patchify(clips, candidates).float(), candidates)
            counts = count_per_pair(rero_scores(changes), candidates, self.info.selection.keep_ratio)  # [B, n]
            pairs = select_pairs(counts, self.encoder.grid.num_slots).pairs  # [B, k]
        numbers = (pairs.unsqueeze(-1) * size + torch.arange(size, device=pairs.device)).flatten(1)  # [B, T]
        return take_pairs(clips, pairs, size), numbers

    @property
    def _weight(self) -> Tensor:
        return self.encoder.patch_embed.proj.weight.flatten(1)  # [D, P]

    def _buffer(self, name: str, value: Tensor) -> None:
        self.register_buffer(name, value, persistent=False)


def _by_slot(pixels: Tensor, grid: TokenGrid) -> Tensor:
    """Take time slots apart: [B, N, P] to [B, t, L, P]."""
    return pixels.reshape(-1, grid.num_slots, grid.tokens_per_slot, pixels.shape[-1])


def _take(values: Tensor, index: Tensor) -> Tensor:
    """Take tokens by number: [B, N, D] and [B, V] to [B, V, D]."""
    return values.gather(1, index.unsqueeze(-1).expand(-1, -1, values.shape[-1]))
