"""The options of ``everest report``."""

from pathlib import Path
from typing import Any

from everest import commands_report as do
from everest.cli_bench import Add


def add_report(commands: Any, add: Add) -> None:
    """Describe the command and its options.

    Args:
        commands: The subcommands of the program.
        add: Makes a parser out of subcommands, a name, what it does and a line of help.
    """
    report = add(commands, "report", do.report, "make a page about a run, or about several side by side")
    report.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="run folders, also of runs that go on")
    report.add_argument("--out", type=Path, metavar="FILE", help="the page (of one run by default RUN/report.html)")
    report.add_argument("--data", metavar="PATH", help="where the clips of a run are, if not where they were")
    report.add_argument(
        "--evaluate", action="store_true", help="first measure a fine-tuned run on the clips that were held out"
    )
    report.add_argument(
        "--over",
        default="steps",
        choices=("steps", "epochs", "hours"),
        help="what curves are laid over (default: steps)",
    )
    report.add_argument("--json", action="store_true", help="print the numbers as JSON")
