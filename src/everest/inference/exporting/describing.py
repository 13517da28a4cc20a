"""What an exported file says of itself: all that somebody needs who has nothing but the file."""

import json
from importlib.metadata import version
from typing import Any

import torch

from everest.inference.exporting.graph import ClipGraph
from everest.models.weights import summarize
from everest.tokens import count_tokens

_OUTPUTS = {
    "logits": "float32 [batch, classes]",
    "probabilities": "float32 [batch, classes]: softmax of the logits, in the order of class_names",
    "features": "float32 [batch, width]: one vector for each clip",
    "tokens": "float32 [batch, kept, width]: one vector for each kept token",
    "visible": "int64 [batch, kept]: numbers of the kept tokens, slot x rows x columns + row x columns + column",
    "chosen_frames": "int64 [batch, used]: numbers of the frames that were chosen of those given",
}


def describe(graph: ClipGraph, checkpoint_sha256: str) -> dict[str, str]:
    """Say what goes in, what comes out, and what it was made of.

    Args:
        graph: The model.
        checkpoint_sha256: Of the weights file.

    Returns:
        Texts by name; lists and numbers as JSON.
    """
    info, grid = graph.info, graph.encoder.grid
    num_given, height, width, _ = graph.input_shape
    shown: dict[str, Any] = {
        "program": f"everest-video {version('everest-video')}, torch {torch.__version__}",
        "checkpoint_sha256": checkpoint_sha256,
        "task": "features" if graph.head is None else "classification",
        "network": summarize(info),
        "input": f"frames: RGB pictures, uint8 [batch, {num_given}, {height}, {width}, 3]; scaled to cover "
        f"{height}x{width}, bilinear with antialiasing, and the centre taken; normalised inside",
        "outputs": {name: _OUTPUTS[name] for name in graph.outputs},
        "num_frames": num_given,
        "height": height,
        "width": width,
        "sampling": info.clip.sampling,
        "selection": info.selection.method,
        "keep_ratio": 1.0 if info.selection.method == "all" else info.selection.keep_ratio,
        "num_tokens": grid.num_tokens,
        "num_kept_tokens": count_tokens(grid, info.selection, info.task).num_visible,
        "grid": list(grid.shape),
        "tubelet": [grid.tubelet_size, grid.patch_size, grid.patch_size],
        "frame_selection": info.frame_selection.enabled,
        "mean": list(info.mean),
        "std": list(info.std),
    }
    closer = info.clip.num_frames / num_given  # candidates cover the same time in smaller steps
    if info.clip.sampling == "dense" and info.clip.fps is None:
        shown["stride"] = info.clip.stride * closer
    elif info.clip.sampling == "dense" and info.clip.fps is not None:
        shown["fps"] = info.clip.fps / closer
    if graph.head is not None:
        shown["class_names"] = list(info.class_names)
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in shown.items()}
