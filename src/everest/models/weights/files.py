"""Weights as they lie on the disk: tensors by the keys of whoever wrote them, and what lies beside them.

Files are safetensors, or what ``torch.save`` wrote: state dicts, alone or in a dict with an optimiser and arguments,
and DeepSpeed's. They are told apart by their first bytes. Reading runs no code: of a pickle, tensors and plain values
are taken and ``argparse.Namespace``, which training scripts leave in it; anything else refuses the file.
"""

import argparse
import json
import re
import struct
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import safetensors
import torch
from torch import Tensor

from everest.errors import WeightsError
from everest.hashing import fingerprint
from everest.models.weights.archives import SIGNS_OF_DAMAGE, damaged_part
from everest.models.weights.ready import READY_MADE, locate

WEIGHTS_NAME = "weights.safetensors"
"""What the weights in a run folder are called."""
CONFIG_NAME = "config.json"
DEEPSPEED_NAME = "mp_rank_00_model_states.pt"
TRANSFORMERS_NAMES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
_INSIDE = ("model", "module", "state_dict", "model_state_dict")  # where a dict of torch.save keeps the tensors
_DAMAGED = (  # what PyTorch raises on bytes that are no pickle of tensors
    *(LookupError, AttributeError, TypeError, AssertionError, ArithmeticError, ImportError, struct.error),
    *SIGNS_OF_DAMAGE,
    safetensors.SafetensorError,  # PyTorch goes by the name of a file as well
)


@dataclass(frozen=True)
class Raw:
    """A checkpoint as somebody wrote it.

    Attributes:
        path: The file that holds the tensors, or the folder of several.
        container: What kind of file or folder.
        tensors: By the keys of the file, without what parallel training or a compiler puts before all of them.
        metadata: Of a safetensors file.
        args: Arguments of the script that wrote it, where it left them.
        config: ``config.json`` beside the file, in folders of transformers.
        preprocessor: ``preprocessor_config.json`` there.
        beside: What else the file holds, such as an optimiser.
    """

    path: Path
    container: str
    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, str] = field(default_factory=dict)
    args: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    preprocessor: Mapping[str, Any] = field(default_factory=dict)
    beside: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"Raw({str(self.path)!r}, {self.container}, {len(self.tensors)} tensors)"

    def digest(self) -> str:
        """Hash the tensors with their keys, wherever they lie."""
        return fingerprint("", self.tensors)


def read_raw(checkpoint: Path) -> Raw:
    """Read a weights file, or the one that a folder holds.

    Args:
        checkpoint: A file; a run folder, a folder of transformers, or one of DeepSpeed; or a name of ready-made
            weights.

    Raises:
        WeightsError: There is none, or it is damaged, incomplete or asks to run code.
    """
    path = locate(checkpoint.expanduser())
    if path.is_dir():
        return _read_folder(path)
    if not path.is_file():
        raise WeightsError(f"{checkpoint}: expected a run folder or a weights file, or {' or '.join(READY_MADE)}")
    if path.name in TRANSFORMERS_NAMES and is_transformers_folder(path.parent):
        return _read_transformers(path.parent, path)
    return read_file(path)


def is_transformers_folder(folder: Path) -> bool:
    """Whether a folder holds a model that transformers saved; a run folder has a ``config.json`` as well."""
    if not (folder / CONFIG_NAME).is_file() or not any((folder / name).is_file() for name in TRANSFORMERS_NAMES):
        return False
    return "model_type" in _read_json(folder / CONFIG_NAME)


def read_file(path: Path) -> Raw:
    """Read one file of tensors.

    Raises:
        WeightsError: It is damaged, of another kind, or asks to run code.
    """
    try:
        with path.open("rb") as file:
            start = file.read(9)
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read: {error.strerror}") from None
    if start[8:] == b"{" or not start.startswith((b"PK\x03\x04", b"\x80")):
        return _read_safetensors(path)
    return _unwrap(path, _read_pickle(path))


def _read_folder(folder: Path) -> Raw:
    if (folder / WEIGHTS_NAME).is_file():
        return read_file(folder / WEIGHTS_NAME)
    if is_transformers_folder(folder):
        return _read_transformers(folder, next(folder / n for n in TRANSFORMERS_NAMES if (folder / n).is_file()))
    if (folder / DEEPSPEED_NAME).is_file():
        return read_file(folder / DEEPSPEED_NAME)
    raise WeightsError(
        f"{folder}: expected a run folder that holds {WEIGHTS_NAME}, a folder of transformers ({CONFIG_NAME} and "
        f"{TRANSFORMERS_NAMES[0]}) or of DeepSpeed ({DEEPSPEED_NAME})"
    )


def _read_safetensors(path: Path) -> Raw:
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - it is not a mapping
    except (safetensors.SafetensorError, OSError) as error:
        what = "not a" if path.suffix == ".safetensors" else "neither a file of torch.save nor a"
        raise WeightsError(f"{path}: {what} readable safetensors file ({error})") from None
    return Raw(path, "safetensors", _without_wrappers(path, tensors), metadata)


def _read_pickle(path: Path) -> Any:
    """Load what ``torch.save`` wrote, without running code.

    Every byte of an archive is compared with its check sum first: torch itself would not notice a changed one.
    """
    try:
        is_archive = zipfile.is_zipfile(path)
        if is_archive:
            damaged = damaged_part(path)
            if damaged is not None:
                raise WeightsError(f"{path} is damaged (its part {damaged!r} is not what was written)")
        with warnings.catch_warnings(), torch.serialization.safe_globals([argparse.Namespace]):
            warnings.simplefilter("ignore", UserWarning)  # of unusual pickles; they are read or refused
            return torch.load(path, map_location="cpu", weights_only=True, mmap=is_archive)
    except _DAMAGED as error:
        asked = re.search(r"GLOBAL ([\w.]+)", str(error))
        if asked is not None:
            raise WeightsError(
                f"{path}: refused, because loading it would run {asked[1]}; weights are tensors and plain values. If "
                f"you trust the file, save its state dict alone with the program that wrote it"
            ) from None
        problem = " ".join(str(error).split("\n", 1)[0].split())[:120] or type(error).__name__
        raise WeightsError(f"{path}: damaged, or not a file of torch.save ({problem})") from None


def _unwrap(path: Path, content: Any) -> Raw:
    """Find the tensors in what was saved, and the arguments beside them."""
    if not isinstance(content, Mapping):
        raise WeightsError(f"{path}: holds a {type(content).__name__} instead of a state dict")
    inside = next((k for k in _INSIDE if isinstance(content.get(k), Mapping) and _tensors(content[k])), None)
    tensors = _tensors(content if inside is None else content[inside])
    if not tensors:
        raise WeightsError(f"{path}: holds no tensors by name; a state dict was expected, alone or under 'model'")
    given = content.get("args")
    deepspeed = inside == "module" and ("ds_version" in content or path.name == DEEPSPEED_NAME)
    if deepspeed:
        _check_deepspeed(path, tensors)
    beside = content.keys() - ({"args"} if isinstance(given, argparse.Namespace) else set())
    beside -= tensors.keys() if inside is None else {inside}
    return Raw(
        path,
        "DeepSpeed" if deepspeed else f"torch.save, under {inside!r}" if inside else "torch.save",
        _without_wrappers(path, tensors),
        args=vars(given) if isinstance(given, argparse.Namespace) else {},
        beside=tuple(sorted(map(str, beside))),
    )


def _check_deepspeed(path: Path, tensors: Mapping[str, Tensor]) -> None:
    if path.with_name("mp_rank_01_model_states.pt").exists():
        raise WeightsError(f"{path}: one of several parts of a model; join them with DeepSpeed first")
    if any(value.numel() == 0 for value in tensors.values()):
        raise WeightsError(
            f"{path}: its tensors are empty, DeepSpeed's stage 3 keeps them elsewhere; join them with the "
            f"zero_to_fp32.py that lies beside the checkpoint"
        )


def _read_transformers(folder: Path, weights: Path) -> Raw:
    """Read a folder that transformers saved, in one file or in several."""
    if weights.suffix == ".json":
        places = _read_json(weights).get("weight_map")
        names = sorted({str(name) for name in places.values()}) if isinstance(places, dict) else []
        if not names or any(Path(name).name != name or name == ".." for name in names):
            raise WeightsError(f"{weights}: does not say in which files of its folder the tensors are")
        parts = [read_file(folder / name) for name in names]
    else:
        parts = [read_file(weights)]
    tensors = {key: value for part in parts for key, value in part.tensors.items()}
    extra = folder / "preprocessor_config.json"
    return replace(
        parts[0],
        path=weights if len(parts) == 1 else folder,
        container="transformers folder",
        tensors=tensors,
        config=_read_json(folder / CONFIG_NAME),
        preprocessor=_read_json(extra) if extra.is_file() else {},
    )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path}: not readable as JSON ({error})") from None
    if not isinstance(values, dict):
        raise WeightsError(f"{path}: expected a JSON object, found a {type(values).__name__}")
    return values


def _tensors(values: Mapping[Any, Any]) -> dict[str, Tensor]:
    return {k: v for k, v in values.items() if isinstance(k, str) and isinstance(v, Tensor)}


def _without_wrappers(path: Path, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Take away what distributed training, a compiler or a larger model put before the keys."""
    for prefix in ("module.", "_orig_mod.", "backbone."):
        if tensors and all(key.startswith(prefix) for key in tensors if not key.startswith("head.")):
            renamed = {key.removeprefix(prefix): value for key, value in tensors.items()}
            if len(renamed) != len(tensors):
                raise WeightsError(f"{path}: has the same keys with and without {prefix!r}")
            tensors = renamed
    return tensors
