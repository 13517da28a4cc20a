"""What is done with a table of features: search in it, and find out what the features are worth."""

import importlib.util
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from everest.config import CheckpointInfo, EvaluationConfig, SelectionConfig
from everest.datasets import ClipRecord
from everest.errors import ConfigError, DataError, WeightsError
from everest.evaluation import choose_device
from everest.hashing import sha256_of
from everest.inference.feature_rows import Features, read_features
from everest.inference.probing import ProbeReport
from everest.inference.probing import probe as probe_features
from everest.inference.searching import Match, describe_video, nearest
from everest.models import load_model
from everest.models.features import FeatureModel, to_use
from everest.models.weights import find_weights
from everest.settings import parse
from everest.texts import printable


@dataclass(frozen=True)
class SearchReport:
    """What was found.

    Attributes:
        query: The video.
        num_rows: Rows that were searched.
        matches: The nearest first.
    """

    query: str
    num_rows: int
    matches: tuple[Match, ...]

    def summary(self) -> str:
        """Tell a person, a line for each match."""
        lines = []
        for match in self.matches:
            span = "" if match.start_seconds is None else f"  {match.start_seconds:g} to {match.end_seconds:g} s"
            label = "" if match.label is None else f"  {match.label}"
            lines.append(printable(f"{match.similarity:.3f}  {match.path}{span}{label}"))
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Give everything as plain values that JSON can hold."""
        return {"query": self.query, "num_rows": self.num_rows, "matches": [match.to_dict() for match in self.matches]}


def search(
    features: str | Path,
    video: str | Path,
    *,
    top: int = 10,
    start_seconds: float | None = None,
    end_seconds: float | None = None,
    same_file: bool = False,
    checkpoint: str | Path | None = None,
    device: str = "auto",
) -> SearchReport:
    """Find the clips of a table that look most like a video to the model that made the table.

    Args:
        features: A file that :func:`everest.embed` wrote.
        video: What to search for.
        top: How many to name.
        start_seconds: Where the part begins that is searched for; None: at the start of the file.
        end_seconds: Where it ends; None: at the end of the file.
        same_file: Whether clips of the same file count.
        checkpoint: Where the table's checkpoint is now; None: where it was.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.

    Raises:
        ConfigError: A library is missing, or a number makes no sense.
        WeightsError: It is not the checkpoint that made the table.
        DataError: The table or the video cannot be read.
    """
    _require_learners()
    if top < 1:
        raise ConfigError(f"top must be 1 or more, given: {top}")
    table = read_features(features)
    model, views = _maker(table, checkpoint, device)
    _require_span(start_seconds, end_seconds)
    record = ClipRecord(Path(video).expanduser(), start_seconds=start_seconds, end_seconds=end_seconds)
    matches = nearest(table, describe_video(model, record, views), top=top, same_file=same_file)
    return SearchReport(str(video), len(table.rows), tuple(matches))


def probe(train: str | Path, test: str | Path, *, num_neighbors: Sequence[int] = (1, 20), seed: int = 0) -> ProbeReport:
    """Find out how well classes can be told by features as they are: by nearest neighbours, and by a linear classifier.

    Args:
        train: A file of labelled rows that :func:`everest.embed` wrote.
        test: Another one, of other videos, made in the same way.
        num_neighbors: How many neighbours are asked.
        seed: Of how files are divided to choose the linear classifier's strength.

    Raises:
        ConfigError: A library is missing, a number makes no sense, or the two were made in different ways.
        DataError: A table cannot be read, has no labels, or shares clips with the other.
    """
    _require_learners()
    if not num_neighbors or min(num_neighbors) < 1:
        raise ConfigError(f"numbers of neighbours must be 1 or more, given: {', '.join(map(str, num_neighbors))}")
    return probe_features(read_features(train), read_features(test), num_neighbors=num_neighbors, seed=seed)


def _require_span(start: float | None, end: float | None) -> None:
    """Refuse seconds that lie in no video, or in the wrong order."""
    given = [f"--{name} {value:g}" for name, value in (("start", start), ("end", end)) if value is not None]
    if not 0.0 <= (start or 0.0) < (math.inf if end is None else end) or end == math.inf:
        raise ConfigError(
            f"{' '.join(given)}: seconds from the beginning of the file, 0 or more, and the end after the start; leave "
            "--end out for the end of the file"
        )


def _require_learners() -> None:
    if importlib.util.find_spec("sklearn") is None:
        raise ConfigError("searching and probing need scikit-learn: pip install 'everest-video[features]'")


def _maker(table: Features, checkpoint: str | Path | None, device: str) -> tuple[FeatureModel, EvaluationConfig]:
    """Load the model that made a table, and the views that it took of each clip.

    Raises:
        WeightsError: It is not there, or another one.
    """
    made_by = table.made_by
    try:
        asked, digest, layer = made_by["checkpoint"], made_by["sha256"], made_by["layer"]
        per_token, (num_segments, num_crops) = made_by["per_token"], made_by["views"]
        selection = parse(SelectionConfig, made_by["selection"])
    except (KeyError, TypeError, ValueError):
        raise DataError("the table does not say what made it, so nothing can be compared with it") from None
    if checkpoint is None and not Path(asked).exists():
        raise WeightsError(f"the table was made by {asked}, which is not there: say where it is with --checkpoint")
    weights = find_weights(Path(asked if checkpoint is None else checkpoint).expanduser())
    found = sha256_of(weights)
    if found != digest:
        raise WeightsError(
            f"{weights}: is not the checkpoint that made the table: its hash is {found[:12]}, not {digest[:12]}"
        )
    model, info = load_model(weights)
    info = CheckpointInfo.model_validate(to_use(info).model_dump() | {"selection": selection.model_dump()})
    maker = FeatureModel(model.to(choose_device(device)), info, layer=layer, per_token=per_token)
    return maker, EvaluationConfig(num_segments=num_segments, num_crops=num_crops)
