"""Losses that are far above those before them."""

import math
from collections import deque
from dataclasses import dataclass
from statistics import median

WINDOW = 100  # losses that say what is usual
MIN_LOSSES = 20  # before nothing is called unusual
THRESHOLD = 8.0  # usual deviations above the median
_MAD_TO_SIGMA = 1.4826  # of a normal distribution: its deviation over its median absolute deviation
_LEAST_SHARE = 0.01  # a loss that hardly moves is not held to its last digit: the deviation is this share at least


@dataclass(frozen=True)
class Spike:
    """A loss far above those before it.

    Attributes:
        step: The step that it belongs to.
        loss: It.
        usual: The median of the losses before it.
        deviations: How many usual deviations it lies above them.
    """

    step: int
    loss: float
    usual: float
    deviations: float

    def to_numbers(self) -> list[float]:
        """Give deviations, step, loss and usual loss: what processes exchange."""
        return [self.deviations, float(self.step), self.loss, self.usual]


class SpikeDetector:
    """Compares each loss with the median and the median absolute deviation of the 100 before it.

    Both stand still when a few losses are wild, unlike a mean. A loss is a spike where it is more than
    :data:`THRESHOLD` usual deviations above the median; the steps that follow it are the same spike until one is below
    again. A new start begins anew: nothing of this is saved.
    """

    def __init__(self) -> None:
        self._losses: deque[float] = deque(maxlen=WINDOW)
        self._is_high = False

    def feed(self, step: int, loss: float) -> Spike | None:
        """Take in the loss of a step; give the spike that begins with it, if one does."""
        found = self._judge(step, loss) if math.isfinite(loss) else None
        if math.isfinite(loss):
            self._losses.append(loss)
        begins = found is not None and not self._is_high
        self._is_high = found is not None
        return found if begins else None

    def _judge(self, step: int, loss: float) -> Spike | None:
        if len(self._losses) < MIN_LOSSES:
            return None
        usual = median(self._losses)
        deviation = _MAD_TO_SIGMA * median(abs(each - usual) for each in self._losses)
        deviation = max(deviation, _LEAST_SHARE * abs(usual), 1e-12)
        above = (loss - usual) / deviation
        return Spike(step, loss, usual, above) if above > THRESHOLD else None
