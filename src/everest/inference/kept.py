"""Predictions as JSON lines, each written as soon as it is known, so that many of them can go on where they stopped."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from everest.config import EvaluationConfig
from everest.datasets import ClipRecord
from everest.datasets.check import stat_source
from everest.hashing import fingerprint
from everest.inference.line_files import LineFile
from everest.inference.predict import Predictor
from everest.inference.predictions import ClipPrediction, FailedPrediction
from everest.inference.windows import Windows
from everest.video.source import say_location
from everest.video.urls import Url

Name = tuple[str, float | None, float | None]  # file and span
Key = tuple[str, float | None, float | None, int, int]  # with size and time of the last change


class PredictionFile(LineFile):
    """Predictions of videos: those that an earlier start has written are known.

    Files that could not be read are tried again by the next start.

    Args:
        path: Made where it does not exist.
        predictor: What predicts.
        views: How many views of each video, and what reads them.
        top: Classes that are named.

    Raises:
        DataError: The file cannot be used, or holds predictions of other weights or settings.
    """

    def __init__(self, path: Path, predictor: Predictor, views: EvaluationConfig, top: int) -> None:
        super().__init__(path, _settings(predictor, views, top), "predictions of these weights with these settings")
        self._known: dict[Key, ClipPrediction] = {}
        self._rows: dict[Name, dict[str, Any]] = {}

    def known(self, record: ClipRecord) -> ClipPrediction | None:
        """Give what an earlier start has predicted of the same file; None where it has not, or the file has changed."""
        return self._known.get(_key(record))

    def add(self, record: ClipRecord, prediction: ClipPrediction | FailedPrediction) -> None:
        """Write a prediction, at once."""
        self._append(to_row(record, prediction) | _state(record))

    def finish(self, records: Sequence[ClipRecord], predictions: Sequence[ClipPrediction | FailedPrediction]) -> None:
        """Write the file anew: first what it held and nobody asked for now, then these, in order.

        Where a file could be read before and cannot be now, its row stays as it is.
        """
        asked = [to_row(*pair) | _state(pair[0]) for pair in zip(records, predictions, strict=True)]
        names = {_name(row) for row in asked}
        rows = [row for name, row in self._rows.items() if name not in names]
        self._replace(rows + [row if "classes" in row else self._rows.get(_name(row), row) for row in asked])

    def _take(self, row: dict[str, Any]) -> None:
        if "classes" not in row:
            self._rows.setdefault(_name(row), row)
            return
        self._rows[_name(row)] = row
        classes = tuple((c["name"], c["probability"]) for c in row["classes"])
        span = row["start"], row["end"]
        key = (row["video"], *span, row["num_bytes"], row["modified_ns"])
        self._known[key] = ClipPrediction(Path(row["video"]), classes, *span, 0.0)


class StreamFile(LineFile):
    """Windows of a stream. Before the first of each start stands a line that says when the start was.

    Args:
        path: Made where it does not exist.
        predictor: What predicts.
        location: The stream.
        windows: How it is cut.
        views: How many views of each window.
        top: Classes that are named.

    Raises:
        DataError: The file cannot be used, or holds something else.
    """

    def __init__(
        self,
        path: Path,
        predictor: Predictor,
        location: str,
        windows: Windows,
        *,
        views: EvaluationConfig,
        top: int,
    ) -> None:
        cut = {"window": windows.window_seconds, "hop": windows.hop_seconds}
        header = {"stream": say_location(Path(Url(location))), **cut, **_settings(predictor, views, top)}
        super().__init__(path, header, "windows of this stream by these weights with these settings")

    def __enter__(self) -> Self:
        super().__enter__()
        self._started: str | None = datetime.now(UTC).isoformat(timespec="seconds")
        return self

    def add(self, window: ClipPrediction) -> None:
        """Write a window, at once."""
        if self._started is not None:
            self._append({"started": self._started})
            self._started = None
        self._append(window.to_row())


def to_row(record: ClipRecord, prediction: ClipPrediction | FailedPrediction) -> dict[str, Any]:
    """Give a prediction as plain values that JSON can hold; a span only where there is one."""
    if isinstance(prediction, ClipPrediction):
        row = prediction.to_row()
    else:
        span = {"start": record.start_seconds, "end": record.end_seconds}
        row = {"video": say_location(prediction.source), **span, "error": prediction.reason}
    has_span = record.start_seconds is not None or record.end_seconds is not None
    return row if has_span else {key: value for key, value in row.items() if key not in {"start", "end"}}


def _settings(predictor: Predictor, views: EvaluationConfig, top: int) -> dict[str, Any]:
    """What predictions depend on."""
    asked = {"num_segments": views.num_segments, "num_crops": views.num_crops, "decoder": views.decoder, "top": top}
    return {"model": fingerprint(predictor.info.model_dump_json(), predictor.model.state_dict()), **asked}


def _name(row: dict[str, Any]) -> Name:
    return row["video"], row["start"], row["end"]


def _key(record: ClipRecord) -> Key:
    return say_location(record.path), record.start_seconds, record.end_seconds, *stat_source(record.source)


def _state(record: ClipRecord) -> dict[str, Any]:
    """What tells whether the file is still the same, and its span, even where it has none."""
    num_bytes, modified_ns = stat_source(record.source)
    span = {"start": record.start_seconds, "end": record.end_seconds}
    return {**span, "num_bytes": num_bytes, "modified_ns": modified_ns}
