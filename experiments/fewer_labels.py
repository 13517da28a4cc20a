"""Label a fifth of the training clips only: do ways to pre-train end alike because there is no more to be learnt?

    python experiments/fewer_labels.py runs/experiments/data --tasks speed fights

Writes lists beside those of whole tasks, DATA/few/TASK/manifest.csv. Clips stay where they are, those for testing are
the same, and so is what is pre-trained on. Scenes are labelled whole, in an order drawn by their names, as long as no
class has more than its fifth.
"""

import argparse
import csv
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path

from lists import write_labelled
from time_tasks import draw

from everest.errors import DataError, EverestError

SHARE = 5  # one training clip in so many is labelled


def labelled(rows: Sequence[Mapping[str, str]], share: int = SHARE) -> set[str]:
    """Choose scenes to be labelled.

    Args:
        rows: Training clips, with ``group`` and ``label``.
        share: One clip of each class in so many is labelled, or somewhat fewer, as scenes are not divided.

    Raises:
        DataError: A class is left without a clip.
    """
    most = {label: num // share for label, num in Counter(row["label"] for row in rows).items()}
    chosen: Counter[str] = Counter()
    found = set()
    ordered = sorted(rows, key=lambda row: (draw(2**32, row["group"]), row["group"]))
    for group, members in groupby(ordered, key=lambda row: row["group"]):
        counts = chosen + Counter(row["label"] for row in members)
        if all(counts[label] <= most[label] for label in counts):
            chosen = counts
            found.add(group)
    if without := sorted(set(most) - set(chosen)):
        raise DataError(f"no scene is small enough for a {share}th of {', '.join(without)}: there are too few clips")
    return found


def shorten(data: Path, task: str) -> Counter[str]:
    """Write the list of a task with few labels; gives its numbers of clips by split."""
    source, target = (data / folder / task / "manifest.csv" for folder in ("tasks", "few"))
    if target.exists():
        raise DataError(f"{target} is there already; delete it to make it anew")
    with source.open(newline="") as file:
        rows = list(csv.DictReader(file))
    kept = labelled([row for row in rows if row["split"] == "train"])
    rows = [row for row in rows if row["split"] != "train" or row["group"] in kept]
    write_labelled(target, source, rows)
    return Counter(row["split"] for row in rows)


def main(words: Sequence[str] | None = None) -> int:
    """Write lists from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="the folder that prepare.py has made")
    parser.add_argument("--tasks", nargs="+", required=True, help="of those in it")
    given = parser.parse_args(words)
    try:
        for task in given.tasks:
            if not (given.data / "tasks" / task / "manifest.csv").exists():
                raise DataError(f"{given.data}/tasks holds no task {task}")
            counts = shorten(given.data, task)
            print(f"{task:20} {counts['train']:6,} clips for training, {counts['test']:,} for testing")
    except EverestError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
