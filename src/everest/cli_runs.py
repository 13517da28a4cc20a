"""The options of ``everest runs``."""

from pathlib import Path
from typing import Any

from everest import commands_runs as do
from everest.cli_bench import Add


def add_runs(commands: Any, add: Add) -> None:
    """Describe the subcommands of ``everest runs``.

    Args:
        commands: The subcommands of the program.
        add: Makes a parser out of subcommands, a name, what it does and a line of help.
    """
    runs = commands.add_parser(
        "runs", help="list, show and compare run folders", description="List, show and compare run folders."
    )
    actions = runs.add_subparsers(metavar="ACTION", required=True)
    listed = add(actions, "list", do.runs_list, "list the runs below a folder, finished, going on or stopped")
    listed.add_argument("folder", type=Path, metavar="FOLDER", help="a folder of run folders, however deep")
    show = add(actions, "show", do.runs_show, "say all there is to know of a run, and how it goes on")
    show.add_argument("run", type=Path, metavar="RUN", help="a run folder")
    compare = add(actions, "compare", do.runs_compare, "put runs side by side: settings that differ, and results")
    compare.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="run folders")
    compare.add_argument("--plot", type=Path, metavar="FILE", help="draw losses and accuracies into a PNG file")
    compare.add_argument(
        "--over", default="steps", choices=("steps", "epochs", "hours"), help="what to draw over (default: steps)"
    )
    for parser in (listed, show, compare):
        parser.add_argument("--json", action="store_true", help="print the result as JSON")
