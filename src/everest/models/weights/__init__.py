"""Weights on disk: safetensors that carry what is needed to use them, and adapters for the formats of others.

Parameter names are those of the field (VideoMAE's and the EVEREST release's), so that a pre-trained file needs no
renaming. Every other format has an adapter of its own; the models know nothing of them.
"""

from everest.models.weights.convert import TARGETS, Converted, Shown, Target, convert_weights, show_weights
from everest.models.weights.describe import Given
from everest.models.weights.files import WEIGHTS_NAME, is_transformers_folder
from everest.models.weights.formats import METADATA_KEY, Reading, read_weights
from everest.models.weights.ours import (
    build_model,
    find_weights,
    initialize_from,
    load_model,
    positions_for,
    read_info,
    read_note,
    save_weights,
    summarize,
)
from everest.models.weights.report import LoadReport, load_state
from everest.models.weights.videomae import from_release

__all__ = [
    "METADATA_KEY",
    "TARGETS",
    "WEIGHTS_NAME",
    "Converted",
    "Given",
    "LoadReport",
    "Reading",
    "Shown",
    "Target",
    "build_model",
    "convert_weights",
    "find_weights",
    "from_release",
    "initialize_from",
    "is_transformers_folder",
    "load_model",
    "load_state",
    "positions_for",
    "read_info",
    "read_note",
    "read_weights",
    "save_weights",
    "show_weights",
    "summarize",
]
