"""All formats in one list: which one a checkpoint is of, and reading it."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from everest.config import CheckpointInfo
from everest.errors import ConfigError, WeightsError
from everest.models.weights import huggingface, huggingface_writing, mme, mvd, videomae, videomae_v2
from everest.models.weights.adapter import Adapter, Part, Renamed
from everest.models.weights.describe import Given, describe
from everest.models.weights.files import Raw, read_raw
from everest.settings import parse

METADATA_KEY = "everest"
"""Under which a safetensors file of ours holds its :class:`~everest.config.CheckpointInfo`."""
OURS = "everest"
FIRST_TOKEN_HEAD = "a head for the first token's features, where ours is for the mean of all tokens"  # noqa: S105
_MATRICES = tuple(f"{name}.weight" for name in ("qkv", "query", "key", "value", "head", "classifier"))
ADAPTERS = (
    videomae.ADAPTER,
    Adapter("hf", "VideoMAE of transformers", huggingface.recognise, huggingface.read, huggingface_writing.write),
    videomae_v2.ADAPTER,
    mme.ADAPTER,
    mvd.ADAPTER,
)


@dataclass(frozen=True)
class Reading:
    """A checkpoint of any format, by our names.

    Attributes:
        raw: As it lies on the disk.
        format_name: ``everest``, or the name of an adapter.
        title: Of the format, for people.
        reason: What it was recognised by.
        part: A pre-training model, a classifier, or an encoder alone.
        info: What travels with the weights; for an encoder alone, a classifier without classes.
        state: Tensors by our keys.
        unused: Reason by key, of tensors of the file that are not in ``state``.
        notes: What is worth knowing of the way from there to here.
        assumed: What the file does not say and nobody gave.
        names_known: Whether the names of the classes are more than numbers.
    """

    raw: Raw
    format_name: str
    title: str
    reason: str
    part: Part
    info: CheckpointInfo
    state: dict[str, Tensor]
    unused: dict[str, str]
    notes: tuple[str, ...] = ()
    assumed: tuple[str, ...] = ()
    names_known: bool = True

    def __repr__(self) -> str:
        return f"Reading({self.format_name}, {self.part}, {len(self.state)} tensors, {str(self.raw.path)!r})"


def read_weights(checkpoint: Path, given: Given | None = None) -> Reading:
    """Read a checkpoint of any format.

    Args:
        checkpoint: A file, a run folder, a folder of transformers or one of DeepSpeed.
        given: What the file may not say.

    Raises:
        WeightsError: It cannot be read, is of no known format or of several, or no model of ours has such tensors.
    """
    raw = read_raw(checkpoint)
    if METADATA_KEY in raw.metadata:
        if given is not None and given != Given():
            raise WeightsError(f"{raw.path}: written by EVEREST, which says its clips and classes; give none of them")
        info = info_of(raw.path, raw.metadata)
        return Reading(raw, OURS, "EVEREST", "has a description of ours", info.task, info, dict(raw.tensors), {})
    adapter, reason = choose_adapter(raw)
    _check_tensors(raw)
    renamed = _without_first_token_head(adapter.read(raw))
    found = describe(raw.path, renamed, given or Given())
    return Reading(
        raw,
        adapter.name,
        adapter.title,
        reason,
        renamed.part,
        found.info,
        renamed.state,
        renamed.unused,
        (*renamed.notes, *_notes_on_numbers(raw)),
        found.assumed,
        found.names_known,
    )


def choose_adapter(raw: Raw) -> tuple[Adapter, str]:
    """Find the one adapter that knows a checkpoint, and by what.

    Raises:
        WeightsError: None does, or several do.
    """
    known = [(adapter, reason) for adapter in ADAPTERS if (reason := adapter.recognise(raw)) is not None]
    if len(known) == 1:
        return known[0]
    if known:
        told = " and ".join(f"{adapter.name} (it {reason})" for adapter, reason in known)
        raise WeightsError(f"{raw.path}: looks like {told} at once; keep the tensors of one model only")
    keys = ", ".join(list(raw.tensors)[:3]) or "none"
    names = ", ".join(adapter.name for adapter in ADAPTERS)
    kind = f" of model type {raw.config['model_type']!r}" if "model_type" in raw.config else ""
    raise WeightsError(
        f"{raw.path}: weights{kind} that were not written by EVEREST, nor in a format that is known ({names}); its "
        f"first keys are {keys}"
    )


def _check_tensors(raw: Raw) -> None:
    """Refuse tensors that are no weights before anything is made of them."""
    for key, value in raw.tensors.items():
        if not value.is_floating_point() or value.layout is not torch.strided:
            kind = str(value.dtype if value.layout is torch.strided else value.layout).removeprefix("torch.")
            raise WeightsError(f"{raw.path}: {key} is {kind}; weights are plain floating-point tensors")
        if key.endswith(_MATRICES) and value.ndim != 2:
            raise WeightsError(f"{raw.path}: {key} should be a matrix, found {list(value.shape)}")


def info_of(path: Path, metadata: Any) -> CheckpointInfo:
    """Read what travels with weights of ours.

    Raises:
        WeightsError: Another version of EVEREST wrote it.
    """
    try:
        return parse(CheckpointInfo, json.loads(metadata[METADATA_KEY]))
    except (ConfigError, ValueError) as error:
        raise WeightsError(f"{path}: written by another version of EVEREST ({error})") from None


def _without_first_token_head(renamed: Renamed) -> Renamed:
    """Take a classifier without a norm after the mean for the encoder that it is to us."""
    if renamed.part != "finetune" or "fc_norm.weight" in renamed.state:
        return renamed
    state = {key: value for key, value in renamed.state.items() if not key.startswith("head.")}
    unused = renamed.unused | {key: FIRST_TOKEN_HEAD for key in renamed.state if key.startswith("head.")}
    return Renamed("encoder", state, renamed.objective, unused, renamed.notes, renamed.facts)


def _notes_on_numbers(raw: Raw) -> Iterator[str]:
    """Say where numbers are not kept as 32 bits."""
    kinds = sorted({str(value.dtype).removeprefix("torch.") for value in raw.tensors.values()} - {"float32"})
    for kind in kinds:
        kept = "exactly" if kind in {"float16", "bfloat16"} else "rounded"
        yield f"{kind} in the file, {kept} float32 here"
