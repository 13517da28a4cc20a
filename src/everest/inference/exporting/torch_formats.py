"""Graphs as packages of PyTorch: recorded (torch.export), and compiled for this processor (AOTInductor).

Reading such a package may run code: the first may hold pickles, the second is machine code. Only packages that were
written a moment before are read here.
"""

import json
import os
import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor
from torch.export import ExportedProgram

from everest.errors import ConfigError
from everest.inference.exporting.graph import ClipGraph
from everest.inference.exporting.reference import Run

_CACHE_DIR = "TORCHINDUCTOR_CACHE_DIR"  # which torch sets to its default where nobody has, for the whole process
ABOUT_NAME = "everest.json"  # what a package of torch.export says of itself


def record(graph: ClipGraph) -> ExportedProgram:
    """Record a graph for any number of clips."""
    frames = torch.zeros(2, *graph.input_shape, dtype=torch.uint8)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of versions of Python's copyreg
        return torch.export.export(
            graph.eval(), (frames,), dynamic_shapes=({0: torch.export.Dim("batch", min=1)},), strict=False
        )


def write_program(program: ExportedProgram, path: Path, about: Mapping[str, str]) -> None:
    """Write a recorded graph; ``torch.export.load`` reads it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(program, path, extra_files={ABOUT_NAME: json.dumps(dict(about), indent=2)})


def open_program(path: Path, graph: ClipGraph) -> Run:
    """Open what :func:`write_program` wrote just now."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = torch.export.load(path).module()
    return _by_name(module, graph)


def require_compiler() -> None:
    """Say that the compiler is missing before anything is computed.

    Raises:
        ConfigError: There is none.
    """
    if not any(name and shutil.which(name) for name in (os.environ.get("CXX"), "g++", "clang++", "cl")):
        raise ConfigError(
            "an AOTInductor package is compiled, and there is no C++ compiler: install g++ or clang++, or use --torch "
            "or --onnx, which need none"
        )


def write_compiled(program: ExportedProgram, path: Path, about: Mapping[str, str]) -> None:
    """Compile a recorded graph for this processor; ``torch._inductor.aoti_load_package`` reads it.

    Raises:
        ConfigError: The compiler does not work.
    """
    from torch._inductor import aoti_compile_and_package
    from torch._inductor.exc import CppCompileError, InductorError, InvalidCxxCompiler

    try:
        with _own_cache(path.parent), torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # Headers that are compiled beforehand pay from the second package on, and take 280 MB
            configs = {"aot_inductor.metadata": dict(about), "aot_inductor.precompile_headers": False}
            aoti_compile_and_package(program, package_path=str(path), inductor_configs=configs)
    except InductorError as error:
        if not isinstance(error.inner_exception, CppCompileError | InvalidCxxCompiler):
            raise
        reason = str(error.inner_exception).strip().split("\n", 1)[0]
        raise ConfigError(f"the C++ compiler does not work ({reason}): everest doctor says more") from None


@contextmanager
def _own_cache(folder: Path) -> Iterator[None]:
    """Keep what the compiler leaves behind in a folder that is gone afterwards, unless a place is set for it."""
    from torch._inductor.runtime.cache_dir_utils import default_cache_dir
    from torch._inductor.utils import clear_caches

    before = os.environ.get(_CACHE_DIR)
    if before is not None and Path(before) != Path(default_cache_dir()).absolute():
        yield
        return
    with TemporaryDirectory(prefix=".compiling-", dir=folder, ignore_cleanup_errors=True) as name:
        os.environ[_CACHE_DIR] = name
        clear_caches()  # which remember paths in an older folder
        try:
            yield
        finally:
            clear_caches()
            del os.environ[_CACHE_DIR]
            if before is not None:
                os.environ[_CACHE_DIR] = before


def open_compiled(path: Path, graph: ClipGraph) -> Run:
    """Open what :func:`write_compiled` wrote just now."""
    from torch._inductor import aoti_load_package

    return _by_name(aoti_load_package(str(path)), graph)


def _by_name(module: object, graph: ClipGraph) -> Run:
    def run(frames: Tensor) -> dict[str, Tensor]:
        with torch.no_grad():
            return dict(zip(graph.outputs, module(frames), strict=True))  # type: ignore[operator]

    return run
