"""Predictions as JSON lines, each written as soon as it is known, so that many of them can go on where they stopped."""

import hashlib
import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, Self, TextIO

import torch

from everest.config import EvaluationConfig
from everest.datasets import ClipRecord
from everest.datasets.check import stat_source
from everest.datasets.lock import Lock
from everest.errors import DataError
from everest.evaluation.views import OnProgress
from everest.inference.predict import Predictor
from everest.inference.predictions import ClipPrediction, FailedPrediction
from everest.links import append_text, open_new
from everest.video.source import say_location

Name = tuple[str, float | None, float | None]  # file and span
Key = tuple[str, float | None, float | None, int, int]  # with size and time of the last change


class PredictionFile:
    """The file. Use it in a ``with`` statement, at the start of which it is read; until its end nobody else writes.

    Its first line says what the predictions depend on. Files that could not be read are tried again by the next start.

    Args:
        path: Made where it does not exist.
        predictor: What predicts.
        views: How many views of each video, and what reads them.
        top: Classes that are named.

    Raises:
        DataError: The file cannot be used, or holds predictions of other weights or settings.
    """

    def __init__(self, path: Path, predictor: Predictor, views: EvaluationConfig, top: int) -> None:
        self._path, self._class_names = path, predictor.class_names
        asked = {"num_segments": views.num_segments, "num_crops": views.num_crops, "decoder": views.decoder, "top": top}
        self._header = {"model": fingerprint(predictor), **asked}
        self._known: dict[Key, ClipPrediction] = {}
        self._rows: dict[Name, dict[str, Any]] = {}
        busy = "is predicting and writes here: wait until that is done, or name another file with --out"
        self._lock = Lock(path.with_name(f"{path.name}.lock"), f"{path}: {{owner}} {busy}")

    def __enter__(self) -> Self:
        try:
            with ExitStack() as stack:
                stack.enter_context(self._lock)
                content = self._path.read_bytes() if self._path.exists() else b""
                whole = content[: content.rfind(b"\n") + 1]  # the last line may have been cut off
                header = _line(self._header)
                self._read(whole, b"" if header.encode().startswith(content) else content)
                self._file: TextIO = stack.enter_context(append_text(self._path))
                self._file.truncate(len(whole))  # never written anew: a full disk would take what is there
                if not whole:
                    self._file.write(header)
                    self._file.flush()
                self._closing = stack.pop_all()
        except OSError as error:
            raise self._unusable(error) from None
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._closing.close()
        except OSError as error:  # what was not written yet did not fit on the disk
            raise self._unusable(error) from None

    def known(self, record: ClipRecord) -> ClipPrediction | None:
        """Give what an earlier start has predicted of the same file; None where it has not, or the file has changed."""
        return self._known.get(_key(record))

    def add(self, record: ClipRecord, prediction: ClipPrediction | FailedPrediction) -> None:
        """Write a prediction, at once."""
        try:
            self._file.write(_line(to_row(record, prediction) | _state(record)))
            self._file.flush()
        except OSError as error:
            raise self._unusable(error) from None

    def finish(self, records: Sequence[ClipRecord], predictions: Sequence[ClipPrediction | FailedPrediction]) -> None:
        """Write the file anew: first what it held and nobody asked for now, then these, in order.

        Where a file could be read before and cannot be now, its row stays as it is.
        """
        self._file.close()
        asked = [to_row(*pair) | _state(pair[0]) for pair in zip(records, predictions, strict=True)]
        names = {_name(row) for row in asked}
        rows = [row for name, row in self._rows.items() if name not in names]
        rows += [row if "classes" in row else self._rows.get(_name(row), row) for row in asked]
        part = self._path.with_name(f"{self._path.name}.part")
        try:
            with open_new(part) as file:
                for row in (self._header, *rows):
                    file.write(_line(row).encode())
            part.replace(self._path)
        except OSError as error:
            raise self._unusable(error) from None

    def _read(self, whole: bytes, content: bytes) -> None:
        try:
            header, *rows = [json.loads(line) for line in whole.splitlines()] or [self._header if not content else None]
            if header != self._header:
                raise DataError(
                    f"{self._path}: exists, but does not hold predictions of these weights with these settings: name "
                    "another file with --out"
                )
            for row in rows:
                if "classes" not in row:
                    self._rows.setdefault(_name(row), row)
                else:
                    self._rows[_name(row)] = row
                    classes = tuple((c["name"], c["probability"]) for c in row["classes"])
                    span = row["start"], row["end"]
                    key = (row["video"], *span, row["num_bytes"], row["modified_ns"])
                    self._known[key] = ClipPrediction(Path(row["video"]), classes, *span, 0.0)
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{self._path}: is not a file of predictions ({error}): name another with --out") from None

    def _unusable(self, error: OSError) -> DataError:
        return DataError(f"{self._path}: cannot be written: {error.strerror}; name another file with --out")


def to_row(record: ClipRecord, prediction: ClipPrediction | FailedPrediction) -> dict[str, Any]:
    """Give a prediction as plain values that JSON can hold; a span only where there is one."""
    if isinstance(prediction, ClipPrediction):
        row = prediction.to_row()
    else:
        span = {"start": record.start_seconds, "end": record.end_seconds}
        row = {"video": say_location(prediction.source), **span, "error": prediction.reason}
    has_span = record.start_seconds is not None or record.end_seconds is not None
    return row if has_span else {key: value for key, value in row.items() if key not in {"start", "end"}}


def predict_kept(
    predictor: Predictor,
    records: Sequence[ClipRecord],
    near: Sequence[ClipRecord | str],
    kept: PredictionFile | None,
    *,
    on_progress: OnProgress,
    on_skip: Callable[[int], None],
    **options: Any,
) -> list[ClipPrediction | FailedPrediction]:
    """Predict what an earlier start has not predicted.

    Args:
        predictor: What predicts.
        records: The clips, as they were given.
        near: Where each of them is read, or why it cannot be.
        kept: Knows what an earlier start has predicted, and takes what comes; None: nothing is kept.
        on_progress: Called with the number of clips that are done, those that were known included, and of all.
        on_skip: Called first, with the number of those that were known.
        **options: Of :meth:`~everest.inference.predict.Predictor.predict_many`.
    """
    found: dict[int, ClipPrediction | FailedPrediction] = {}
    for index, (record, there) in enumerate(zip(records, near, strict=True)):
        known = None if kept is None else kept.known(record)
        if known is not None:
            found[index] = known
        elif isinstance(there, str):
            found[index] = FailedPrediction(record.path, there)
    left = [(index, there) for index, there in enumerate(near) if index not in found and not isinstance(there, str)]
    num_known = len(found)
    on_skip(num_known)

    def take(place: int, prediction: ClipPrediction | FailedPrediction) -> None:
        index = left[place][0]
        found[index] = replace(prediction, source=records[index].path)
        if kept is not None:
            kept.add(records[index], found[index])

    predictor.predict_many(
        [there for _, there in left],
        lambda done, _: on_progress(num_known + done, len(records)),
        on_result=take,
        **options,
    )
    results = [found[index] for index in range(len(records))]
    if kept is not None:
        kept.finish(records, results)
    return results


def fingerprint(predictor: Predictor) -> str:
    """Hash weights and what travels with them: equal where predictions are."""
    sha = hashlib.sha256(predictor.info.model_dump_json().encode())
    for name, tensor in sorted(predictor.model.state_dict().items()):
        sha.update(name.encode())
        sha.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return sha.hexdigest()


def _name(row: dict[str, Any]) -> Name:
    return row["video"], row["start"], row["end"]


def _key(record: ClipRecord) -> Key:
    return say_location(record.path), record.start_seconds, record.end_seconds, *stat_source(record.source)


def _state(record: ClipRecord) -> dict[str, Any]:
    """What tells whether the file is still the same, and its span, even where it has none."""
    num_bytes, modified_ns = stat_source(record.source)
    span = {"start": record.start_seconds, "end": record.end_seconds}
    return {**span, "num_bytes": num_bytes, "modified_ns": modified_ns}


def _line(values: dict[str, Any]) -> str:
    return json.dumps(values) + "\n"  # ASCII, so that any file name can be written
