"""Our own weights files, and what is done with checkpoints of any format: build the model, or start fine-tuning."""

from pathlib import Path

import safetensors
import torch
from torch import nn

from everest.config import CheckpointInfo, ClipConfig, ModelConfig
from everest.errors import WeightsError
from everest.models.autoencoder import MaskedModel
from everest.models.classifier import Classifier
from everest.models.weights.adapter import DECODER_UNUSED
from everest.models.weights.describe import Given
from everest.models.weights.files import WEIGHTS_NAME
from everest.models.weights.formats import METADATA_KEY, Reading, info_of, read_weights
from everest.models.weights.ready import READY_MADE, locate
from everest.models.weights.report import ABSENT, Comparison, LoadReport, compare_state, load_state
from everest.models.weights.writing import write_safetensors
from everest.models.zoo import build_classifier, build_masked_model, grid_of

_HEAD_UNUSED = "a head for other classes"
_UNNAMED_HEAD = "a head for classes that the file does not name: convert it with --classes FILE to keep it"
_FRESH_HEAD = "that of the file is not used"
_NOTE_KEY = "everest_note"


def save_weights(model: nn.Module, info: CheckpointInfo, path: Path, *, note: str = "") -> None:
    """Write a model and all that inference needs into one safetensors file, atomically.

    Args:
        model: A :class:`MaskedModel` or :class:`Classifier`.
        info: What travels with the weights.
        path: Where to; an existing file is replaced only when the new one is complete.
        note: Whatever else is to be said of these weights, for :func:`read_note`.

    Raises:
        WeightsError: The file cannot be written.
    """
    metadata = {METADATA_KEY: info.model_dump_json()} | ({_NOTE_KEY: note} if note else {})
    write_safetensors(path, model.state_dict(), metadata)


def read_info(path: Path) -> CheckpointInfo:
    """Read what travels with the weights, without the weights.

    Raises:
        WeightsError: Not a file that :func:`save_weights` wrote.
    """
    metadata = _read_metadata(path)
    if METADATA_KEY not in metadata:
        raise WeightsError(f"{path}: holds weights but not how to use them; it was not written by EVEREST")
    return info_of(path, metadata)


def read_note(path: Path) -> str:
    """Read the note that was written with the weights; empty where there is none.

    Raises:
        WeightsError: Not a safetensors file that is whole.
    """
    return _read_metadata(path).get(_NOTE_KEY, "")


def _read_metadata(path: Path) -> dict[str, str]:
    if not path.is_file():
        raise WeightsError(f"{path}: no such weights file")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            return file.metadata() or {}
    except (safetensors.SafetensorError, OSError) as error:
        raise WeightsError(f"{path}: not a readable safetensors file ({error})") from None


def find_weights(checkpoint: Path) -> Path:
    """Find the weights file that CHECKPOINT means: a weights file, a run folder that holds one, or a ready-made name.

    Raises:
        WeightsError: Neither.
    """
    path = checkpoint / WEIGHTS_NAME if checkpoint.is_dir() else locate(checkpoint)
    if not path.is_file():
        expected = (
            f"a run folder that holds {WEIGHTS_NAME}"
            if checkpoint.is_dir()
            else f"a run folder or a weights file, or {' or '.join(READY_MADE)}"
        )
        raise WeightsError(f"{checkpoint}: expected {expected}")
    return path


def load_model(checkpoint: Path, given: Given | None = None) -> tuple[MaskedModel | Classifier, CheckpointInfo]:
    """Build the model that a checkpoint holds and give it its weights.

    Args:
        checkpoint: A run folder, or a checkpoint of any format that :func:`read_weights` knows.
        given: What the file may not say.

    Returns:
        The model in evaluation mode on the CPU, and what travelled with it.

    Raises:
        WeightsError: The file is damaged or does not fit its own description.
    """
    reading = read_weights(checkpoint, given)
    return build_model(reading), reading.info


def build_model(reading: Reading) -> MaskedModel | Classifier:
    """Build the model that a checkpoint is of, with its weights, in evaluation mode on the CPU.

    Raises:
        WeightsError: Tensors are missing, left over or of another shape, or it is an encoder alone.
    """
    if reading.part == "encoder":
        raise WeightsError(
            f"{reading.raw.path}: holds an encoder without a head or a decoder that we have; start fine-tuning from it "
            f"(--init)"
        )
    with torch.random.fork_rng():  # loading does not move the random state on
        model = _build(reading)
    load_state(model, reading.state, source=str(reading.raw.path), strict=True)
    return model.eval()


def compare_weights(reading: Reading) -> Comparison:
    """Compare a checkpoint with the model that it is of, without memory for the model.

    An encoder alone is compared with the encoder of a classifier. It may have a last norm, or the norm before a head,
    which fine-tuning takes over; those count as matched.

    Raises:
        ConfigError, SelectionError, WeightsError: There is no such model.
    """
    with torch.device("meta"), torch.random.fork_rng():
        own = _build(reading).state_dict()
    if reading.part == "encoder":
        own = {key: value for key, value in own.items() if key.startswith("encoder.")}
        own |= {key: value for key, value in reading.state.items() if key.startswith(_NORMS)}
    return compare_state(own, reading.state)


def _build(reading: Reading) -> MaskedModel | Classifier:
    info = reading.info
    if reading.part == "pretrain":
        return build_masked_model(info.model, info.clip, info.objective)
    if reading.part == "finetune" and not info.class_names:
        raise WeightsError(f"{reading.raw.path}: says that it is a classifier, but names no class")
    return build_classifier(info.model, info.clip, max(1, len(info.class_names)))


def initialize_from(
    classifier: Classifier, checkpoint: Path | Reading, class_names: tuple[str, ...] = ()
) -> LoadReport:
    """Start fine-tuning from a checkpoint.

    The encoder is copied; so is the final norm of a pre-trained encoder, into the norm before the head. The head of
    another classifier is copied where it has the same classes.

    Args:
        classifier: The model to start; changed in place.
        checkpoint: A run folder or a checkpoint of any format that :func:`read_weights` knows, pre-trained or
            fine-tuned; or one that has been read.
        class_names: Of the classifier; a head is only taken over from the very same classes.

    Returns:
        What became of each tensor, and why.

    Raises:
        WeightsError: A tensor of the encoder is missing, left over or of another shape; a checkpoint that does not fit
            is refused, never half loaded.
    """
    reading = checkpoint if isinstance(checkpoint, Reading) else read_weights(checkpoint)
    reasons, state, left_out = dict(reading.unused), {}, []
    keeps_head = reading.info.class_names == class_names and reading.names_known
    for key, value in reading.state.items():
        if key.startswith("head.") and not keeps_head:
            left_out.append(key)
            reasons[key] = _HEAD_UNUSED if reading.names_known else _UNNAMED_HEAD
        elif key.startswith("encoder.norm."):
            state["fc_norm." + key.removeprefix("encoder.norm.")] = value
        else:
            state[key] = value
            if key.startswith(_DECODERS):
                reasons[key] = DECODER_UNUSED
    report = load_state(
        classifier,
        state,
        source=f"{reading.raw.path} ({summarize(reading.info)})",
        may_miss=("head.", "fc_norm."),
        refused=("encoder.",),
    )
    fresh = {key: _FRESH_HEAD if key in left_out else ABSENT for key in report.missing}
    unexpected = (*report.unexpected, *left_out, *reading.unused)
    return LoadReport(report.matched, report.missing, unexpected, fresh, reasons, reading.notes)


_NORMS = ("encoder.norm.", "fc_norm.")
_DECODERS = ("decoder", "encoder_to_decoder.", "mask_token", "down_img.", "down_vid.")


def positions_for(model: ModelConfig, clip: ClipConfig, start: Reading) -> tuple[ModelConfig, str]:
    """Take over the positions that an encoder was trained with, stretched where clips have another shape.

    Args:
        model: Of the classifier to be started; what it says of positions itself is kept.
        clip: Its clips.
        start: What it starts from.

    Returns:
        The network's settings, and a line for people; empty where nothing changes.
    """
    theirs, usual = start.info.model, ModelConfig()
    if (model.positions, model.positions_grid) != (usual.positions, usual.positions_grid):
        return model, ""
    made_for = theirs.positions_grid or grid_of(theirs, start.info.clip).shape
    own = grid_of(model, clip).shape
    changed = {"positions": theirs.positions, "positions_grid": None if made_for == own else made_for}
    told = []
    if theirs.positions != usual.positions:
        told.append(f"positions: {theirs.positions}, as in the checkpoint")
    if made_for != own:
        was, now = ("x".join(map(str, shape)) for shape in (made_for, own))
        unsure = " (assumed, the file does not say)" if any("clips of" in line for line in start.assumed) else ""
        told.append(f"positions: those of {was} tokens{unsure}, stretched to {now}")
    return model.model_copy(update=changed), "; ".join(told)


def summarize(info: CheckpointInfo) -> str:
    """Say in a few words which network it is."""
    model = info.model
    network = "" if model.arch == "vit" else f"{model.arch}, "
    return f"{network}size {model.size}, tubelets of {model.tubelet_size}x{model.patch_size}x{model.patch_size}"
