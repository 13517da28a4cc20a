"""The options of ``everest ui``."""

from collections.abc import Callable
from typing import Any

from everest import commands_ui as do
from everest.config.serving import UI_HOST, UI_MEGABYTES, UI_PORT


def add_ui(commands: Any, add: Callable[..., Any]) -> None:
    """Describe the command and its options."""
    text = "serve a local web page: drop a video, move sliders, see what is kept and what it costs"
    ui = add(commands, "ui", do.ui, text)
    ui.add_argument(
        "checkpoints",
        nargs="*",
        metavar="CHECKPOINT",
        help="a pre-trained one, to see reconstructions, and a classifier, to see predictions, such as bundled and "
        "bundled-falls (default: neither)",
    )
    ui.add_argument(
        "--host", default=UI_HOST, metavar="ADDRESS", help=f"who may ask (default: {UI_HOST}, this machine alone)"
    )
    ui.add_argument(
        "--port", type=int, default=UI_PORT, metavar="N", help=f"of the page (default: {UI_PORT}); 0 takes a free one"
    )
    ui.add_argument(
        "--device", default="auto", choices=("auto", "cpu", "cuda", "mps"), help="what computes (default: auto)"
    )
    ui.add_argument(
        "--max-megabytes",
        type=float,
        default=UI_MEGABYTES,
        metavar="MB",
        help=f"largest video that is accepted (default: {UI_MEGABYTES})",
    )
    ui.add_argument(
        "--name",
        action="append",
        default=[],
        dest="names",
        metavar="NAME",
        help="what else browsers call this machine, such as box.lab.example; may be repeated",
    )
