"""The results of a suite as a table."""

import math
from typing import Any

from everest.bench.scores import format_scores


def format_suite(values: dict[str, Any]) -> str:
    """Say the result of :func:`bench_suite` to people."""
    best = _best_of_ours(values)
    lines = [f"{'':46}{'batch':>6}{'s/step':>9}{'clips/s':>9}{'GB':>8}{'of rate':>9}{'first s':>9}{'EVEREST':>9}"]
    for row in values["results"]:
        if "problem" in row:
            lines.append(f"{row['name']:46}  not measured: {row['problem']}")
        elif "clips_per_second" in row["values"]:
            found = row["values"]
            lines.append(_line_of(row["name"], found, best))
            if "compiled" in found:
                lines.append(_line_of(f"{row['name']}, compiled", found["compiled"], best))
        elif "waits" in row["values"]:
            lines.append(f"{row['name']:46}  {', '.join(row['values']['waits']) or 'nowhere'}")
        elif "levers" in row["values"]:
            gains = (
                f"{lever['name']} x{lever['gain']:.2f}{'' if lever['same'] else ' NOT THE SAME'}"
                for lever in row["values"]["levers"]
            )
            lines.append(f"{row['name']:46}  {'; '.join(gains)}")
        elif "stages" in row["values"]:
            longest = sorted(row["values"]["stages"], key=lambda stage: -stage["ms"])
            parts = (f"{stage['name']} {stage['ms']:.1f} ms" for stage in longest)
            lines.append(f"{row['name']:46}  {'; '.join(parts)}")
        elif "scorings" in row["values"]:
            lines += [f"{row['name']:46}  {line}" for line in format_scores(row["values"]).splitlines()]
    if values["left_out"]:
        lines.append(f"no time was left for: {'; '.join(values['left_out'])}")
    lines.append(
        "GB: of tensors, * what is held for the program; first s: the first step, with what is compiled in it; "
        "EVEREST: times the fastest way of ours there"
    )
    return "\n".join([*lines, values["hardware"]["name"]])


def _best_of_ours(values: dict[str, Any]) -> dict[tuple[str, str, int], float]:
    """Seconds of the fastest way to compute a step of EVEREST, by size, task and batch."""
    best: dict[tuple[str, str, int], float] = {}
    for row in values["results"]:
        found = row.get("values", {})
        if "seconds_per_step" in found and found["selection"] == "rero" and found["peer"] is None:
            which = _which(found)
            best[which] = min(best.get(which, math.inf), _pace(found))
    return best


def _which(found: dict[str, Any]) -> tuple[str, str, int]:
    return found["size"], found["task"], found["batch"]


def _pace(found: dict[str, Any]) -> float:
    """Seconds of a step as training does it: none is waited for, where that was measured."""
    return float(found["seconds_in_a_row"] or found["seconds_per_step"])


def _line_of(name: str, found: dict[str, Any], best: dict[tuple[str, str, int], float]) -> str:
    times = f"x{_pace(found) / best[_which(found)]:.2f}" if _which(found) in best else ""
    share = "" if found["share_of_matrix_rate"] is None else f"{found['share_of_matrix_rate']:.1%}"
    memory = f"{found['peak_memory_gb']:.2f}{'*' if found['cuda_graphs'] else ''}"
    return (
        f"{name:46}{found['batch']:6}{_pace(found):9.4f}{found['batch'] / _pace(found):9.1f}"
        f"{memory:>8}{share:>9}{found['first_step_seconds']:9.1f}{times:>9}"
    )
