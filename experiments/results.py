"""Results, a line of JSON each, kept as soon as they are known; and what they say: means, intervals, paired tests."""

import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from everest.errors import DataError
from everest.links import append_text

Key = tuple[tuple[str, Any], ...]
ROUNDING = 1e-9  # differences of accuracies that are no differences


class Results:
    """A file of results that a second start goes on with.

    Args:
        path: A file of JSON lines, or one to be made.
        keys: Names of the values that tell one trial from another.
    """

    def __init__(self, path: Path, keys: Sequence[str]) -> None:
        self.path, self.keys = path, tuple(keys)
        self._rows: dict[Key, dict[str, Any]] = {}
        if path.exists():
            for number, line in enumerate(path.read_text().splitlines(), start=1):
                try:
                    row = json.loads(line)
                    self._rows[self._key(row)] = row
                except (ValueError, KeyError, TypeError):
                    raise DataError(f"{path}: line {number} is not a result; delete it to have it made again") from None

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self._rows.values())

    def __len__(self) -> int:
        return len(self._rows)

    def knows(self, trial: Mapping[str, Any]) -> bool:
        """Whether a trial has been made."""
        return self._key(trial) in self._rows

    def find(self, trial: Mapping[str, Any]) -> dict[str, Any] | None:
        """Give the result of a trial, or none where it has not been made."""
        return self._rows.get(self._key(trial))

    def add(self, row: Mapping[str, Any]) -> None:
        """Keep a result."""
        self._rows[self._key(row)] = dict(row)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with append_text(self.path) as file:
            file.write(f"{json.dumps(row)}\n")

    def _key(self, row: Mapping[str, Any]) -> Key:
        return tuple((key, row[key]) for key in self.keys)


def as_hex(right: Sequence[int]) -> str:
    """Write which clips were right, 1 or 0 each, four to a letter; the last letter may hold fewer."""
    return "".join(f"{sum(bit << place for place, bit in enumerate(four)):x}" for four in batched(right, 4))


def from_hex(text: str, num: int) -> list[int]:
    """Read what :func:`as_hex` wrote of so many clips."""
    return [(int(text[place // 4], 16) >> place % 4) & 1 for place in range(num)]


def batched(values: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    """Cut a list into parts of a size."""
    return (values[start : start + size] for start in range(0, len(values), size))


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % interval.

    Attributes:
        mean: Over all values.
        low: Lower end.
        high: Upper end.
        num: Values.
    """

    mean: float
    low: float
    high: float
    num: int

    def __str__(self) -> str:
        if not math.isfinite(self.low):
            return f"{100 * self.mean:.1f}"
        return f"{100 * self.mean:.1f} ({100 * self.low:.1f} to {100 * self.high:.1f})"


def over_seeds(values: Sequence[float]) -> Interval:
    """Give the mean over seeds and Student's interval: how far another draw of weights and batches may come out."""
    array = np.asarray(values, dtype=np.float64)
    if len(array) < 2:
        return Interval(float(array.mean()), float("-inf"), float("inf"), len(array))
    half = float(stats.sem(array) * stats.t.ppf(0.975, len(array) - 1))
    return Interval(float(array.mean()), float(array.mean()) - half, float(array.mean()) + half, len(array))


def paired_over_seeds(first: Sequence[float], second: Sequence[float]) -> tuple[Interval, float]:
    """Compare two arms seed by seed.

    Returns:
        The difference, first less second, and the probability of one as large where both are equal: of a paired t test;
        where all differences are the same, of a sign test, and 1 where they are zero.
    """
    differences = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    found = over_seeds(differences.tolist())
    if np.abs(differences).max() < ROUNDING:
        return found, 1.0
    if np.ptp(differences) < ROUNDING:
        return found, 2.0 ** (1 - len(differences))
    return found, float(stats.ttest_1samp(differences, 0.0).pvalue)


def sign_changes(differences: Sequence[float]) -> float:
    """Give the share of all ways to change signs in which the mean is as far from zero: p without a bell."""
    array = np.asarray(differences, dtype=np.float64)
    signs = np.array(list(itertools.product((-1.0, 1.0), repeat=len(array))))
    return float(np.mean(np.abs(signs @ array) > abs(array.sum()) - ROUNDING))


def holm(probabilities: Sequence[float]) -> list[float]:
    """Adjust the p of several comparisons (Holm, 1979), so that one of them in twenty tables is wrong at 0.05."""
    order = np.argsort(np.asarray(probabilities), kind="stable")
    adjusted, least = [0.0] * len(order), 0.0
    for rank, place in enumerate(order.tolist()):
        least = max(least, min(1.0, probabilities[place] * (len(order) - rank)))
        adjusted[place] = least
    return adjusted


def paired_over_clips(
    first: Sequence[float], second: Sequence[float], groups: Sequence[str], *, num_draws: int = 10000, seed: int = 0
) -> Interval:
    """Compare two arms clip by clip: the interval says how far another choice of test videos may come out.

    Args:
        first: For each test clip, the share of seeds in which it was right.
        second: The same of the other arm.
        groups: The video or scene that each clip is from; clips of one are drawn together.
        num_draws: Bootstrap samples.
        seed: Of the draws.

    Returns:
        The difference, first less second, with the percentile interval over draws of groups.
    """
    differences = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    names, places = np.unique(np.asarray(groups), return_inverse=True)
    sums, counts = (np.bincount(places, weights, len(names)) for weights in (differences, np.ones_like(differences)))
    drawn = np.random.default_rng(seed).integers(0, len(names), (num_draws, len(names)))
    means = sums[drawn].sum(1) / counts[drawn].sum(1)
    low, high = np.quantile(means, [0.025, 0.975])
    return Interval(float(differences.mean()), float(low), float(high), len(names))


def paired_over_both(
    first: Sequence[Sequence[float]], second: Sequence[Sequence[float]], groups: Sequence[str]
) -> tuple[Interval, float]:
    """Compare two arms over other seeds and other test videos at once.

    The variance of the mean is that over seeds and that over groups of clips, added; what seeds and groups do together
    is in both, so the interval is rather too wide. Student's with the degrees of freedom of such a sum (Welch and
    Satterthwaite).

    Args:
        first: For each seed, whether each test clip was right.
        second: The same of the other arm.
        groups: The video or scene that each clip is from.

    Returns:
        The difference, first less second, with its interval, and the probability of one as large where both are equal.
    """
    differences = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)  # seeds x clips
    num_seeds, num_clips = differences.shape
    mean = float(differences.mean())
    names, places = np.unique(np.asarray(groups), return_inverse=True)
    apart = np.bincount(places, differences.mean(0) - mean, len(names))  # of each group, from the mean, over its clips
    parts = (
        (float(differences.mean(1).var(ddof=1)) / num_seeds, num_seeds - 1),
        (float((apart**2).sum()) / num_clips**2 * len(names) / (len(names) - 1), len(names) - 1),
    )
    variance = sum(part for part, _ in parts)
    if variance < ROUNDING**2:
        return Interval(mean, mean, mean, num_seeds), 1.0 if abs(mean) < ROUNDING else 0.0
    freedom = variance**2 / sum(part**2 / num for part, num in parts)
    half = math.sqrt(variance) * float(stats.t.ppf(0.975, freedom))
    p = 2 * float(stats.t.sf(abs(mean) / math.sqrt(variance), freedom))
    return Interval(mean, mean - half, mean + half, num_seeds), p
