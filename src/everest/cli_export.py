"""The options of ``everest export``."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from everest import commands_export as do


def add_export(commands: Any, add: Callable[..., Any]) -> None:
    """Describe the command and its options."""
    export = add(
        commands, "export", do.export, "write a model for other programs, and compare it with PyTorch on real clips"
    )
    export.add_argument("checkpoint", metavar="CHECKPOINT", help="a run folder, a weights file, or bundled-falls")
    export.add_argument("--onnx", type=Path, metavar="FILE", help="for onnxruntime and others: a name in .onnx")
    export.add_argument(
        "--torch", type=Path, metavar="FILE", dest="torch_program", help="a package of torch.export: a name in .pt2"
    )
    export.add_argument(
        "--aoti",
        type=Path,
        metavar="FILE",
        help="a package of AOTInductor, compiled for this processor: a name in .pt2",
    )
    export.add_argument("--hf", type=Path, metavar="DIR", help="a folder for transformers, which computes all tokens")
    export.add_argument(
        "--clips", nargs="+", default=[], metavar="VIDEO", help="compare on these (default: three bundled videos)"
    )
    export.add_argument(
        "--keep-ratio", type=float, metavar="R", help="share of the tokens to look at (default: as in training)"
    )
    export.add_argument("--overwrite", action="store_true", help="replace what is there")
    export.add_argument("--json", action="store_true", help="print the result as JSON")
