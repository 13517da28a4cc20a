"""Many videos: what is known is not looked at again, and those at URLs are copied a few at a time."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from everest.config import EvaluationConfig
from everest.datasets import ClipRecord
from everest.datasets.ray_engine import RayEngine
from everest.inference.far_videos import MAX_COPIES, Copies, is_far, with_sizes
from everest.inference.kept import PredictionFile
from everest.inference.predict import Predictor
from everest.inference.predictions import ClipPrediction, FailedPrediction
from everest.training.progress import Progress

Prediction = ClipPrediction | FailedPrediction


@dataclass(frozen=True)
class Predicting:
    """What predicts many videos, and how.

    Attributes:
        predictor: Names classes.
        views: Of each video or window.
        top: Classes to name.
        copies: Of videos at URLs.
        kept: Knows what an earlier start has predicted, and takes what comes; None: nothing is kept.
        engine: A Ray cluster that does the work; None: processes of this machine.
        device: Where the model of the cluster's workers computes.
    """

    predictor: Predictor
    views: EvaluationConfig
    top: int
    copies: Copies
    kept: PredictionFile | None = None
    engine: RayEngine | None = None
    device: str = "auto"

    def known(self, record: ClipRecord) -> ClipPrediction | None:
        """Give what an earlier start has predicted."""
        return None if self.kept is None else self.kept.known(record)

    def predict(
        self, records: Sequence[ClipRecord], near: Sequence[ClipRecord | str], progress: Progress, num_before: int = 0
    ) -> list[Prediction]:
        """Predict what is not known.

        Args:
            records: The clips, as they were given.
            near: Where each of them is read, or why it cannot be.
            progress: Shows how many are done.
            num_before: How many were done before.
        """
        found: dict[int, Prediction] = {}
        for index, (record, there) in enumerate(zip(records, near, strict=True)):
            if (known := self.known(record)) is not None:
                found[index] = known
            elif isinstance(there, str):
                found[index] = FailedPrediction(record.path, there)
        left = [(index, there) for index, there in enumerate(near) if index not in found and not isinstance(there, str)]
        progress.skip(len(found))
        num_before += len(found)
        if found:
            progress.update(num_before)

        def take(place: int, prediction: Prediction) -> None:
            index = left[place][0]
            found[index] = replace(prediction, source=records[index].path)
            if self.kept is not None:
                self.kept.add(records[index], found[index])

        self.predictor.predict_many(
            [there for _, there in left],
            lambda done, _: progress.update(num_before + done),
            views=self.views,
            top=self.top,
            num_workers=-1,
            on_result=take,
            engine=self.engine,
            device=self.device,
        )
        return [found[index] for index in range(len(records))]

    def finish(self, records: Sequence[ClipRecord], predictions: Sequence[Prediction]) -> None:
        """Say what was asked for, in order, when all of it is there."""
        if self.kept is not None:
            self.kept.finish(records, predictions)

    def groups(
        self, records: Sequence[ClipRecord], near: Sequence[ClipRecord | str], *, skip_known: bool
    ) -> Iterator["Group"]:
        """Give videos in groups that are read together: all that need no copy, then the others, a few at a time.

        Args:
            records: The videos, as they were given.
            near: The same, or why one cannot be read.
            skip_known: What is known needs no copy either.
        """
        waiting = [
            place
            for place, there in enumerate(near)
            if isinstance(there, ClipRecord)
            and is_far(there)
            and self.engine is None  # whose machines fetch themselves
            and not (skip_known and self.known(there))
        ]
        others = sorted(set(range(len(near))) - set(waiting))
        if others:
            yield Group(others, [records[place] for place in others], [near[place] for place in others])
        for start in range(0, len(waiting), MAX_COPIES):
            places = waiting[start : start + MAX_COPIES]
            pairs = [self.copies.near(records[place]) for place in places]
            yield Group(places, [record for record, _ in pairs], [there for _, there in pairs])


@dataclass(frozen=True)
class Group:
    """Videos that are read together.

    Attributes:
        places: Of each among all videos.
        records: The videos, as they were given, with their sizes.
        near: Where each of them is read, or why it cannot be.
    """

    places: Sequence[int]
    records: Sequence[ClipRecord]
    near: Sequence[ClipRecord | str]


def predict_videos(work: Predicting, videos: Sequence[ClipRecord]) -> list[Prediction]:
    """Predict videos.

    Args:
        work: What predicts them.
        videos: As they were given.

    Returns:
        One for each, in their order.

    Raises:
        DataError: There is no room for a copy, or what is found cannot be written.
    """
    given, near = with_sizes(videos, for_others=work.engine is not None)
    found: dict[int, Prediction] = {}
    with Progress("predicting", len(given)) as progress:
        for group in work.groups(given, near, skip_known=True):
            results = work.predict(group.records, group.near, progress, len(found))
            for place, record, result in zip(group.places, group.records, results, strict=True):
                given[place], found[place] = record, result
    predictions = [found[place] for place in range(len(given))]
    work.finish(given, predictions)
    return predictions
