"""From tensors to a model: size, tubelet, depth and classes by their shapes, the clip by what the file says.

Shapes: N tokens of t slots, h rows and w columns, D width, E width of the decoder, K classes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isqrt
from pathlib import Path

import torch
from torch import Tensor

from everest.config import (
    CheckpointInfo,
    ClipConfig,
    ModelConfig,
    ModelSize,
    ObjectiveConfig,
    PositionKind,
    SelectionConfig,
)
from everest.errors import WeightsError
from everest.models.positions import position_table
from everest.models.weights.adapter import Facts, Renamed
from everest.models.zoo import SIZES, grid_of

_EMBEDDING = "encoder.patch_embed.proj.weight"
_USUAL = ClipConfig()
_MASKED = {"pixels": 0.1, "mme": 0.3, "mvd": 0.1}  # share that is visible: tube masking .9, .7, .9
_KINDS: tuple[PositionKind, ...] = ("sine", "sine_3d")


@dataclass(frozen=True)
class Given:
    """What somebody says of weights whose file does not.

    Attributes:
        num_frames, height, width: Of the clips that they were trained on.
        stride: Frames of the video from one sampled frame to the next.
        class_names: By class index.
    """

    num_frames: int | None = None
    height: int | None = None
    width: int | None = None
    stride: int | None = None
    class_names: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Description:
    """A model that tensors fit, and what of it nobody said.

    Attributes:
        info: What travels with the weights.
        assumed: What was neither in the file nor given.
        names_known: Whether somebody named the classes.
    """

    info: CheckpointInfo
    assumed: tuple[str, ...]
    names_known: bool


def describe(path: Path, renamed: Renamed, given: Given) -> Description:
    """Find the model that tensors are of.

    Args:
        path: For messages.
        renamed: By our names.
        given: What the file need not say.

    Raises:
        WeightsError: No model of ours has such tensors, or what is given contradicts them.
    """
    assumed: list[str] = []
    facts = renamed.facts
    model = _model(path, renamed)
    _check_given(path, facts, given)
    clip, unsure = _clip(model, facts, given)
    if unsure:
        assumed.append(f"clips of {clip.num_frames}x{clip.height}x{clip.width}: give --num-frames, --height, --width")
    if facts.stride is None and given.stride is None:
        assumed.append(f"every {clip.stride}th frame of a video: give --stride")
    if facts.positions is not None:
        kind = _kind_of(path, facts.positions, model, clip)
        model = model.model_copy(update={"positions": kind})
    names, known = _names(path, renamed, given)
    if names and not known:
        assumed.append("names of the classes, numbers here: give --classes FILE")
    selection = facts.selection
    if selection is None:
        selection = _selection(renamed)
        assumed.append(f"selection of tokens: {selection.method}")
    info = CheckpointInfo(
        task="pretrain" if renamed.part == "pretrain" else "finetune",
        model=model,
        clip=clip,
        selection=selection,
        objective=_objective(renamed),
        class_names=names,
    )
    if facts.mean is not None and facts.std is not None:
        info = info.model_copy(update={"mean": facts.mean, "std": facts.std})
    return Description(info, tuple(assumed), known)


def _model(path: Path, renamed: Renamed) -> ModelConfig:
    """Read size, tubelet and depth of the decoder off the shapes."""
    state, facts = renamed.state, renamed.facts
    embedding = state.get(_EMBEDDING)
    if embedding is None or embedding.ndim != 5 or embedding.shape[1] != 3 or embedding.shape[3] != embedding.shape[4]:
        found = "nothing" if embedding is None else str(list(embedding.shape))
        raise WeightsError(f"{path}: its patch embedding should be [D, 3, frames, pixels, pixels], found {found}")
    width, depth = embedding.shape[0], count_blocks(state, "encoder.blocks.")
    size = next((name for name, s in SIZES.items() if (s.width, s.depth) == (width, depth)), None)
    if size is None:
        known = ", ".join(f"{name} {s.width} and {s.depth}" for name, s in SIZES.items())
        raise WeightsError(f"{path}: no model has its width {width} and {depth} blocks; known are {known}")
    _check_heads(path, size, renamed)
    depths = [n for n in map(count_blocks, [state] * 4, _DECODERS) if n] if renamed.part == "pretrain" else []
    return ModelConfig(
        size=size,
        tubelet_size=embedding.shape[2],
        patch_size=embedding.shape[3],
        decoder_depth=depths[0] if depths else None,
        norm_epsilon=facts.norm_epsilon or 1e-6,
        head_norm_epsilon=facts.head_norm_epsilon or 1e-6,
        encoder_norm=facts.encoder_norm or renamed.part != "pretrain",
    )


def _objective(renamed: Renamed) -> ObjectiveConfig:
    """What is predicted; of teachers, how many values."""
    heads = {"image_width": "decoder_img.head.weight", "video_width": "decoder_vid.head.weight"}
    widths = {key: len(renamed.state[head]) for key, head in heads.items() if head in renamed.state}
    return ObjectiveConfig(name=renamed.objective, **widths)


_DECODERS = ("decoder.blocks.", "decoder.0.blocks.", "decoder_vid.blocks.", "decoder_img.blocks.")


def count_blocks(state: Mapping[str, Tensor], prefix: str) -> int:
    """Count blocks by the numbers in their keys."""
    numbers = {key.removeprefix(prefix).split(".")[0] for key in state if key.startswith(prefix)}
    return len({number for number in numbers if number.isdigit()})


def _check_heads(path: Path, size: ModelSize, renamed: Renamed) -> None:
    """Heads cannot be read off shapes: where the file says their number, it must be that of the size."""
    wrong = []
    for what, given, ours in (
        ("heads", renamed.facts.num_heads, SIZES[size].num_heads),
        ("heads in the decoder", renamed.facts.decoder_heads, SIZES[size].decoder_heads),
    ):
        if given is not None and given != ours:
            wrong.append(f"{given} {what} instead of {ours}")
    mask = renamed.state.get("mask_token")
    if renamed.objective == "pixels" and mask is not None and mask.shape[-1:] != (SIZES[size].decoder_width,):
        wrong.append(f"a decoder of width {list(mask.shape)[-1:]} instead of {SIZES[size].decoder_width}")
    if wrong:
        raise WeightsError(f"{path}: a model of size {size} with {'; '.join(wrong)}: it cannot be rebuilt here")


def _check_given(path: Path, facts: Facts, given: Given) -> None:
    """Refuse what contradicts the file: with positions for other clips, the weights would be others."""
    for what, option, says, told in (
        ("frames", "--num-frames", facts.num_frames, given.num_frames),
        ("pixels of height", "--height", facts.height, given.height),
        ("pixels of width", "--width", facts.width, given.width),
    ):
        if says is not None and told is not None and says != told:
            raise WeightsError(f"{path}: says that its clips have {says} {what}, given: {told}; leave {option} out")


def _clip(model: ModelConfig, facts: Facts, given: Given) -> tuple[ClipConfig, bool]:
    """Take the clip from what is given, from the file, from its saved positions, and else the usual one."""
    num_frames = given.num_frames or facts.num_frames
    height, width = given.height or facts.height, given.width or facts.width
    if facts.positions is not None and height is None and width is None:  # they tell a square
        slots = (num_frames or _USUAL.num_frames) // model.tubelet_size
        side = isqrt(facts.positions.shape[-2] // max(1, slots))
        if side and side * side * slots == facts.positions.shape[-2]:
            height = width = side * model.patch_size
            num_frames = num_frames or _USUAL.num_frames
    values = {"num_frames": num_frames, "height": height, "width": width, "stride": given.stride or facts.stride}
    known = {key: value for key, value in values.items() if value is not None}
    return _USUAL.model_copy(update=known), None in (num_frames, height, width)


def _kind_of(path: Path, saved: Tensor, model: ModelConfig, clip: ClipConfig) -> PositionKind:
    """Tell which table was saved; one that was learnt, or is for other clips, cannot be made anew."""
    grid = grid_of(model, clip)
    tolerance = 1e-5 if saved.dtype in (torch.float32, torch.float64) else 1e-2
    for kind in _KINDS:
        table = position_table(kind, grid.shape, SIZES[model.size].width)
        if saved.numel() != table.numel() or saved.shape[-2:] != table.shape[1:]:
            continue
        if torch.allclose(saved.reshape(table.shape).float(), table, rtol=0, atol=tolerance):
            return kind
    raise WeightsError(
        f"{path}: its saved positions {list(saved.shape)} are neither the 1-D nor the 3-D sine table of {grid}; if it "
        f"is of other clips, give --num-frames, --height and --width; a learnt table cannot be used"
    )


def _names(path: Path, renamed: Renamed, given: Given) -> tuple[tuple[str, ...], bool]:
    """Name the classes: as given, as the file does, or by number."""
    if renamed.part != "finetune":
        if given.class_names is not None:
            raise WeightsError(f"{path}: has no classes to be named: it is not a classifier")
        return (), False
    num_classes = len(renamed.state["head.weight"])
    names = given.class_names if given.class_names is not None else renamed.facts.class_names
    if names is None:
        return tuple(f"class {index}" for index in range(num_classes)), False
    if len(names) != num_classes:
        raise WeightsError(f"{path}: has {num_classes} classes, given: {len(names)} names")
    return names, True


def _selection(renamed: Renamed) -> SelectionConfig:
    """Tubes in pre-training, as everybody whose files do not say, and all tokens in fine-tuning."""
    if renamed.part == "pretrain":
        return SelectionConfig(method="tube", keep_ratio=1.0, encode_ratio=_MASKED[renamed.objective])
    return SelectionConfig(method="all", keep_ratio=1.0, encode_ratio=1.0)
