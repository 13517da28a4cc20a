"""What a masked autoencoder predicts, as pixels.

The prediction is normalised: each tubelet and channel by its own mean and standard deviation, which the model is never
asked for. To show it as a picture, both have to come from somewhere. Taken from the true tubelet they give away its
brightness, colour and contrast, and the picture looks better than what the model knows. Taken from a visible tubelet
nearby they are an estimate that the model's input allows. Both pictures are made here, and named for what they are.

Shapes: B clips, T frames, T' candidate frames, H height, W width, N tokens, V visible, M targets, K some of them,
P pixels of a tubelet, S pixels of one channel, C channels (3).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from everest.config import VARYING, CheckpointInfo
from everest.errors import DataError, SelectionError, WeightsError
from everest.evaluation import evaluation_mode
from everest.models import MaskedAutoencoder, ModelInput, Prediction, select_input
from everest.objectives import patch_statistics, target_pixels
from everest.tokens import FrameSelection, TokenGrid, TokenSelection, unpatchify

GREY = 0.5  # what is not shown


@dataclass(frozen=True, eq=False, repr=False)
class Reconstruction:
    """Clips and what becomes of them; all of shape [B, 3, T, H, W], float32, values 0 to 1.

    Attributes:
        original: The clips.
        encoded_only: What the encoder sees: visible tokens, everything else grey.
        with_true_statistics: Visible tokens as they are, targets as predicted and brought back with the mean and
            standard deviation of the true tubelets. That leaks part of the answer.
        with_visible_statistics: The same with mean and standard deviation of the visible token nearest in space and
            time: nothing in it comes from a token that was not encoded.
        selection: The tokens that were encoded and predicted. All others stay grey in every picture.
        frames: The pairs of candidate frames that make the clips; None where frames are not selected.
    """

    original: Tensor
    encoded_only: Tensor
    with_true_statistics: Tensor
    with_visible_statistics: Tensor
    selection: TokenSelection
    frames: FrameSelection | None = None

    def __post_init__(self) -> None:
        shapes = {self.encoded_only.shape, self.with_true_statistics.shape, self.with_visible_statistics.shape}
        if shapes != {self.original.shape}:
            raise DataError(f"pictures of clips of shape {list(self.original.shape)} need the same shape")

    def __repr__(self) -> str:
        return f"Reconstruction({list(self.original.shape)}, {self.selection})"


@torch.no_grad()
def reconstruct(
    model: MaskedAutoencoder, clips_u8: Tensor, info: CheckpointInfo, generator: torch.Generator | None = None
) -> Reconstruction:
    """Hide most of some clips and show what the model makes of the rest.

    Args:
        model: Its mode stays as it is.
        clips_u8: Shape [B, 3, T', H, W], uint8, on the model's device; T' from
            :func:`everest.config.num_sampled_frames`.
        info: What travels with the model.
        generator: Decides, on the device of the clips, what is encoded; None takes PyTorch's own.

    Raises:
        WeightsError: The description is that of a model that predicts no pixels.
        DataError: The clips are not uint8 of five dimensions.
        SelectionError: The clips are not of the size that the model takes, or several where each keeps its own number
            of tokens.
    """
    if info.task != "pretrain":
        raise WeightsError("a classifier predicts no pixels: use a pre-training checkpoint")
    if info.objective.name != "pixels":  # a student of wide teachers may even predict as many values
        raise WeightsError(f"{info.objective.name} predicts no pixels: use a checkpoint of objective.name=pixels")
    if clips_u8.ndim != 5 or clips_u8.dtype != torch.uint8:
        raise DataError(f"clips must be uint8 [B, 3, T, H, W], given: {clips_u8.dtype} {list(clips_u8.shape)}")
    if info.selection.method in VARYING and len(clips_u8) > 1:
        raise SelectionError(f"{info.selection.method} keeps different numbers of tokens: reconstruct clip by clip")
    with evaluation_mode(model):
        chosen = select_input(model.encoder, clips_u8, info, generator=generator)
        return assemble(chosen, model(chosen.patches, chosen.selection), info)


def assemble(chosen: ModelInput, prediction: Prediction, info: CheckpointInfo) -> Reconstruction:
    """Make pictures of a prediction.

    Args:
        chosen: What the model was given.
        prediction: What it says of the targets, shape [B, M, P].
        info: Mean and standard deviation of the input.
    """
    selection = chosen.selection
    grid, device = selection.grid, selection.visible.device
    mean, std = (torch.tensor(values, device=device) for values in (info.mean, info.std))

    def pixels_of(tokens: Tensor) -> Tensor:
        return target_pixels(chosen.patches, tokens, grid, mean, std)  # [B, K, S, C]

    visible, truth = pixels_of(selection.visible), pixels_of(selection.target)
    values = prediction.values.float().reshape(truth.shape)  # [B, M, S, C]
    everything = torch.arange(grid.num_tokens, device=selection.visible.device).expand(len(values), -1)  # [B, N]
    grey = values.new_full(chosen.patches.shape, GREY)  # [B, N, P]
    encoded = _place(grey, selection.visible, visible)

    def predicted(center: Tensor, spread: Tensor) -> Tensor:
        return unpatchify(_place(encoded, selection.target, (values * spread + center).clamp(0, 1)), grid)

    return Reconstruction(
        original=unpatchify(_place(grey, everything, pixels_of(everything)), grid),
        encoded_only=unpatchify(encoded, grid),
        with_true_statistics=predicted(*patch_statistics(truth)),
        with_visible_statistics=predicted(*_nearest_statistics(visible, selection)),
        selection=selection,
        frames=chosen.frames,
    )


def _nearest_statistics(visible: Tensor, selection: TokenSelection) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation, for each target, of the nearest visible token: [B, V, S, C] to two [B, M, 1, C]."""
    nearest = nearest_visible(selection)[..., None, None].expand(-1, -1, 1, visible.shape[-1])  # [B, M, 1, C]
    mean, std = patch_statistics(visible)  # [B, V, 1, C]
    return mean.gather(1, nearest), std.gather(1, nearest)


def nearest_visible(selection: TokenSelection) -> Tensor:
    """Find the visible token that is nearest to each target in steps of the grid; the first of equally near ones.

    Returns:
        Places in ``selection.visible``, shape [B, M], int64.
    """
    visible = _positions(selection.visible, selection.grid)  # [B, V, 3]
    target = _positions(selection.target, selection.grid)  # [B, M, 3]
    distances = (target[:, :, None] - visible[:, None]).square().sum(dim=-1)  # [B, M, V], whole numbers
    num_visible = visible.shape[1]
    places = torch.arange(num_visible, device=visible.device)
    return (distances * num_visible + places).argmin(dim=-1)  # no two are equal, so the answer is one on every device


def _positions(tokens: Tensor, grid: TokenGrid) -> Tensor:
    """Slot, row and column of tokens: [B, K] to [B, K, 3]."""
    within = tokens % grid.tokens_per_slot
    return torch.stack(
        [tokens // grid.tokens_per_slot, within // grid.num_columns, within % grid.num_columns], dim=-1
    )  # [B, K, 3]


def _place(canvas: Tensor, tokens: Tensor, pixels: Tensor) -> Tensor:
    """Copy tubelets [B, K, S, C] to their tokens [B, K] on a canvas [B, N, P]; the canvas is not changed."""
    tubelets = pixels.transpose(2, 3).flatten(2)  # [B, K, P]
    return canvas.scatter(1, tokens.unsqueeze(-1).expand(-1, -1, tubelets.shape[-1]), tubelets)  # [B, N, P]
