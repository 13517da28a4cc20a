"""The options of ``everest ui``."""

from collections.abc import Callable
from typing import Any

from everest import commands_ui as do


def add_ui(commands: Any, add: Callable[..., Any]) -> None:
    """Describe the command and its options."""
    text = "serve a local web page: drop a video, move sliders, see what is kept and what it costs"
    ui = add(commands, "ui", do.ui, text)
    ui.add_argument(
        "checkpoints",
        nargs="*",
        metavar="CHECKPOINT",
        help="a pre-trained one, to see reconstructions, and a classifier, to see predictions (default: neither)",
    )
    ui.add_argument(
        "--host", default="127.0.0.1", metavar="ADDRESS", help="who may ask (default: 127.0.0.1, this machine alone)"
    )
    ui.add_argument(
        "--port", type=int, default=7860, metavar="N", help="of the page (default: 7860); 0 takes a free one"
    )
    ui.add_argument(
        "--device", default="auto", choices=("auto", "cpu", "cuda", "mps"), help="what computes (default: auto)"
    )
    ui.add_argument(
        "--max-megabytes", type=float, default=200, metavar="MB", help="largest video that is accepted (default: 200)"
    )
    ui.add_argument(
        "--name",
        action="append",
        default=[],
        dest="names",
        metavar="NAME",
        help="what else browsers call this machine, such as box.lab.example; may be repeated",
    )
