"""From clips to what a model takes: the steps that training, evaluation and inference share.

Shapes: B clips, T frames, T' candidate frames, H height, W width, N tokens, P pixels of a tubelet, K classes.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from everest.config import CheckpointInfo
from everest.draws import Draws
from everest.models.classifier import Classifier
from everest.models.encoder import Encoder
from everest.models.tubelets import Tubelets, cut
from everest.tokens import FrameSelection, TokenGrid, TokenSelection, select_tokens


@dataclass(frozen=True)
class ModelInput:
    """What a model takes, and how it was chosen.

    Attributes:
        patches: All tubelets of the clips, shape [B, N, P], as bytes where the clips were.
        selection: The tokens that are computed.
        frames: The pairs of candidate frames that make the clips; None where frames are not selected.
    """

    patches: Tensor | Tubelets
    selection: TokenSelection
    frames: FrameSelection | None = None

    def __repr__(self) -> str:
        return f"ModelInput(patches {list(self.patches.shape)}, {self.selection}, {self.frames})"


def select_input(encoder: Encoder, clips: Tensor, info: CheckpointInfo, *, generator: Draws = None) -> ModelInput:
    """Choose frames and tokens.

    Frames are drawn at random in pre-training and chosen without randomness in fine-tuning and after it.

    Args:
        encoder: Its embedding scores the tokens.
        clips: Uint8 or normalised, shape [B, 3, T', H, W]; T' = :func:`~everest.config.num_sampled_frames`.
        info: Which selections, for which task.
        generator: Source of randomness on the device of the clips.
    """
    clips, frames = _choose_frames(encoder, clips, info, generator)
    patches = cut(clips, encoder.grid, info.mean, info.std)
    return ModelInput(patches, encoder.select(patches, info.selection, info.task, generator=generator), frames)


@torch.no_grad()
def classify_clips(model: Classifier, clips: Tensor, info: CheckpointInfo) -> Tensor:
    """Classify clips as they come from a video; the same clip always gets the same answer, in any batch.

    Args:
        model: In evaluation mode.
        clips: Shape [B, 3, T', H, W], uint8, on the model's device.
        info: What travels with the model.

    Returns:
        Probabilities, shape [B, K], float32.
    """
    logits: Tensor = model(*choose_to_use(model.encoder, clips, info))
    return logits.float().softmax(dim=-1)


@torch.no_grad()
def choose_to_use(encoder: Encoder, clips: Tensor, info: CheckpointInfo) -> tuple[Tensor | Tubelets, TokenSelection]:
    """Choose frames and tokens without chance: the same ones for a clip in any batch.

    Args:
        encoder: Its embedding scores the tokens.
        clips: Uint8, shape [B, 3, T', H, W].
        info: Which selections; of a fine-tuned model.

    Returns:
        All tubelets, [B, N, P], and which of them are looked at.
    """
    grid = encoder.grid
    patches = cut(_choose_frames(encoder, clips, info, None)[0], grid, info.mean, info.std)
    if info.selection.method in {"rero", "adaptive", "rlt", "k_centered"}:  # the clips decide
        return patches, encoder.select(patches, info.selection, info.task)
    one = draw_for_all(info, grid, clips.device)
    return patches, TokenSelection(one.visible.expand(len(clips), -1), one.target.expand(len(clips), -1), grid)


def draw_for_all(info: CheckpointInfo, grid: TokenGrid, device: torch.device) -> TokenSelection:
    """Draw the tokens of a control, the same ones for every clip: a selection of one clip.

    Args:
        info: Which selection; none that looks at the clips.
        grid: Where the tokens are.
        device: Where the selection is needed.
    """
    generator = torch.Generator(device).manual_seed(info.selection.seed)
    return select_tokens(info.selection, info.task, grid, 1, generator=generator, device=device)


def _choose_frames(
    encoder: Encoder, clips: Tensor, info: CheckpointInfo, generator: Draws
) -> tuple[Tensor, FrameSelection | None]:
    by_chance = info.frame_selection.by == "chance" and generator is not None  # in training
    random = info.task == "pretrain" or by_chance
    return encoder.select_frames(
        clips,
        info.frame_selection,
        info.selection,
        mean=info.mean,
        std=info.std,
        generator=generator,
        random=random,
    )
