"""Graphs as ONNX files: one file that onnxruntime and others compute.

A stable sort has no operator of its own there. TopK of as many as there are does it: of equal values it gives the one
with the lower number first, as the standard says (docs/decisions/0007).
"""

import importlib.util
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.export import ExportedProgram

from everest.errors import ConfigError
from everest.inference.exporting.graph import ClipGraph
from everest.inference.exporting.reference import Run

OPSET = 18  # what the exporter of torch writes itself, and every onnxruntime since 1.14 reads
INPUT, BATCH = "frames", "batch"
MAX_INLINE_BYTES = 1_800_000_000  # a protocol buffer ends at 2 GiB; larger weights go into a file beside it
_NEEDED = ("onnx", "onnxscript", "onnxruntime")


def require_onnx() -> None:
    """Say what is missing before anything is computed.

    Raises:
        ConfigError: A package is not installed.
    """
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"writing ONNX and trying it out needs {', '.join(missing)}: pip install 'everest-video[export]'"
        )


def write_onnx(program: ExportedProgram, graph: ClipGraph, path: Path, about: Mapping[str, str]) -> tuple[str, ...]:
    """Write a graph.

    Args:
        program: It, recorded for any number of clips.
        graph: What was recorded.
        path: A file in a folder of its own.
        about: What the file shall say of itself.

    Returns:
        Names of the files: that one, and one with the weights where they do not fit into it.
    """
    with _quiet():
        made = torch.onnx.export(
            program,
            dynamo=True,
            input_names=[INPUT],
            output_names=list(graph.outputs),
            opset_version=OPSET,
            verbose=False,
            custom_translation_table={torch.ops.aten.sort.stable: _translate_stable_sort()},
        )
    assert made is not None  # noqa: S101 - for the type checker: no file was named
    _tidy(made.model, about)
    num_bytes = sum(value.numel() * value.element_size() for value in program.state_dict.values())
    made.save(path, external_data=num_bytes > MAX_INLINE_BYTES)
    return tuple(sorted(each.name for each in path.parent.iterdir()))


def open_onnx(path: Path) -> Run:
    """Open a file with onnxruntime, on the CPU with as many threads as PyTorch has."""
    import onnxruntime

    onnxruntime.set_default_logger_severity(3)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]

    def run(frames: Tensor) -> dict[str, Tensor]:
        values = session.run(names, {INPUT: frames.numpy()})
        return {name: torch.from_numpy(np.asarray(value)) for name, value in zip(names, values, strict=True)}

    return run


def _translate_stable_sort() -> Any:
    from onnxscript import opset18

    def stable_sort(values: Any, *, stable: bool | None = None, dim: int = -1, descending: bool = False) -> Any:
        del stable
        count = opset18.Gather(opset18.Shape(values), opset18.Constant(value_ints=[dim]))  # [1]
        return opset18.TopK(values, count, axis=dim, largest=int(descending), sorted=1)

    return stable_sort


def _tidy(model: Any, about: Mapping[str, str]) -> None:
    """Name what is variable, say what the file is, and leave out the places in the program that each node is from."""
    graph = model.graph
    (given,) = graph.inputs
    symbol = given.shape[0].value  # the only one: others are computed from it, and need no name
    inside = [value for node in graph.all_nodes() for value in node.outputs]
    for value in (given, *inside, *graph.initializers.values()):
        value.metadata_props.clear()
        if value.shape is not None:
            value.shape = type(value.shape)([_named(size, symbol) for size in value.shape])
    for value in graph.outputs:
        value.shape = type(value.shape)([BATCH, *value.shape[1:]])
    for node in graph.all_nodes():
        node.metadata_props.clear()
        node.doc_string = None
    graph.name, model.doc_string = "everest", about.get("input")
    model.producer_name, model.producer_version = "everest-video", version("everest-video")
    model.metadata_props.clear()
    model.metadata_props.update(about)


def _named(size: Any, symbol: str) -> Any:
    if isinstance(size, int):
        return size
    return BATCH if size.value == symbol else None


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep to itself what the exporter says of packages that are not needed."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)
