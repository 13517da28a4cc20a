"""Tables of an experiment, in Markdown, from its results.

    python experiments/tables.py runs/experiments/a/results.jsonl

Each arm stands beside EVEREST's: the mean over seeds with Student's 95 % interval, the difference from EVEREST with the
paired t test over seeds, and its interval over the choice of test videos: the wider of the two where few are tested.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from a_pretraining import KEYS, PROBES
from results import Results, over_seeds, paired_over_clips, paired_over_seeds

from everest.errors import EverestError

OURS = "everest"
FROZEN = ("1 nearest neighbour", "20 nearest neighbours", "linear")


def values_of(row: dict[str, Any]) -> Iterator[tuple[str, float]]:
    """List the accuracies of a result, by what was measured."""
    if row["how"] == PROBES:
        yield from ((f"frozen, {name}", row[name]) for name in FROZEN)
    else:
        yield f"fine-tuned, {row['how']}", row["top1"]


def table(rows: Sequence[dict[str, Any]], what: str) -> list[str]:
    """Write one table: the arms of one task, measured in one way.

    Args:
        rows: Results of one task.
        what: Name of the measure, as :func:`values_of` gives it.
    """
    found: dict[str, dict[int, float]] = {}
    right: dict[str, list[list[int]]] = {}
    groups: list[str] = []
    for row in rows:
        for name, value in values_of(row):
            if name == what:
                found.setdefault(row["arm"], {})[row["seed"]] = value
                if "right" in row:
                    right.setdefault(row["arm"], []).append(row["right"])
                    groups = row["groups"]
    lines = [f"| {what} | accuracy, % (over seeds) | seeds | less than EVEREST by | p | over test videos |"]
    lines.append("|---|---|---|---|---|---|")
    for arm, by_seed in found.items():
        cells = [arm, str(over_seeds(list(by_seed.values()))), str(len(by_seed))]
        shared = sorted(by_seed.keys() & found.get(OURS, {}).keys())
        if arm == OURS or not shared:
            lines.append(f"| {' | '.join([*cells, '', '', ''])} |")
            continue
        difference, chance = paired_over_seeds([found[OURS][s] for s in shared], [by_seed[s] for s in shared])
        over_videos = ""
        if arm in right and OURS in right:
            means = [[sum(clip) / len(clip) for clip in zip(*right[name], strict=True)] for name in (OURS, arm)]
            over_videos = str(paired_over_clips(means[0], means[1], groups))
        lines.append(f"| {' | '.join([*cells, str(difference), f'{chance:.3f}', over_videos])} |")
    return lines


def tables(results: Results) -> str:
    """Write all tables of an experiment."""
    lines: list[str] = []
    key = lambda row: (row["equal"], row["task"])  # noqa: E731 - used twice below
    for (equal, task), group in groupby(sorted(results, key=key), key=key):
        rows = list(group)
        majority = max(row["majority"] for row in rows)
        lines += ["", f"### {task}, equal {equal}", "", f"Always the most frequent class: {100 * majority:.1f} %.", ""]
        for what in dict.fromkeys(name for row in rows for name, _ in values_of(row)):
            lines += [*table(rows, what), ""]
    return "\n".join(lines).strip()


def main(arguments: Sequence[str] | None = None) -> int:
    """Print tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    try:
        print(tables(Results(parser.parse_args(arguments).results, KEYS)))
    except EverestError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
