"""Numbers of a classification, from probabilities and labels.

Where two classes are equally probable the one with the smaller index comes first, on every device.

Shapes: n clips, K classes.
"""

import math

import torch
from torch import Tensor

from everest.errors import DataError

EXACT_UP_TO = 1000  # clips of a sign test


def rank_classes(probabilities: Tensor) -> Tensor:
    """Order the classes by falling probability, and equal ones by index: [..., K] to int64 [..., K]."""
    return probabilities.argsort(dim=-1, descending=True, stable=True)


def top_k_accuracy(probabilities: Tensor, labels: Tensor, k: int = 1) -> float:
    """Share of the clips whose class is among the k most probable ones.

    Args:
        probabilities: Shape [n, K].
        labels: Class indices, shape [n], int64.
        k: At least 1; from K on the answer is 1.

    Returns:
        0 to 1.

    Raises:
        DataError: There are no clips.
    """
    _expect_clips(len(labels))
    best = rank_classes(probabilities)[:, :k]  # [n, k]
    return float((best == labels[:, None]).any(dim=1).double().mean())


def confusion_matrix(predicted: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """Count the clips by true and predicted class.

    Args:
        predicted: Class indices, shape [n], int64.
        labels: Class indices, shape [n], int64.
        num_classes: K.

    Returns:
        int64, shape [K, K]; rows are true classes, columns predicted ones.
    """
    return torch.bincount(labels * num_classes + predicted, minlength=num_classes**2).reshape(num_classes, num_classes)


def per_class_accuracy(confusion: Tensor) -> list[float | None]:
    """Share of the clips of each class that are recognised.

    Args:
        confusion: From :func:`confusion_matrix`, shape [K, K].

    Returns:
        One number from 0 to 1 for each class; None for a class without clips.
    """
    counts: list[int] = confusion.sum(dim=1).tolist()  # [K]
    right: list[int] = confusion.diagonal().tolist()  # [K]
    return [hits / count if count else None for hits, count in zip(right, counts, strict=True)]


def majority_accuracy(labels: Tensor) -> float:
    """What naming the most frequent class every time would reach: the share of that class.

    Args:
        labels: Class indices, shape [n], int64.

    Raises:
        DataError: There are no clips.
    """
    _expect_clips(len(labels))
    return int(torch.bincount(labels).max()) / len(labels)


def wilson_interval(num_right: int, num_total: int, z: float = 1.96) -> tuple[float, float]:
    """Range of accuracies that a count of right answers is compatible with (Wilson's score interval).

    It takes the clips for independent. Several clips of one recording are not, and the true range is wider then.

    Args:
        num_right: Clips that were recognised, 0 to ``num_total``.
        num_total: All clips, at least 1.
        z: Width in standard deviations; 1.96 covers 95 %.

    Returns:
        Lower and upper end, within 0 to 1.

    Raises:
        DataError: There are no clips, or more right ones than clips.
    """
    _expect_clips(num_total)
    if not 0 <= num_right <= num_total:
        raise DataError(f"the number of right answers must lie from 0 to {num_total}, given: {num_right}")
    share = num_right / num_total
    scale = 1 + z**2 / num_total
    center = (share + z**2 / (2 * num_total)) / scale
    half = z / scale * math.sqrt(share * (1 - share) / num_total + z**2 / (4 * num_total**2))
    # At the ends the interval reaches 0 or 1 exactly; rounding would miss them by 1e-17.
    low = 0.0 if num_right == 0 else max(0.0, center - half)
    return low, 1.0 if num_right == num_total else min(1.0, center + half)


def sign_test(num_first: int, num_second: int) -> float:
    """Say how likely chance alone would give such a difference between two classifiers on the same clips.

    Only clips that one of them recognises and the other does not can tell them apart. Were the two equally good, each
    such clip would be a throw of a coin: the exact sign test, two-sided; for many clips McNemar's, with its correction.

    Args:
        num_first: Clips that only the first one recognises.
        num_second: Clips that only the second one recognises.

    Returns:
        0 to 1.
    """
    total, fewer = num_first + num_second, min(num_first, num_second)
    if total > EXACT_UP_TO:
        return math.erfc(max(0.0, abs(num_first - num_second) - 1) / math.sqrt(2 * total))
    ways = sum(math.comb(total, count) for count in range(fewer + 1))
    return min(1.0, float(2 * ways / 2**total))


def _expect_clips(num_clips: int) -> None:
    if num_clips < 1:
        raise DataError("an accuracy needs at least one clip, given: none")
