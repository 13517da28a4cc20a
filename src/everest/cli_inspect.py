"""The options of ``everest inspect``."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from everest import commands_inspect as do


def add_inspect(commands: Any, add: Callable[..., Any]) -> None:
    """Describe the command and its options."""
    inspect = add(commands, "inspect", do.inspect, "draw what the method makes of a video: scores, kept tokens, frames")
    inspect.add_argument("video", metavar="VIDEO", help="a video, or the word bundled")
    inspect.add_argument(
        "--out", required=True, type=Path, metavar="DIR", help="folder for report.html and the pictures"
    )
    inspect.add_argument(
        "--checkpoint",
        metavar="CKPT",
        help="whose embedding scores the tokens, or bundled (default: a random one)",
    )
    inspect.add_argument(
        "--compare", metavar="NAMES", help="selections side by side, such as rero,tube,random,rlt (the default)"
    )
    inspect.add_argument(
        "--start", type=float, metavar="S", help="where the clip begins (default: it is in the middle)"
    )
    inspect.add_argument("--keep-ratio", type=float, metavar="R", help="share of the tokens that is kept (default: .3)")
    inspect.add_argument("--encode-ratio", type=float, metavar="R", help="share that is encoded (default: .1)")
    inspect.add_argument("--num-frames", type=int, metavar="T", help="frames of the clip (default: 16)")
    inspect.add_argument("--size", type=int, metavar="PX", help="height and width of the clip (default: 224)")
    inspect.add_argument("--stride", type=int, metavar="K", help="from one frame to the next (default: 4)")
    inspect.add_argument(
        "--frame-selection", type=float, metavar="ALPHA", help="choose the frames among ALPHA times as many"
    )
    inspect.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="settings",
        help="change a setting of selection, such as selection.camera=moving; may be given several times",
    )
    inspect.add_argument("--seed", type=int, default=0, help="of what is drawn by lot (default: 0)")
    inspect.add_argument("--mp4", action="store_true", help="write the animation as a video too")
    inspect.add_argument("--json", action="store_true", help="print the numbers as JSON")
