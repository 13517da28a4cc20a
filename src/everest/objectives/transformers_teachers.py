"""Teachers from the transformers library: VideoMAE for videos, ViT and ViT-MAE for pictures.

Shapes: B clips or pictures, T frames, H height, W width, N tokens, L patches of a picture, D width.
"""

import json
import math
import os
import zipfile
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from everest.config import CheckpointInfo
from everest.errors import ConfigError, WeightsError
from everest.objectives.teachers import Kind, Teacher, expect_places
from everest.tokens import TokenGrid

HUB_PREFIX = "hf:"
_CLASSES = {"videomae": "VideoMAEModel", "vit": "ViTModel", "vit_mae": "ViTMAEModel"}
_OF_KIND: dict[Kind, tuple[str, ...]] = {"image": ("vit", "vit_mae"), "video": ("videomae",)}
_UNREADABLE = (  # what transformers raises on files that are damaged, incomplete, or not what they should be
    *(OSError, ValueError, RuntimeError, LookupError, TypeError, AttributeError, ImportError, EOFError),
    *(SafetensorError, UnpicklingError, zipfile.BadZipFile),
)
_NOT_USED = ("pooler", "layernorm")
"""Parts of a model after the features; of a block's norms the last is called otherwise."""


def is_of_transformers(given: str) -> bool:
    """Whether a teacher's name means a model of transformers: ``hf:OWNER/NAME``, or a folder with its config.json."""
    if given.startswith(HUB_PREFIX):
        return True
    try:
        values = json.loads((Path(given).expanduser() / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(values, dict) and "model_type" in values


def load_transformers_teacher(given: str, kind: Kind, grid: TokenGrid) -> Teacher:
    """Load a teacher that ``save_pretrained`` of transformers wrote, or one of the hub.

    Args:
        given: A folder, or ``hf:OWNER/NAME``.
        kind: What it is asked about.
        grid: The tokens of the student.

    Raises:
        ConfigError: transformers is not installed.
        WeightsError: There is no such model, it is of another kind, or its tokens lie elsewhere than the student's.
    """
    place = f"objective.{kind}_teacher: {given}"
    name = given.removeprefix(HUB_PREFIX) if given.startswith(HUB_PREFIX) else str(Path(given).expanduser())
    asked = _only_asked_for(given)
    os.environ.setdefault("DISABLE_SAFETENSORS_CONVERSION", "1")  # it tells a service of the hub which model that is
    try:
        import transformers
    except ImportError as error:
        raise ConfigError(f"{place} is a model of transformers: {error}; pip install 'transformers>=4.50'") from None
    try:
        config = transformers.AutoConfig.from_pretrained(name, **asked)
    except _UNREADABLE as error:
        raise WeightsError(f"{place} cannot be read as a model of transformers: {_first_line(error)}") from None
    accepted = _OF_KIND[kind]
    if config.model_type not in accepted:
        raise WeightsError(f"{place} is a model of type {config.model_type!r}; accepted: {', '.join(accepted)}")
    if getattr(config, "quantization_config", None) is not None:
        raise WeightsError(f"{place} is quantised, which needs libraries of its own; give a model as it was trained")
    expect_places(_grid_of(config, grid), kind, grid, given)
    mean, std = _normalization(name, place, asked["local_files_only"])
    config.dtype = torch.float32  # whatever the file was saved for
    config._attn_implementation = None  # nor kernels that would be downloaded
    if config.model_type == "vit_mae":
        config.mask_ratio = 0.0
    network = _Features(_load(getattr(transformers, _CLASSES[config.model_type]), name, config, place, asked))
    return Teacher(network, kind=kind, width=config.hidden_size, grid=grid, mean=mean, std=std, name=given)


class _Features(nn.Module):
    """The features of all patches before the last norm, without the class token.

    Normalised clips [B, 3, T, H, W] to [B, N, D] of VideoMAE, pictures [B, 3, H, W] to [B, L, D] of the others.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        model.layernorm = nn.Identity()
        self.model = model

    def forward(self, pixels: Tensor) -> Tensor:
        kind = self.model.config.model_type
        if kind == "videomae":
            features: Tensor = self.model(pixels.transpose(1, 2)).last_hidden_state  # [B, T, 3, H, W] to [B, N, D]
            return features
        more = {}
        if kind == "vit_mae":  # it keeps all patches, but would shuffle them
            num_patches = self.model.embeddings.patch_embeddings.num_patches
            more["noise"] = torch.linspace(0, 1, num_patches, device=pixels.device).expand(len(pixels), -1)  # [B, L]
        features = self.model(pixels, **more).last_hidden_state  # [B, 1 + L, D]
        return features[:, 1:]


def _only_asked_for(given: str) -> dict[str, Any]:
    """Options of transformers: no code comes with a model, and the network is used for models of the hub alone."""
    return {"trust_remote_code": False, "local_files_only": not given.startswith(HUB_PREFIX)}


def _load(kind: Any, name: str, config: Any, place: str, asked: dict[str, Any]) -> nn.Module:
    """Load a model, and refuse weights that do not have all of it."""
    more = asked | {"weights_only": True} | ({"add_pooling_layer": False} if config.model_type == "vit" else {})
    try:
        with torch.random.fork_rng():  # loading does not move the random state on
            model, told = kind.from_pretrained(name, config=config, output_loading_info=True, **more)
    except _UNREADABLE as error:
        raise WeightsError(f"{place} cannot be loaded: {_first_line(error)}") from None
    missing = sorted(key for key in told["missing_keys"] if key.split(".")[0] not in _NOT_USED)
    if missing or told["mismatched_keys"]:
        wrong = missing or sorted(map(str, told["mismatched_keys"]))
        raise WeightsError(f"{place} lacks {len(wrong)} weights of its own description, such as {wrong[0]}")
    return model  # type: ignore[no-any-return]


def _grid_of(config: Any, grid: TokenGrid) -> TokenGrid:
    """The tokens of a model; an image model has one slot."""
    (height, width), (rows, columns) = (_pair(config.image_size), _pair(config.patch_size))
    frames, size = (config.num_frames, config.tubelet_size) if config.model_type == "videomae" else (1, 1)
    if rows != columns:
        raise WeightsError(f"patches of {rows}x{columns} pixels: a teacher needs square ones, as {grid} has them")
    return TokenGrid.of_clip(frames, height, width, size, rows)


def _pair(size: Any) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))


def _normalization(name: str, place: str, is_local: bool) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation that a model was trained with; those of ImageNet, as ours, where it does not say."""
    values = _read_preprocessing(name, is_local)
    if values is None:
        fields = CheckpointInfo.model_fields
        return fields["mean"].default, fields["std"].default
    factor = values.get("rescale_factor", 1 / 255) if values.get("do_rescale", True) else 1.0
    if not math.isclose(factor, 1 / 255, rel_tol=1e-3):
        raise WeightsError(f"{place} scales pixels by {factor:g}; a teacher takes values of 0 to 1, 1/255 of a byte")
    if not values.get("do_normalize", True):
        return (0.0,) * 3, (1.0,) * 3
    mean, std = (values.get(f"image_{part}") for part in ("mean", "std"))
    for numbers in (mean, std):
        if not isinstance(numbers, list) or len(numbers) != 3:
            raise WeightsError(f"{place}: its preprocessor_config.json does not say image_mean and image_std")
    return tuple(mean or ()), tuple(std or ())


def _read_preprocessing(name: str, is_local: bool) -> dict[str, Any] | None:
    """Read how a model's pixels are prepared; None where nothing says so."""
    from transformers.utils.hub import cached_file

    for file in ("preprocessor_config.json", "video_preprocessor_config.json"):
        try:
            found = cached_file(name, file, local_files_only=is_local)
            values = json.loads(Path(found or "").read_text(encoding="utf-8"))
        except OSError:  # there is no such file
            continue
        except ValueError as error:
            raise WeightsError(f"{found}: not readable as JSON: {error}") from None
        if isinstance(values, dict):
            return values
    return None


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n", 1)[0]
