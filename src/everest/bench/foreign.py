"""Peers that are not ours: VideoMAE of Hugging Face transformers, and whatever somebody wants timed beside us.

Shapes: B clips, C channels, T frames, H height, W width, N tokens.
"""

import importlib
import inspect
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from typing import Any

import torch
from torch import Tensor, nn

from everest.config import CheckpointInfo
from everest.datasets import Batch
from everest.errors import ConfigError, EverestError
from everest.models import SIZES, grid_of
from everest.models.zoo import decoder_depth
from everest.tokens import select_tokens
from everest.video import normalize

TRANSFORMERS = "transformers"
FOREIGN_ERRORS = (
    *(ArithmeticError, AssertionError, AttributeError, EOFError, ImportError, LookupError, MemoryError),
    *(OSError, RuntimeError, TypeError, ValueError, EverestError),
)
"""What a library may raise that is measured beside ours."""
_VARIABLE = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
ForeignStep = Callable[[], Any]


def build_transformers(info: CheckpointInfo) -> nn.Module:
    """Build VideoMAE of transformers with fused attention (sdpa), of our sizes.

    Raises:
        ConfigError: transformers is not installed, or the clip is not a square that it takes.
    """
    try:
        transformers: Any = importlib.import_module("transformers")
    except ImportError as error:
        raise ConfigError(f"peer transformers: {error}; pip install 'everest-video[bench]'") from None
    if info.clip.height != info.clip.width:
        raise ConfigError(f"peer transformers takes squares, given: {info.clip.height}x{info.clip.width}")
    size = SIZES[info.model.size]
    config = transformers.VideoMAEConfig(
        image_size=info.clip.height,
        patch_size=info.model.patch_size,
        num_frames=info.clip.num_frames,
        tubelet_size=info.model.tubelet_size,
        hidden_size=size.width,
        num_hidden_layers=size.depth,
        num_attention_heads=size.num_heads,
        intermediate_size=4 * size.width,
        decoder_hidden_size=size.decoder_width,
        decoder_num_hidden_layers=decoder_depth(info.model, info.objective),
        decoder_num_attention_heads=size.decoder_heads,
        decoder_intermediate_size=4 * size.decoder_width,
        num_labels=max(2, len(info.class_names)),
        attn_implementation="sdpa",
    )
    if info.task == "pretrain":
        return transformers.VideoMAEForPreTraining(config)  # type: ignore[no-any-return]
    return transformers.VideoMAEForVideoClassification(config)  # type: ignore[no-any-return]


def transformers_loss(model: nn.Module, info: CheckpointInfo) -> Callable[[Batch, torch.Generator], Tensor]:
    """Give its loss, for tubes that are masked in pre-training and for all tokens in fine-tuning."""
    grid = grid_of(info.model, info.clip)

    def loss(batch: Batch, generator: torch.Generator) -> Tensor:
        clips = normalize(batch.frames.to(generator.device, non_blocking=True), info.mean, info.std)
        clips = clips.transpose(1, 2)  # [B, T, C, H, W]
        if info.task == "finetune":
            return model(clips, labels=batch.labels.to(generator.device, non_blocking=True)).loss  # type: ignore[no-any-return]
        chosen = select_tokens(info.selection, "pretrain", grid, len(clips), generator=generator, device=clips.device)
        masked = torch.zeros(len(clips), grid.num_tokens, dtype=torch.bool, device=clips.device)
        return model(clips, bool_masked_pos=masked.scatter_(1, chosen.target, True)).loss  # type: ignore[no-any-return]

    return loss


def load_foreign(peer: str, **known: Any) -> ForeignStep:
    """Call ``MODULE:FUNCTION``, which makes a step that can be timed.

    Args:
        peer: Where the function is; MODULE may lie in the current folder.
        known: What the step should be like. The function is given those that it has parameters for.

    Returns:
        What it returns: a function without arguments that does one optimiser step. What it prints goes to stderr, as
        our own output is the result.

    Raises:
        ConfigError: There is no such function, it needs something else, or it returns something else.
    """
    name, _, attribute = peer.partition(":")
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        with redirect_stdout(sys.stderr):
            function = getattr(importlib.import_module(name), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"peer {peer}: {error}; expected MODULE:FUNCTION") from None
    parameters = inspect.signature(function).parameters.values()
    takes_all = any(p.kind is p.VAR_KEYWORD for p in parameters)
    missing = [p.name for p in parameters if p.name not in known and p.default is p.empty and p.kind not in _VARIABLE]
    if missing:
        raise ConfigError(f"peer {peer} needs {', '.join(missing)}; it can be given {', '.join(known)}")
    wanted = {p.name for p in parameters}
    with redirect_stdout(sys.stderr):
        step = function(**{key: value for key, value in known.items() if takes_all or key in wanted})
    if not callable(step):
        raise ConfigError(f"peer {peer} returned {type(step).__name__}; expected a function that does one step")

    def quiet() -> Any:
        with redirect_stdout(sys.stderr):
            return step()

    return quiet
