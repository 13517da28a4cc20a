"""The clips of a table of features that are nearest to a video.

Shapes: n rows, D width.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from everest.config import EvaluationConfig
from everest.datasets import ClipRecord, Manifest
from everest.errors import DataError, VideoError
from everest.inference.describing import FeatureReader
from everest.inference.feature_rows import FeatureRow, Features
from everest.models.features import FeatureModel


@dataclass(frozen=True)
class Match:
    """One of the nearest clips.

    Attributes:
        path: The video.
        start_seconds: Where the clip begins; None: at the start of the file.
        end_seconds: Where it ends; None: at the end of the file.
        label: Its class, if it has one.
        similarity: Cosine of the angle to what was searched for: 1 is the same direction, 0 has nothing in common.
    """

    path: str
    start_seconds: float | None
    end_seconds: float | None
    label: str | None
    similarity: float

    def to_dict(self) -> dict[str, Any]:
        """Give everything as plain values that JSON can hold."""
        return asdict(self)


def nearest(features: Features, query: FeatureRow, *, top: int = 10, same_file: bool = False) -> list[Match]:
    """Find the rows of the smallest angle to a query.

    Args:
        features: The table.
        query: What is searched for, made in the same way.
        top: How many to give; there may be fewer.
        same_file: Whether rows of the query's own file count.

    Raises:
        DataError: No row is left to be compared.
    """
    from sklearn.neighbors import NearestNeighbors

    own = Path(query.path).resolve()
    rows = [row for row in features.rows if same_file or Path(row.path).resolve() != own]
    if not rows:
        raise DataError(f"the table has nothing but {own.name} itself: add --same-file to search within it")
    table = Features(tuple(rows), features.made_by).matrix()  # [n, D]
    wanted = Features((query,), {}).matrix()  # [1, D]
    found = NearestNeighbors(n_neighbors=min(top, len(rows)), metric="cosine").fit(table)
    distances, places = found.kneighbors(wanted)
    return [
        Match(row.path, row.start_seconds, row.end_seconds, row.label, 1.0 - float(distance))
        for distance, row in zip(distances[0], (rows[place] for place in places[0]), strict=True)
    ]


def describe_video(model: FeatureModel, record: ClipRecord, views: EvaluationConfig) -> FeatureRow:
    """Give the features of one video or span, as they would be in a table.

    Args:
        model: What made the table.
        record: The video.
        views: Clips and crops that are averaged.

    Raises:
        VideoError: The video cannot be read.
    """
    manifest = Manifest((record,), (), record.path)
    ((_, rows, failures),) = FeatureReader(model, manifest, None, views).read_from(0)
    for path, reason in failures.items():
        raise VideoError(f"{path}: {reason}")
    return rows[0]
