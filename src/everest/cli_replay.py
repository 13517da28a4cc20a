"""The options of ``everest replay``."""

from pathlib import Path
from typing import Any

from everest import commands_replay as do
from everest.cli_bench import Add


def add_replay(commands: Any, add: Add) -> None:
    """Describe the subcommand.

    Args:
        commands: The subcommands of the program.
        add: Makes a parser out of subcommands, a name, what it does and a line of help.
    """
    replay = add(commands, "replay", do.replay, "repeat a training step that was skipped, and say where it breaks")
    replay.add_argument("file", type=Path, metavar="FILE", help="a file of RUN/replays; its name is in the run's log")
    replay.add_argument(
        "--data",
        metavar="PATH",
        help="the list of the run, where its shards lie at URLs that take a password or signature",
    )
    replay.add_argument(
        "--device", default="auto", choices=("auto", "cpu", "cuda", "mps"), help="what computes (default: auto)"
    )
    replay.add_argument("--json", action="store_true", help="print the result as JSON")
