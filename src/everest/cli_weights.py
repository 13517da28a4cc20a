"""The options of ``everest weights``."""

import argparse
from pathlib import Path
from typing import Any

from everest import commands_weights as do
from everest.cli_bench import Add

_CHECKPOINT = "a run folder, a weights file, a folder of transformers or DeepSpeed, or bundled"


def add_weights(commands: Any, add: Add) -> None:
    """Describe the subcommands of ``everest weights``.

    Args:
        commands: The subcommands of the program.
        add: Makes a parser out of subcommands, a name, what it does and a line of help.
    """
    weights = commands.add_parser("weights", help="show and convert weights", description="Show and convert weights.")
    actions = weights.add_subparsers(metavar="ACTION", required=True)
    show = add(actions, "show", do.weights_show, "say what a checkpoint holds, and what it does not say")
    show.add_argument("checkpoint", type=Path, metavar="FILE", help=_CHECKPOINT)
    convert = add(actions, "convert", do.weights_convert, "write a checkpoint in another format, bit for bit")
    convert.add_argument("source", type=Path, metavar="SRC", help=_CHECKPOINT)
    convert.add_argument("out", type=Path, metavar="DST", help="a new file; for hf a new or empty folder")
    convert.add_argument(
        "--to",
        required=True,
        choices=("everest", "release", "videomae", "hf"),
        help="everest: with all that inference needs; release, videomae: for their scripts; hf: for transformers",
    )
    for parser in (show, convert):
        parser.add_argument("--num-frames", type=_count, metavar="N", help="of a clip, where SRC does not say (16)")
        parser.add_argument("--height", type=_count, metavar="N", help="pixels, where SRC does not say (224)")
        parser.add_argument("--width", type=_count, metavar="N", help="pixels, where SRC does not say (224)")
        parser.add_argument("--stride", type=_count, metavar="N", help="frames from one of the clip to the next (4)")
        parser.add_argument("--classes", type=Path, metavar="FILE", help="names of the classes, one in a line")
        parser.add_argument("--json", action="store_true", help="print the result as JSON")


def _count(text: str) -> int:
    """Read a number of frames or pixels."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("expected 1 or more")
    return number
