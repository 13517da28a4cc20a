"""What a repeated step gave, for people and for programs."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from everest.training.files import list_files


@dataclass(frozen=True)
class ClipFinding:
    """What the clips of a video (of two, where they are mixed) give by themselves.

    Attributes:
        videos: What was read, with the span where it is a part.
        loss: Of them alone.
        grad_norm: Of them alone.
    """

    videos: tuple[str, ...]
    loss: float
    grad_norm: float

    @property
    def is_finite(self) -> bool:
        """Whether loss and gradient are."""
        return math.isfinite(self.loss) and math.isfinite(self.grad_norm)


@dataclass(frozen=True)
class ReplayResult:
    """What a repeated step gave.

    Attributes:
        step: The optimiser step.
        rank: The process whose part was repeated.
        device: Where it was repeated.
        precision: What matrix products computed in.
        losses: Of each pass.
        losses_then: Of each pass, when the step was skipped.
        grad_norm: Of this process's part.
        grad_norm_then: Of all processes together, when the step was skipped.
        weights: Tensors of the weights that were not finite to begin with.
        module: The first module whose output was not finite; empty where all were.
        parameter: The first parameter whose gradient was not finite, in the order of the backward pass; or empty.
        clips: What each video gives by itself.
        notes: What is not as it was then.
    """

    step: int
    rank: int
    device: str
    precision: str
    losses: tuple[float, ...]
    losses_then: tuple[float, ...]
    grad_norm: float
    grad_norm_then: float
    weights: tuple[str, ...]
    module: str
    parameter: str
    clips: tuple[ClipFinding, ...] = field(repr=False)
    notes: tuple[str, ...] = ()

    @property
    def is_reproduced(self) -> bool:
        """Whether loss or gradient are not finite again."""
        return not all(map(math.isfinite, (*self.losses, self.grad_norm)))

    def to_dict(self) -> dict[str, Any]:
        """Give plain values that JSON can hold: numbers that are not finite as text."""
        plain: dict[str, Any] = _plain(asdict(self) | {"reproduced": self.is_reproduced})
        return plain

    def summary(self) -> str:
        """Say it in a few lines."""
        verdict = "not finite again" if self.is_reproduced else "finite here"
        lines = [
            f"step {self.step:,} of rank {self.rank}, repeated on {self.device} in {self.precision}: {verdict}",
            f"loss {_numbers(self.losses)}, then {_numbers(self.losses_then)}",
            f"gradient norm {self.grad_norm:.4g}, then {self.grad_norm_then:.4g} (of all processes together)",
        ]
        if self.weights:
            lines.append(f"the weights were not finite to begin with: {list_files(self.weights)}")
        if self.module:
            lines.append(f"first output that is not finite: {self.module}")
        elif not all(map(math.isfinite, self.losses)):
            lines.append("all modules give finite numbers; the loss itself does not")
        if self.parameter:
            lines.append(f"first gradient that is not finite, going backwards: {self.parameter}")
        bad = [finding for finding in self.clips if not finding.is_finite]
        if bad:
            names = [name for finding in bad for name in finding.videos]
            lines.append(f"not finite by themselves: {len(bad)} of {len(self.clips)}: {list_files(names)}")
        elif self.is_reproduced:
            lines.append("every clip is finite by itself; only their sum is not")
        else:
            lines.append("look at the files of the other ranks, or repeat it on the kind of device that it ran on")
        return "\n".join([*lines, *self.notes])


def _plain(value: Any) -> Any:
    """Replace numbers that JSON does not have by text."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _numbers(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.4g}" for value in values)
