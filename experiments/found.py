"""What was found, by task, arm and measure: read from results, with accuracies and differences as tables show them."""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

from lists import BESIDE
from results import (
    ROUNDING,
    from_hex,
    over_seeds,
    paired_over_both,
    paired_over_clips,
    paired_over_seeds,
    sign_changes,
)
from trials import PROBES

from everest.errors import DataError

PRETRAINING = "pre-training"
LEARNT = 0.97  # of the logarithm of the number of classes: a loss that ends above that has not moved
ENOUGH = 5  # seeds from which on p is printed
FROZEN = ("1 nearest neighbour", "20 nearest neighbours", "linear")
SIMPLE = ("frame differences", "spread of change")
"""Arms without a network."""
Found = dict[tuple[str, str, str], dict[int, float]]
"""Task, arm, measure -> seed -> accuracy."""
Marked = dict[tuple[str, str, str], dict[int, list[int]]]
"""The same of which test clips were right."""


class Experiment:
    """The results of one script, as tables need them."""

    def __init__(self, rows: Sequence[Mapping[str, Any]], groups: Mapping[str, Sequence[str]]) -> None:
        origin: dict[tuple[str, ...], str] = {}
        self.groups: dict[str, Sequence[str]] = {}
        self.found: Found = {}
        self.marked: Marked = {}
        self.ends: dict[tuple[str, str, str], list[tuple[float, float]]] = {}  # of losses; accuracy less that by luck
        self.majority: dict[str, float] = {}
        self.rates: dict[tuple[str, str], list[float]] = defaultdict(list)  # of one machine
        machine = machine_of_rates(rows)
        self.pretraining: dict[str, dict[int, tuple[int, float]]] = {}  # clips and seconds, by arm and seed
        self.kept: dict[tuple[str, str, str], list[Sequence[float]]] = defaultdict(list)
        for row in rows:
            task, arm, seed = row["task"], row["arm"], row["seed"]
            of_rows = {
                (task, "data or profiles"): row["made_of"],
                (task, arm, row["how"], "settings"): row["settings"],
                (task, "hardware"): row.get("hardware", "") if depends_on_rates(row) else "",
            }
            for name, value in of_rows.items():
                if value and origin.setdefault(name, value) != value:
                    raise DataError(f"{', '.join(name[:-1])}: results of different {name[-1]}; remove those not meant")
            self.majority[task] = max(row["majority"], self.majority.get(task, 0.0))
            for measure, value in values_of(row):
                self.found.setdefault((task, arm, measure), {})[seed] = value
            if row["made_of"] in groups:
                self.groups[task] = groups[row["made_of"]]
            if "kept" in row:
                self.kept[task, arm, row["how"]].append(row["kept"])
            if "pretrain_rate" in row:
                self.pretraining.setdefault(arm, {})[seed] = (row["pretrain_clips"], row["pretrain_seconds"])
            for how, rate in rates_of(row) if row.get("hardware", "") == machine else ():
                self.rates[arm, how].append(rate)
            of_measures = {row["how"]: row["right"]} if "right" in row else {}
            of_measures |= {f"{row['how']}, {name}": right for name, right in row.get("right_by", {}).items()}
            for measure, right in of_measures.items():
                self.marked.setdefault((task, arm, measure), {})[seed] = from_hex(right, row["num_test"])
            if row.get("losses"):
                above = row["top1"] - by_luck(row["majority"], row["num_test"])
                self.ends.setdefault((task, arm, row["how"]), []).append((row["losses"][-1], above))

    @property
    def tasks(self) -> list[str]:
        """In the order of the alphabet."""
        return sorted(self.majority)

    @property
    def compared(self) -> list[str]:
        """Those in which arms are compared: not the controls, and those of few labels apart."""
        return [task for task in self.tasks if not task.endswith(tuple(BESIDE))]

    def arms(self) -> list[str]:
        """In the order in which they came."""
        return list(dict.fromkeys(arm for _, arm, _ in self.found))

    def measures(self) -> list[str]:
        """Ways to fine-tune, then classifiers of frozen features."""
        names = list(dict.fromkeys(measure for _, _, measure in self.found))
        return [name for name in names if not is_frozen(name)] + [name for name in names if is_frozen(name)]

    def is_even(self, task: str) -> bool:
        """Whether the classes of a task are equally frequent, as those of tasks of time and of ``fights`` are."""
        share = 1 / self.majority[task]
        return abs(share - round(share)) < 1e-6

    def num_stuck(self, task: str, arm: str, measure: str) -> int:
        """Count the runs that have learnt nothing: by their loss, and by what they say of test clips."""
        if not self.is_even(task):
            return 0
        least = LEARNT * -math.log(self.majority[task])
        return sum(end > least and above <= 0 for end, above in self.ends.get((task, arm, measure), ()))

    def accuracy(self, task: str, arm: str, measure: str) -> str:
        """Mean and interval over seeds, in percent, and how many these are where they are two or more but not all."""
        found = self.found.get((task, arm, measure), {})
        most = max(len(each) for each in self.found.values())
        number = f" [{len(found)}]" if 1 < len(found) < most else ""
        return f"{over_seeds(list(found.values()))}{number}" if found else ""

    def seeds(self) -> str:
        """How many seeds there are of an arm: one number, or the fewest and the most."""
        numbers = [len(found) for found in self.found.values()]
        return str(min(numbers)) if min(numbers) == max(numbers) else f"{min(numbers)} to {max(numbers)}"

    def difference(self, task: str, one: tuple[str, str], other: tuple[str, str]) -> "Difference | None":
        """Compare two arms, each with its measure, seed by seed; None where no seed has both."""
        first, second = (self.found.get((task, *each), {}) for each in (one, other))
        shared = sorted(first.keys() & second.keys())
        if not shared:
            return None
        over, p = paired_over_seeds([first[s] for s in shared], [second[s] for s in shared])
        if any(self.num_stuck(task, *each) for each in (one, other)):
            p = sign_changes([first[s] - second[s] for s in shared])
        videos = both = ""
        marked = [self.marked.get((task, *each), {}) for each in (one, other)]
        if task in self.groups and all(seed in each for each in marked for seed in shared):
            ours, others = ([each[seed] for seed in shared] for each in marked)
            shares = [[mean(clip) for clip in zip(*each, strict=True)] for each in (ours, others)]
            videos = str(paired_over_clips(shares[0], shares[1], self.groups[task]))
            if len(shared) > 1:
                over_both, p_of_both = paired_over_both(ours, others, self.groups[task])
                both, p = str(over_both), max(p, p_of_both)
        wins = sum(first[seed] > second[seed] for seed in shared)
        said = f"{100 * over.mean:.1f} in each" if over.high - over.low < ROUNDING else str(over)
        text = f"{said}, {wins} of {len(shared)}" if len(shared) > 1 else said
        return Difference(text, p if len(shared) >= ENOUGH else None, _ends(videos), _ends(both))


def _ends(interval: str) -> str:
    """An interval without its mean and brackets."""
    return interval.partition(" ")[2].strip("()")


@dataclass(frozen=True)
class Difference:
    """What one arm is better than another.

    Attributes:
        text: In points, with its interval over seeds, and in how many seeds it is above 0.
        p: Of a difference as large where both are equal, by seeds alone or by seeds and videos, the larger; None where
            there are too few seeds.
        videos: The interval over videos, or nothing.
        both: That over seeds and videos, or nothing.
    """

    text: str
    p: float | None
    videos: str
    both: str


def depends_on_rates(row: Mapping[str, Any]) -> bool:
    """Whether how long an arm was trained follows from how fast the machine is."""
    return row["equal"] == "time" and row["arm"] not in SIMPLE and "same_as" not in row


def rates_of(row: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """List how many clips a second a result's trainings took, by what they were."""
    for name, how in (("pretrain_rate", PRETRAINING), ("rate", row["how"])):
        if name in row:
            yield how, row[name]


def machine_of_rates(rows: Sequence[Mapping[str, Any]]) -> str:
    """Choose the machine whose rates are shown: that which has those of the most arms; of equals, the first."""
    of_machines: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for row in rows:
        of_machines[row.get("hardware", "")] |= {(row["arm"], how) for how, _ in rates_of(row)}
    return max(of_machines, key=lambda name: len(of_machines[name]), default="")


def by_luck(share: float, num: int) -> float:
    """Say what the most frequent class of so many clips comes to by luck: its share, and two standard errors."""
    return share + 2 * math.sqrt(share * (1 - share) / num)


def is_frozen(measure: str) -> bool:
    """Whether a measure is of frozen features."""
    return measure.startswith("frozen")


def values_of(row: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """List the accuracies of a result by what was measured."""
    if row["how"] in PROBES:
        yield from ((f"{row['how']}, {name}", row[name]) for name in FROZEN if name in row)  # few clips: no 20
    else:
        yield row["how"], row["top1"]
