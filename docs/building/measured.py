"""Tables of a page, from what was measured.

    python docs/building/measured.py docs/speed.md

What stands between ``<!-- measured: NAME -->`` and ``<!-- end -->`` is written anew from ``measured/NAME.json`` beside
the page, which is what a command of ``everest bench`` printed with ``--json``; ``aims`` from several of them. All else
is left alone.
"""

import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

FOLDER = "measured"
AIMS = "aims"
MKL_RATE = 204.0
"""GFLOP/s of large products in float32 by MKL on the machine of the tables (decision 0034); aims were set by that."""
SHARES = (("base", "pretrain", 85), ("base", "finetune", 85), ("small", "pretrain", 75), ("small", "finetune", 75))
RATIOS = (
    ("pretrain", "EVEREST, plain peer", 1.15),
    ("pretrain", "VideoMAE, plain peer", 2.2),
    ("finetune", "EVEREST, plain peer", 1.1),
    ("finetune", "VideoMAE, transformers", 1.75),
    ("finetune", "VideoMAE, plain peer", 2.6),
)
MEMORY_GB = (("pretrain", 2.28), ("finetune", 4.36))
TASKS = {"pretrain": "pre-training", "finetune": "fine-tuning"}
SIZES = {"base": "ViT-B", "small": "ViT-S"}
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


def growth_table(values: Mapping[str, Any]) -> list[str]:
    """Of ``everest bench growth``."""
    rows = []
    for name, title in (("by_batch", "clips of 16 frames"), ("by_frames", "frames of one clip")):
        powers = ["", *(f"tokens^{power:.2f}" for power in values[name]["exponents"])]
        for row, power in zip(values[name]["rows"], powers, strict=True):
            spread = f"{row['seconds_per_step']:.2f} ({row['seconds_q1']:.2f}-{row['seconds_q3']:.2f})"
            what = f"{row['number']} {title if row['number'] > 1 else title.replace('clips', 'clip')}"
            rows.append([what, str(row["tokens"]), spread, power])
    return [*_table(["", "tokens of a step", "s/step (quartiles)", "grows as"], rows), "", _where(values)]


def scores_table(values: Mapping[str, Any]) -> list[str]:
    """Of ``everest bench scores``."""
    ratios = [each["keep_ratio"] for each in values["scorings"][0]["agreement"]]
    head = ["scores", "ms/clip", "GMAC", *(f"same of {100 * r:.0f} % kept: mean (lowest clip)" for r in ratios)]
    rows = [
        [row["name"], f"{row['ms_per_clip']:.1f}", f"{row['gmacs']:.2f}"]
        + [f"{100 * each['mean']:.2f} % ({100 * each['lowest']:.1f} %)" for each in row["agreement"]]
        for row in values["scorings"]
    ]
    return [*_table(head, rows), "", f"{values['num_clips']} clips. {_where(values)}"]


def aims_table(folder: Path) -> list[str]:
    """What was aimed at, beside what several measurements say of it: peers as they come, and on equal terms."""

    def read(name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
        return found

    def of_peers(name: str) -> dict[str, dict[str, Any]]:
        return {row["name"]: row for row in read(name)["rows"]}

    rows = []
    for size, task, aim in SHARES:
        ours = of_peers(f"peers-{size}-{task}")["EVEREST"]
        share, rate = 100 * ours["share_of_matrix_rate"], ours["matrix_rate_gflops"]
        found = f"{share:.0f} %, {_verdict(share >= aim)} ({share * rate / MKL_RATE:.0f} % of MKL's rate)"
        rows.append([f"{SIZES[size]} {TASKS[task]}, share of the matrix rate", f"{aim} %", found, ""])
    for task, who, aim in RATIOS:
        times = [of_peers(f"peers-base-{task}{terms}")[who]["times_everest"] for terms in ("", "-equal")]
        cells = [f"{each:.2f}, {_verdict(each >= aim)}" for each in times]
        rows.append([f"ViT-B {TASKS[task]}, times as fast as {who}", f"{aim}", *cells])
    for task, aim in MEMORY_GB:
        peak = of_peers(f"peers-base-{task}")["EVEREST"]["peak_memory_gb"]
        rows.append([f"ViT-B {TASKS[task]}, peak memory, GB", f"{aim}", f"{peak:.2f}, {_verdict(peak <= aim)}", ""])
    return _table(["", "aim", "peers as they come", "peers on equal terms"], rows)


def _verdict(is_reached: bool) -> str:
    return "reached" if is_reached else "**missed**"


def measured_table(path: Path) -> str:
    """Make the table of one measurement."""
    if path.stem == AIMS:
        return "\n".join(aims_table(path.parent))
    values = json.loads(path.read_text(encoding="utf-8"))
    kinds = {"rows": peers_table, "levers": levers_table, "by_batch": growth_table, "scorings": scores_table}
    make = next((table for name, table in kinds.items() if name in values), step_table)
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
    often = f"{rounds}{values['steps']} steps" if "steps" in values else ""
    often = often or (f"medians of {values['rounds']}" if "rounds" in values else "")
    on = f"{where['date'][:10]}, {hardware['name']}, {hardware['threads']} threads, torch {where['packages']['torch']}"
    batch = f"batch {values['batch']}" if "batch" in values else ""
    terms = "all kept freed memory and had linear layers by the same library" if values.get("equal_terms") else ""
    return ", ".join(each for each in (on, values.get("precision", ""), batch, often, terms) if each) + "."


if __name__ == "__main__":
    for name in sys.argv[1:]:
        Path(name).write_text(with_tables(Path(name)), encoding="utf-8")
