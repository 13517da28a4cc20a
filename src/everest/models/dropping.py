"""What is left out at random in training: branches of a block (drop path) and features before the head (dropout).

What is drawn belongs to the clips (:mod:`everest.draws`) wherever training says so by :func:`drawing`; else it comes
from PyTorch's own generator.

Shapes: B clips, S tokens of all clips together, D width.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from everest.draws import ClipDraws
from everest.models.varlen import Lengths, per_token


class Dropping(nn.Module):
    """Base: factors that are 0 or scale what is left up, so that the mean stays.

    Args:
        rate: Probability of leaving something out, from 0 to below 1.
        count: Factors of a clip.

    Attributes:
        rate: As given.
        count: As given.
        factors: Drawn for the clips that are on their way, shape [B, count]; None: draw when needed.
    """

    factors: Tensor | None

    def __init__(self, rate: float, count: int) -> None:
        super().__init__()
        self.rate, self.count, self.factors = rate, count, None
        self.is_on = rate > 0.0  # compiled code that read the rate would be compiled again for every rate

    def prepare(self, drawn: Tensor) -> None:
        """Make the factors of the clips that come next of numbers from 0 to below 1, shape [B, count]."""
        self.factors = (drawn >= self.rate).float() / (1.0 - self.rate)

    def take(self, num_clips: int, like: Tensor) -> Tensor:
        """Give the factors of the clips: [B, count]."""
        if self.factors is not None:
            return self.factors.to(like.dtype)
        keep = 1.0 - self.rate
        return like.new_empty(num_clips, self.count).bernoulli_(keep).div_(keep)

    def extra_repr(self) -> str:
        """Say the probability."""
        return f"{self.rate:.3f}"


class SkipPath(Dropping):
    """Leaves a branch out for some clips in training.

    Args:
        drop_path: Probability of leaving it out.
    """

    def __init__(self, drop_path: float) -> None:
        super().__init__(drop_path, 1)

    def forward(self, branch: Tensor, lengths: Lengths | None = None) -> Tensor:
        """Shape [B, ..., D] stays; with ``lengths``, of clips that lie one after another in a single row.

        Where a block takes slots instead of clips, [B * t, ..., D], those of a clip are treated alike.
        """
        if not self.training or not self.is_on:
            return branch
        factors = self.take(len(branch) if lengths is None else len(lengths), branch)[:, 0]  # [B]
        if lengths is not None:
            return branch * per_token(factors, lengths)
        factors = factors.repeat_interleave(len(branch) // len(factors))  # [B * t]
        return branch * factors.reshape(-1, *(1,) * (branch.ndim - 1))


class FeatureDropout(Dropping):
    """Leaves features of a clip out in training: [B, D] to [B, D].

    Args:
        rate: Probability of leaving one out.
        width: D.
    """

    def __init__(self, rate: float, width: int) -> None:
        super().__init__(rate, width)

    def forward(self, features: Tensor) -> Tensor:
        """Shape [B, D] stays."""
        if not self.training or not self.is_on:
            return features
        return features * self.take(len(features), features)


def find_dropping(model: nn.Module) -> list[Dropping]:
    """List what is left out at random in a model, in an order that depends on the model only."""
    return [module for module in model.modules() if isinstance(module, Dropping) and module.is_on]


@contextmanager
def drawing(modules: Iterable[Dropping], draws: ClipDraws) -> Iterator[None]:
    """Draw for certain clips as long as the block lasts: their forward and backward pass.

    Args:
        modules: From :func:`find_dropping`.
        draws: Of the clips of one forward pass.
    """
    modules = list(modules)
    if modules:
        for module, drawn in zip(modules, draws.rand_each([module.count for module in modules]), strict=True):
            module.prepare(drawn)
    try:
        yield
    finally:
        for module in modules:
            module.factors = None
