"""What an evaluation has found so far, written down video by video: one that was broken off goes on where it was.

Each process of each start writes a file of JSON lines. The first line says what the others depend on.

Shapes: n videos that are known, K classes.
"""

import json
import math
import time
import uuid
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol, Self, TextIO

import torch
from torch import Tensor

from everest.config import CheckpointInfo, EvaluationConfig
from everest.datasets import Manifest
from everest.datasets.check import stat_source
from everest.errors import DataError
from everest.evaluation.views import OnProgress, OnVideo, VideoProbabilities
from everest.hashing import fingerprint
from everest.links import append_text
from everest.models import Classifier
from everest.training.processes import gather_rows, gather_values, this_process

EVERY_SECONDS = 10.0
"""How often results are written: each time the device is waited for."""
KEPT_NAME = "evaluating"
"""What the folder is called, beside the evaluation that it becomes."""


class Classify(Protocol):
    """Classifies the videos of a list, see :func:`~everest.evaluation.classify_videos`."""

    def __call__(
        self, manifest: Manifest, *, on_progress: OnProgress | None, on_video: OnVideo, every_seconds: float
    ) -> VideoProbabilities:
        """Give what is said of each."""


def what_results_depend_on(
    model: Classifier, info: CheckpointInfo, manifest: Manifest, views: EvaluationConfig, dtype: torch.dtype
) -> dict[str, Any]:
    """Say it in short: of results with equal values, up to rounding, one may stand for the other."""
    return {
        "weights": fingerprint(info.model_dump_json(), model.state_dict()),
        "data": manifest.digest,
        "views": f"{views.num_segments}x{views.num_crops}",
        "decoder": views.decoder,
        "dtype": str(dtype),
        "version": version("everest-video"),
    }


class KeptResults:
    """What earlier starts of an evaluation have kept, and what this one adds. Use it in a ``with`` statement.

    Videos that could not be read are not kept: they are tried again. Where nothing can be written, a warning says so,
    and the evaluation goes on.

    Args:
        folder: Made with the first result. :func:`forget_results` deletes it when the evaluation is written.
        depends_on: Of :func:`what_results_depend_on`.
        manifest: What is evaluated.
        num_classes: K.
        replaces: Results that depend on something else are deleted; else they are refused.
        divided: Several processes evaluate, all of which must call the same; the first one reads what was kept.

    Raises:
        DataError: The folder holds results of another evaluation.
    """

    def __init__(
        self,
        folder: Path,
        depends_on: dict[str, Any],
        manifest: Manifest,
        num_classes: int,
        *,
        replaces: bool = False,
        divided: bool = False,
    ) -> None:
        self._folder, self._header, self._manifest, self._num_classes = folder, depends_on, manifest, num_classes
        self._replaces, self._divided = replaces, divided
        self._rank = this_process()[0] if divided else 0
        self._file: TextIO | None = None
        self._files = ExitStack()
        self._is_lost = False  # nothing can be written

    def __enter__(self) -> Self:
        found: dict[int, list[float]] = {}
        self.earlier_seconds, problem = 0.0, ""
        if self._rank == 0:
            try:
                found, self.earlier_seconds = self._read()
            except DataError as error:
                problem = str(error)
        indices = torch.tensor(list(found), dtype=torch.int64)  # [n]
        rows = torch.tensor(list(found.values()), dtype=torch.float64).reshape(-1, self._num_classes)  # [n, K]
        if self._divided:
            self.earlier_seconds, problem = gather_values([self.earlier_seconds, problem])[0]
            indices, rows = gather_rows(indices), gather_rows(rows)
        if problem:
            raise DataError(problem)
        self._known = VideoProbabilities(indices, rows, {})
        self._started = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):  # what was not written fits nowhere, and that was said
            self._files.close()

    def __len__(self) -> int:
        return len(self._known.record_indices)

    @property
    def seconds(self) -> float:
        """How long the evaluation has taken, with its earlier starts."""
        return self.earlier_seconds + time.perf_counter() - self._started

    def complete(self, classify: Classify, on_progress: OnProgress | None = None) -> VideoProbabilities:
        """Classify the videos that are not known, and put all together.

        Args:
            classify: Gets a list of those that are not known.
            on_progress: Called after each video, with the number of known ones and the number of all.
        """
        known = set(self._known.record_indices.tolist())
        rest = [index for index in range(len(self._manifest)) if index not in known]
        if not rest:
            return _in_order(self._known)
        found = classify(
            replace(self._manifest, records=tuple(self._manifest.records[index] for index in rest)),
            on_progress=on_progress and (lambda done, _: on_progress(len(self) + done, len(self._manifest))),
            on_video=lambda place, outcome: self._add(rest[place], outcome),
            every_seconds=EVERY_SECONDS,
        )
        indices = torch.tensor(rest)[found.record_indices]
        return _in_order(
            VideoProbabilities(
                torch.cat([self._known.record_indices, indices]),
                torch.cat([self._known.probabilities, found.probabilities]),
                {rest[place]: why for place, why in found.failures.items()},
            )
        )

    def _add(self, record_index: int, outcome: Tensor | str) -> None:
        """Write what is said of a video [K]."""
        if isinstance(outcome, str) or self._is_lost or not bool(outcome.isfinite().all()):
            return
        size, changed = stat_source(self._manifest.records[record_index].source)
        row = {"record": record_index, "num_bytes": size, "modified_ns": changed, "seconds": round(self.seconds, 3)}
        try:
            if self._file is None:
                self._folder.mkdir(exist_ok=True)
                path = self._folder / f"rank-{self._rank}-{uuid.uuid4().hex}.jsonl"  # of this start alone
                self._file = self._files.enter_context(append_text(path))
                self._file.write(json.dumps(self._header) + "\n")
            self._file.write(json.dumps(row | {"probabilities": outcome.tolist()}) + "\n")
            self._file.flush()
        except OSError as error:
            self._is_lost = True
            warnings.warn(
                f"{self._folder}: results of this evaluation cannot be kept ({error.strerror or error}); if it is "
                "broken off, it begins anew",
                stacklevel=2,
            )

    def _read(self) -> tuple[dict[int, list[float]], float]:
        """Read probabilities by record, and for how many seconds was evaluated."""
        found: dict[int, list[float]] = {}
        seconds = 0.0
        for path in sorted(self._folder.glob("*.jsonl")):
            header, *rows = list(_lines(path)) or [None]
            if header is not None and header != self._header:
                self._leave(path, header)
                continue
            for row in rows:
                with suppress(KeyError, TypeError, ValueError, IndexError):  # damaged: evaluated again
                    found[row["record"]] = self._checked(row)
                    seconds = max(seconds, float(row["seconds"]))
        return found, seconds

    def _leave(self, path: Path, header: Any) -> None:
        """Take away what belongs to another evaluation, or refuse to."""
        if self._replaces:
            with suppress(OSError):
                path.unlink()
            return
        before = header if isinstance(header, dict) else {}
        other = ", ".join(name for name, value in self._header.items() if before.get(name) != value)
        raise DataError(
            f"{self._folder}: holds the beginning of an evaluation with other {other}: go on with that one by the "
            "command that began it, choose another folder, or delete this one"
        )

    def _checked(self, row: dict[str, Any]) -> list[float]:
        """Give the probabilities of a row; ValueError and the like where it is none, or the video is another one."""
        values = [float(value) for value in row["probabilities"]]
        state = stat_source(self._manifest.records[row["record"]].source)
        if len(values) != self._num_classes or not all(map(math.isfinite, values)) or row["record"] < 0:
            raise ValueError(row)
        if state != (row["num_bytes"], row["modified_ns"]):
            raise ValueError(row)
        return values


def forget_results(folder: Path) -> None:
    """Delete what was kept: the evaluation is written, or nobody wants it."""
    with suppress(OSError):
        for path in folder.glob("*.jsonl"):
            path.unlink()
        folder.rmdir()


def _lines(path: Path) -> Iterator[Any]:
    """Read the lines of a file that are whole; of what is no JSON, None."""
    try:
        content = path.read_bytes()
    except OSError:
        return
    for line in content[: content.rfind(b"\n") + 1].splitlines():
        try:
            yield json.loads(line)
        except ValueError:
            yield None


def _in_order(found: VideoProbabilities) -> VideoProbabilities:
    order = found.record_indices.argsort()
    return replace(found, record_indices=found.record_indices[order], probabilities=found.probabilities[order])
