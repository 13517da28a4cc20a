"""Evaluations that were written as JSON, read back; and the clips among them that were hardest.

Shapes: K classes.
"""

from pathlib import Path
from typing import Annotated, Self

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from everest.errors import DataError
from everest.evaluation.evaluate import ClassAccuracy, ClipFailure, ClipResult, Evaluation
from everest.evaluation.metrics import rank_classes

NAME = "evaluation.json"
MAX_CLASSES = 100_000

_Share = Annotated[float, Field(ge=0.0, le=1.0)]
_Count = Annotated[int, Field(ge=0, lt=2**53)]


class _Class(BaseModel):
    name: str
    num_clips: _Count
    accuracy: _Share | None


class _Failure(BaseModel):
    record_index: _Count
    path: str
    reason: str


class _Prediction(BaseModel):
    record_index: _Count
    path: str
    start_seconds: float | None
    end_seconds: float | None
    label: _Count
    probabilities: list[_Share]


class _Stored(BaseModel):
    """What the file must hold; what else there is, newer versions may have added."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)

    num_clips: Annotated[int, Field(ge=1, lt=2**53)]
    num_views: _Count
    top1: _Share
    top1_interval: tuple[_Share, _Share]
    top5: _Share | None
    majority: _Share
    class_names: Annotated[list[str], Field(min_length=1, max_length=MAX_CLASSES)]
    per_class: list[_Class]
    confusion: list[list[_Count]]
    failures: list[_Failure] = []
    predictions: list[_Prediction] = []
    manifest_digest: str = ""
    part_digest: str = ""
    note: str = ""
    seconds: float = 0.0

    @model_validator(mode="after")
    def _fits(self) -> Self:
        size = len(self.class_names)
        sizes = {len(self.per_class), len(self.confusion), *(len(row) for row in self.confusion)}
        if sizes | {len(each.probabilities) for each in self.predictions} != {size}:
            raise ValueError(f"there are {size} class names, and other numbers of classes elsewhere")
        if any(each.label >= size for each in self.predictions):
            raise ValueError("a clip is of a class that has no name")
        return self


def read_evaluation(path: Path) -> Evaluation:
    """Read an evaluation that was written as JSON, by fine-tuning or by ``everest evaluate``.

    Raises:
        DataError: The file cannot be read, or does not hold an evaluation.
    """
    try:
        stored = _Stored.model_validate_json(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from None
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise DataError(f"{path} does not hold an evaluation: {f'{place}: ' * bool(place)}{first['msg']}") from None
    return Evaluation(
        num_clips=stored.num_clips,
        num_views=stored.num_views,
        top1=stored.top1,
        top1_interval=stored.top1_interval,
        top5=stored.top5,
        majority=stored.majority,
        per_class=tuple(ClassAccuracy(each.name, each.num_clips, each.accuracy) for each in stored.per_class),
        confusion=torch.tensor(stored.confusion, dtype=torch.int64),
        predictions=tuple(_result(each) for each in stored.predictions),
        failures=tuple(ClipFailure(each.record_index, Path(each.path), each.reason) for each in stored.failures),
        class_names=tuple(stored.class_names),
        manifest_digest=stored.manifest_digest,
        part_digest=stored.part_digest,
        note=stored.note,
        seconds=stored.seconds,
    )


def find_evaluations(folder: Path) -> list[Path]:
    """Find the evaluations in the folder of a run and in those directly below it, the newest first."""
    found = []
    for path in (folder / NAME, *folder.glob(f"*/{NAME}")):
        try:
            found.append((path.stat().st_mtime, path))
        except OSError:
            continue
    return [path for _, path in sorted(found, key=lambda each: (-each[0], str(each[1])))]


def hardest(evaluation: Evaluation, most: int) -> list[ClipResult]:
    """Order the clips by how little probability their true class got, and give so many of the worst."""
    return sorted(evaluation.predictions, key=lambda each: (float(each.probabilities[each.label]), each.record_index))[
        :most
    ]


def most_probable(result: ClipResult) -> int:
    """Give the index of the class that a clip is taken for."""
    return int(rank_classes(result.probabilities)[0])


def _result(each: _Prediction) -> ClipResult:
    probabilities = torch.tensor(each.probabilities, dtype=torch.float64)  # [K]
    return ClipResult(
        each.record_index, Path(each.path), each.start_seconds, each.end_seconds, each.label, probabilities
    )
