"""What ``everest report`` does with its options; see :mod:`everest.commands`."""

import sys
from argparse import Namespace
from pathlib import Path

from everest.commands import EXIT_OK, print_result
from everest.errors import ConfigError
from everest.texts import printable


def report(options: Namespace) -> int:
    """Make a page about one run, or about several."""
    return _one(options) if len(options.runs) == 1 else _several(options)


def _one(options: Namespace) -> int:
    from everest.reporting import report_run

    run: Path = options.runs[0]
    out, values = report_run(run, options.out, data=options.data, evaluate=options.evaluate)
    print_result(options, {"out": str(out)} | values, f"report: {printable(str(out))}")
    for problem in values["problems"]:
        print(f"warning: {printable(problem)}", file=sys.stderr)
    return EXIT_OK


def _several(options: Namespace) -> int:
    from everest.reporting import compare

    if options.evaluate or options.data is not None:
        raise ConfigError("--evaluate and --data are for the report of one run; give that one alone first")
    if options.out is None and not options.json:
        raise ConfigError("several runs need --out FILE.html for the page about them, or --json for the numbers alone")
    values, text = compare(options.runs, options.out, over=options.over)
    print_result(options, values, text)
    for problem in values["problems"]:
        print(f"warning: {problem}", file=sys.stderr)
    return EXIT_OK
