"""Copying tensors into a model, or refusing to; and what became of each key."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from everest.errors import WeightsError

NO_REASON = "the model has no such tensor"
ABSENT = "the file has none"


@dataclass(frozen=True)
class LoadReport:
    """What became of each key when weights were loaded.

    Attributes:
        matched: Keys that were copied.
        missing: Keys of the model that the file does not have; they keep their fresh values.
        unexpected: Keys of the file that the model does not have.
        fresh_reasons: Why, by key, of the missing ones.
        reasons: Why, by key, of the unexpected ones.
        notes: What else is worth knowing of the file.
    """

    matched: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    fresh_reasons: Mapping[str, str] = field(default_factory=dict)
    reasons: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        fresh, unused = _told(self.missing, self.fresh_reasons), _told(self.unexpected, self.reasons)
        line = f"{len(self.matched)} tensors loaded, {some(self.missing)} fresh{fresh}, "
        line += f"{some(self.unexpected)} not used{unused}"
        return "; ".join([line, *self.notes])

    def to_dict(self) -> dict[str, Any]:
        """Give everything as plain values that JSON can hold."""
        return {
            "matched": list(self.matched),
            "missing": {key: self.fresh_reasons.get(key, "") for key in self.missing},
            "unexpected": {key: self.reasons.get(key, NO_REASON) for key in self.unexpected},
            "notes": list(self.notes),
        }


@dataclass(frozen=True)
class Comparison:
    """How the tensors of a file fit those of a model, without copying any.

    Attributes:
        matched: Keys that both have, in one shape.
        missing: Keys of the model that the file does not have.
        unexpected: Keys of the file that the model does not have.
        misshapen: Both shapes by key, of what both have in different shapes.
    """

    matched: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    misshapen: Mapping[str, str]

    @property
    def fits(self) -> bool:
        """Whether the file has all tensors of the model and no others."""
        return not (self.missing or self.unexpected or self.misshapen)

    def to_dict(self) -> dict[str, Any]:
        """Give everything as plain values that JSON can hold, with a reason for each key that does not fit."""
        return {
            "num_matched": len(self.matched),
            "missing": dict.fromkeys(self.missing, ABSENT),
            "unexpected": dict.fromkeys(self.unexpected, NO_REASON),
            "misshapen": dict(self.misshapen),
        }


def compare_state(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> Comparison:
    """Compare the tensors of a file with those of a model by keys and shapes; either may lie on the meta device."""
    misshapen = {
        key: f"{list(state[key].shape)} instead of {list(own[key].shape)}"
        for key in own
        if key in state and state[key].shape != own[key].shape
    }
    return Comparison(
        tuple(key for key in own if key in state and key not in misshapen),
        tuple(key for key in own if key not in state),
        tuple(key for key in state if key not in own),
        misshapen,
    )


def load_state(
    model: nn.Module,
    state: Mapping[str, Tensor],
    *,
    source: str,
    may_miss: tuple[str, ...] = (),
    strict: bool = False,
    refused: tuple[str, ...] = (),
) -> LoadReport:
    """Copy tensors into a model, or refuse.

    Args:
        model: Changed in place.
        state: Tensors by key.
        source: Name of the checkpoint, for messages.
        may_miss: Prefixes of keys that may be absent.
        strict: Refuse keys that the model does not have.
        refused: Prefixes of keys that are refused, where the model does not have them, even if not strict.

    Raises:
        WeightsError: A key is missing or of another shape (or unexpected, if strict); nothing has been changed then.
    """
    found = compare_state(model.state_dict(), state)
    problems = [
        ("of another shape", [f"{key} {shapes}" for key, shapes in found.misshapen.items()]),
        ("missing", [k for k in found.missing if not k.startswith(may_miss)]),
        ("unexpected", [k for k in found.unexpected if strict or k.startswith(refused)]),
    ]
    if any(keys for _, keys in problems):
        told = "; ".join(f"{some(keys)} {what}" for what, keys in problems if keys)
        raise WeightsError(
            f"{source} does not fit the model: {told}; use the network, size and shape it was trained with"
        )
    model.load_state_dict({key: state[key] for key in found.matched}, strict=False)
    return LoadReport(found.matched, found.missing, found.unexpected)


def _told(keys: tuple[str, ...], reasons: Mapping[str, str]) -> str:
    """Say every reason once, with the number of keys that it is for where there are several."""
    counts = Counter(reasons[key] for key in keys if key in reasons)
    alone = len(counts) == 1 and counts.total() == len(keys)
    told = ", ".join(reason if alone else f"{count}: {reason}" for reason, count in counts.items())
    return f": {told}" if told else ""


def by_reason(reasons: Mapping[str, str]) -> tuple[str, ...]:
    """Say every reason once, with its keys: how many, and the first three."""
    groups: dict[str, list[str]] = {}
    for key, reason in reasons.items():
        groups.setdefault(reason, []).append(key)
    return tuple(f"{some(keys)}: {reason}" for reason, keys in groups.items())


def some(keys: tuple[str, ...] | list[str]) -> str:
    """Count keys and name the first three."""
    names = f" ({', '.join(keys[:3])}{', ...' if len(keys) > 3 else ''})" if keys else ""
    return f"{len(keys)}{names}"
