"""What PyTorch says of clips, beside which an exported file is put.

Shapes: B clips, T frames, T' sampled frames, H height, W width, N tokens, V kept tokens, K classes, D width.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from everest.config import CheckpointInfo
from everest.models import Classifier
from everest.models.autoencoder import MaskedModel
from everest.models.pipeline import choose_to_use
from everest.models.scoring import score_as_set
from everest.models.tubelets import Tubelets
from everest.tokens import TokenSelection

Run = Callable[[Tensor], Mapping[str, Tensor]]  # uint8 [B, T', H, W, 3] to outputs by name


class Reference:
    """What PyTorch says of clips, as prediction and ``everest embed`` compute it.

    Args:
        model: In evaluation mode.
        info: As it is used.
    """

    def __init__(self, model: Classifier | MaskedModel, info: CheckpointInfo) -> None:
        self.model, self.info = model, info

    @torch.no_grad()
    def __call__(self, frames: Tensor, visible: Tensor | None = None) -> dict[str, Tensor]:
        """Compute all outputs by name.

        Args:
            frames: Uint8, shape [B, T', H, W, 3].
            visible: Tokens to keep, [B, V]; None: those that the model chooses.
        """
        clips, encoder = _as_clips(frames), self.model.encoder
        patches, selection = choose_to_use(encoder, clips, self.info)
        if visible is not None:
            selection = TokenSelection(visible, visible[:, :0], selection.grid)
        outputs: dict[str, Tensor] = {"visible": selection.visible}
        chosen = self.choose_frames(clips)
        if chosen is not None:
            outputs["chosen_frames"] = chosen
        if isinstance(self.model, Classifier):
            logits = self.model(patches, selection)
            features = self.model.features(patches, selection)
            return outputs | {"logits": logits, "probabilities": logits.softmax(dim=-1), "features": features}
        tokens = encoder(patches, selection)  # [B, V, D]
        return outputs | {"tokens": tokens, "features": tokens.mean(dim=1)}

    def answer(self, frames: Tensor) -> Tensor:
        """Compute what prediction computes and nothing more, to be timed: [B, K], or [B, V, D] of an encoder."""
        encoder = self.model.encoder
        network = self.model if isinstance(self.model, Classifier) else encoder
        with torch.no_grad():
            answer: Tensor = network(*choose_to_use(encoder, _as_clips(frames), self.info))
        return answer

    def choose_frames(self, clips: Tensor) -> Tensor | None:
        """Number the frames that are used of clips [B, 3, T', H, W]: [B, T]; None where all are."""
        info, size = self.info, self.model.encoder.grid.tubelet_size
        _, chosen = self.model.encoder.select_frames(
            clips, info.frame_selection, info.selection, mean=info.mean, std=info.std, random=False
        )
        return None if chosen is None else (chosen.pairs.unsqueeze(-1) * size + torch.arange(size)).flatten(1)

    @torch.no_grad()
    def scores(self, frames: Tensor) -> Tensor:
        """Score all tokens, by which ReRo selection ranks them: [B, N]."""
        encoder, info = self.model.encoder, self.info
        patches: Tensor | Tubelets = choose_to_use(encoder, _as_clips(frames), info)[0]
        return score_as_set(encoder.patch_embed, patches, encoder.grid, info.selection)[0]


def _as_clips(frames: Tensor) -> Tensor:
    return frames.permute(0, 4, 1, 2, 3).contiguous()  # [B, 3, T', H, W]
