"""Teachers of Masked Video Distillation: frozen models that say what the tokens of a clip show.

Shapes: B clips, T frames, H height, W width, N tokens, t time slots, L tokens of a slot, D width of the teacher.
"""

from dataclasses import replace
from pathlib import Path
from typing import Literal, Self

import torch
from torch import Tensor, nn

from everest.errors import WeightsError
from everest.models import Encoder, load_model
from everest.models.constants import constant
from everest.tokens import TokenGrid, TokenSelection, patchify

Kind = Literal["image", "video"]


class Teacher(nn.Module):
    """A frozen model and how it is asked; it stays in evaluation mode and never has gradients.

    Args:
        network: Gives the features before its last norm. A video teacher's takes clips, [B, 3, T, H, W] to [B, N, D];
            an image teacher's takes pictures, [B, 3, H, W] to [B, L, D].
        kind: An image teacher is asked about the first frame of each tubelet.
        width: D.
        grid: The tokens of the student.
        mean: Per channel, of values scaled to 0..1: what the network was trained with.
        std: The same.
        name: For people.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        kind: Kind,
        width: int,
        grid: TokenGrid,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        name: str,
    ) -> None:
        super().__init__()
        self.kind, self.width, self.mean, self.std, self.name = kind, width, mean, std, name
        self._tubelet_size = grid.tubelet_size
        self.network = network
        self.requires_grad_(False)
        super().train(False)

    def train(self, mode: bool = True) -> Self:
        """Do nothing: a teacher does not learn."""
        del mode
        return self

    def __repr__(self) -> str:
        return f"Teacher({self.describe()})"

    def describe(self) -> str:
        """Say who it is and how it is asked."""
        numbers = ", ".join(f"{name} {' '.join(f'{v:g}' for v in getattr(self, name))}" for name in ("mean", "std"))
        return f"{self.kind} teacher {self.name}: {self.width} values a token, {numbers}"

    @torch.no_grad()
    def forward(self, clips: Tensor) -> Tensor:
        """Describe every token of clips.

        Args:
            clips: Values 0 to 1, shape [B, 3, T, H, W].

        Returns:
            Features before the last norm, shape [B, N, D].
        """
        mean, std = (constant(values, clips.device).reshape(3, 1, 1, 1) for values in (self.mean, self.std))
        if self.kind == "video":
            features: Tensor = self.network((clips - mean) / std)
            return features
        frames = (clips[:, :, :: self._tubelet_size] - mean) / std  # [B, 3, t, H, W]
        pictures = frames.transpose(1, 2).flatten(0, 1)  # [B * t, 3, H, W]
        return self.network(pictures).reshape(len(clips), -1, self.width)  # type: ignore[no-any-return] # [B, N, D]


def teacher_of(
    encoder: Encoder,
    kind: Kind,
    grid: TokenGrid,
    *,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    name: str,
) -> Teacher:
    """Make a teacher of an encoder of ours, whatever it was trained for.

    A video teacher sees all tokens of the clip. An image teacher sees those of one slot: one frame, repeated to fill a
    tubelet, at the places of slot 0. With tubelets of one frame that is an image model as it is.

    Args:
        encoder: Taken over: its last norm is removed.
        kind: Which of the two.
        grid: The tokens of the student.
        mean: Per channel, of values scaled to 0..1: what the encoder was trained with.
        std: The same.
        name: For people.

    Raises:
        WeightsError: Its tokens lie elsewhere than the student's.
    """
    expect_places(encoder.grid, kind, grid, name)
    encoder.norm = nn.Identity()
    network = _AllTokens(encoder) if kind == "video" else _Picture(encoder)
    width = encoder.positions.shape[-1]
    return Teacher(network, kind=kind, width=width, grid=grid, mean=mean, std=std, name=name)


def load_teacher(checkpoint: str, kind: Kind, grid: TokenGrid) -> Teacher:
    """Load a teacher from a checkpoint of any format that :func:`~everest.models.weights.read_weights` knows.

    Args:
        checkpoint: A run folder or a weights file, pre-trained or fine-tuned; not an encoder alone.
        kind: What it is asked about.
        grid: The tokens of the student.

    Raises:
        WeightsError: There is no such checkpoint, it is of a supervised network, or its tokens lie elsewhere than the
            student's.
    """
    try:
        model, info = load_model(Path(checkpoint).expanduser())
    except WeightsError as error:
        raise WeightsError(f"objective.{kind}_teacher: {error}") from None
    if info.model.arch != "vit":
        raise WeightsError(
            f"objective.{kind}_teacher: {checkpoint} is a {info.model.arch}, whose features are not those of single "
            "tokens; give a plain ViT (model.arch=vit)"
        )
    return teacher_of(model.encoder, kind, grid, mean=info.mean, std=info.std, name=checkpoint)


def expect_places(own: TokenGrid, kind: Kind, grid: TokenGrid, name: str) -> None:
    """Refuse a teacher whose tokens lie elsewhere than the student's.

    Args:
        own: The tokens of the teacher; of an image teacher only rows, columns and patch size count.
        kind: Which of the two.
        grid: The tokens of the student.
        name: Of the teacher, for the message.

    Raises:
        WeightsError: They differ.
    """
    if kind == "image":
        own = replace(own, num_slots=grid.num_slots, tubelet_size=grid.tubelet_size)
    if own != grid:
        raise WeightsError(
            f"objective.{kind}_teacher: {name} describes {_places(own)}, the student needs {_places(grid)}: give a "
            "teacher of the same places, or change clip.num_frames, clip.height, clip.width, model.patch_size or "
            "model.tubelet_size to its own"
        )


def _places(grid: TokenGrid) -> str:
    frames, height, width = grid.clip_shape
    return f"{grid!r} from clips of {frames}x{height}x{width}"


class _AllTokens(nn.Module):
    """An encoder that sees every token: normalised clips [B, 3, T, H, W] to [B, N, D]."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, clips: Tensor) -> Tensor:
        grid = self.encoder.grid
        everything = torch.arange(grid.num_tokens, device=clips.device).expand(len(clips), -1)  # [B, N]
        features: Tensor = self.encoder(
            patchify(clips, grid), TokenSelection(everything, everything[:, :0], grid)
        )  # [B, N, D]
        return features


class _Picture(_AllTokens):
    """An encoder that sees one slot, filled with one frame: normalised pictures [B, 3, H, W] to [B, L, D]."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__(encoder)
        encoder.grid = replace(encoder.grid, num_slots=1)
        encoder.positions = encoder.positions[:, : encoder.grid.num_tokens]  # [1, L, D]

    def forward(self, clips: Tensor) -> Tensor:
        size = self.encoder.grid.tubelet_size
        return super().forward(clips.unsqueeze(2).expand(-1, -1, size, -1, -1))  # [B, 3, size, H, W] to [B, L, D]
