"""Tables of a page, from what was measured.

    python docs/building/measured.py docs/speed.md

What stands between ``<!-- measured: NAME -->`` and ``<!-- end -->`` is written anew from ``measured/NAME.json`` beside
the page, which is what a command of ``everest bench`` printed with ``--json``. All else is left alone.
"""

import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

FOLDER = "measured"
PLACE = re.compile(r"<!-- measured: (\S+) -->\n.*?<!-- end -->", re.S)


def peers_table(values: Mapping[str, Any]) -> list[str]:
    """Of ``everest bench peers``."""
    head = ["", "s/step (quartiles)", "clips/s", "GB", "GFLOP", "GFLOP/s", "share of the rate", "time over EVEREST's"]
    rows = [
        [
            row["name"],
            f"{row['seconds_per_step']:.2f} ({row['seconds_q1']:.2f}-{row['seconds_q3']:.2f})",
            f"{row['clips_per_second']:.2f}",
            f"{row['peak_memory_gb']:.2f}",
            f"{row['gflop']:.0f}",
            f"{row['matrix_rate_gflops']:.0f}",
            f"{100 * row['share_of_matrix_rate']:.0f} %",
            f"{row['times_everest']:.2f}",
        ]
        for row in values["rows"]
    ]
    return [*_table(head, rows), "", _where(values)]


def step_table(values: Mapping[str, Any]) -> list[str]:
    """Of ``everest bench step --profile``, on a CPU: part by part, and operation by operation, timed in other steps."""
    head = ["part", "ms", "share", "GFLOP", "GB moved", "floor, ms", "times the floor"]
    rows = [
        [
            row["name"],
            f"{row['ms']:.1f}",
            f"{100 * row['share']:.1f} %",
            f"{row['gflop']:.1f}",
            f"{row['gbytes']:.2f}",
            f"{row['floor_ms']:.1f}",
            f"{row['gap']:.2f}" if row["gap"] else "",
        ]
        for row in (*values["stages"], values["total"])
    ]
    operations = [
        [
            row["name"],
            f"{row['ms']:.0f}",
            str(row["calls"]),
            f"{row['floor_ms']:.0f}",
            f"{row['gap']:.2f}" if row["gap"] else "",
        ]
        for row in values["operations"]
    ]
    rates = f"{values['matrix_rate_gflops']:.0f} GFLOP/s and {values['copy_rate_gbytes']:.0f} GB/s in that run"
    total = values["total"]
    share = total["gflop"] / (total["ms"] / 1e3) / values["matrix_rate_gflops"]
    line = f"{_where(values)[:-1]}; {rates}: {100 * share:.0f} % of the matrix rate."
    by_operation = _table(["by what is computed", "ms", "calls", "floor, ms", "times the floor"], operations)
    return [*_table(head, rows), "", *by_operation, "", line]


def levers_table(values: Mapping[str, Any]) -> list[str]:
    """Of ``everest bench levers``."""
    rows = [
        [
            row["name"],
            row["instead_of"],
            f"{row['ms']:.2f}",
            f"{row['usual_ms']:.2f}",
            f"{row['gain']:.2f}",
            f"{row['difference']:.0e}",
        ]
        for row in values["levers"]
    ]
    return [*_table(["lever", "instead of", "ms", "usual, ms", "gain", "differs by"], rows), "", _where(values)]


def measured_table(path: Path) -> str:
    """Make the table of one measurement."""
    values = json.loads(path.read_text(encoding="utf-8"))
    make = peers_table if "rows" in values else levers_table if "levers" in values else step_table
    return "\n".join(make(values))


def with_tables(page: Path) -> str:
    """Give the text of a page whose tables say what was measured."""

    def filled(place: re.Match[str]) -> str:
        made = measured_table(page.parent / FOLDER / f"{place[1]}.json")
        return f"<!-- measured: {place[1]} -->\n\n{made}\n\n<!-- end -->"

    return PLACE.sub(filled, page.read_text(encoding="utf-8"))


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]


def _where(values: Mapping[str, Any]) -> str:
    hardware = values["hardware"]
    where = hardware["environment"]
    rounds = f"{values['rounds']} rounds of " if "rounds" in values and "steps" in values else ""
    often = f"{rounds}{values['steps']} steps" if "steps" in values else f"medians of {values['rounds']}"
    return (
        f"{where['date'][:10]}, {hardware['name']}, {hardware['threads']} threads, torch {where['packages']['torch']}, "
        f"{values['precision']}, batch {values['batch']}, {often}."
    )


if __name__ == "__main__":
    for name in sys.argv[1:]:
        Path(name).write_text(with_tables(Path(name)), encoding="utf-8")
