"""What is said of a video or of a span of it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from everest.video.source import say_location


@dataclass(frozen=True)
class ClipPrediction:
    """The most probable classes of a video or of a span of it.

    Attributes:
        source: The file, as it was given.
        classes: Names and probabilities (0 to 1), most probable first.
        start_seconds: Where the span begins; None: at the start of the file.
        end_seconds: Where it ends; None: at the end of the file.
        seconds: Time that the prediction took; of files that were predicted together, their mean.
    """

    source: Path
    classes: tuple[tuple[str, float], ...]
    start_seconds: float | None
    end_seconds: float | None
    seconds: float

    def to_row(self) -> dict[str, Any]:
        """Give it as plain values that JSON can hold."""
        classes = [{"name": name, "probability": share} for name, share in self.classes]
        return {
            "video": say_location(self.source),
            "start": self.start_seconds,
            "end": self.end_seconds,
            "classes": classes,
        }

    @property
    def best(self) -> str:
        """Name of the most probable class."""
        return self.classes[0][0]

    def __repr__(self) -> str:
        named = ", ".join(f"{name} {probability:.1%}" for name, probability in self.classes)
        return f"ClipPrediction({self.source.name!r}: {named})"


@dataclass(frozen=True)
class FailedPrediction:
    """A file that cannot be read, and why."""

    source: Path
    reason: str
