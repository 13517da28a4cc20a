"""What ``everest predict`` does with its options."""

import sys
from argparse import Namespace
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from everest.commands import EXIT_FAILURES, EXIT_OK, EXIT_UNUSABLE, print_result
from everest.errors import ConfigError
from everest.texts import printable

LISTS = (".csv", ".tsv")  # what is one, not a video

if TYPE_CHECKING:
    from everest.config import EvaluationConfig
    from everest.datasets import ClipRecord
    from everest.inference import ClipPrediction, FailedPrediction, Predictor

    Prediction = ClipPrediction | FailedPrediction


def predict(options: Namespace) -> int:
    """Name what happens in videos; what cannot be read is said, and the rest is predicted."""
    from everest import api
    from everest.commands_timeline import asks_when, predict_stream, predict_timelines
    from everest.evaluation import parse_views
    from everest.inference import DEFAULT_VIEWS, FailedPrediction
    from everest.inference.far_videos import near_copies
    from everest.inference.kept import to_row
    from everest.inference.predict import ONE_VIEW
    from everest.video.live import is_live
    from everest.video.source import say_location

    stream = options.live or any(is_live(video) for video in options.videos)
    over_time = stream or asks_when(options)
    if options.annotate and options.timelines is None:
        raise ConfigError("--annotate writes into the folder of --timelines, which is not given")
    if options.seconds is not None and not stream:
        raise ConfigError("--seconds says when to stop reading a stream; no VIDEO is one")
    records = [] if stream else _records(options.videos)
    device = "cpu" if options.engine == "ray" else options.device
    predictor = api.load(options.checkpoint, device=device, keep_ratio=options.keep_ratio)
    views = ONE_VIEW if over_time else DEFAULT_VIEWS
    views = views if options.views is None else parse_views(options.views)
    if options.decoder is not None:
        views = views.model_copy(update={"decoder": options.decoder})
    if stream:
        return predict_stream(options, predictor, views)
    with near_copies(records) as (records, near):
        if over_time:
            return predict_timelines(options, predictor, records, near, views)
        results = predict_kept(options, predictor, records, near, views)
    failed = [result for result in results if isinstance(result, FailedPrediction)]
    if options.out is None:
        rows = [to_row(record, result) for record, result in zip(records, results, strict=True)]
        if len(failed) < len(results) or options.json:
            print_result(options, rows, "\n".join(_told(rows)))
    else:
        values = {"out": str(options.out), "num_videos": len(results), "num_failed": len(failed)}
        print_result(options, values, f"{len(results) - len(failed):,} of {len(results):,} predicted: {options.out}")
    for failure in failed:
        print(printable(f"error: {say_location(failure.source)}: {failure.reason}"), file=sys.stderr)
    if len(failed) == len(results):
        return EXIT_UNUSABLE
    return EXIT_FAILURES if failed else EXIT_OK


def _records(videos: list[str]) -> "Sequence[ClipRecord]":
    """List the clips: a manifest, a folder and the URL of packed ones stand for all of theirs."""
    from everest.datasets import ClipRecord, load_data
    from everest.datasets.source import BUNDLED
    from everest.inference.far_videos import far_record, is_far_video
    from everest.video.source import is_url

    records: list[ClipRecord] = []
    for video in videos:
        if is_far_video(video):
            records.append(far_record(video))
            continue
        path = Path(video).expanduser()
        is_list = video == BUNDLED or is_url(video) or path.suffix.lower() in LISTS or path.is_dir()
        records += load_data(video).records if is_list else [ClipRecord(Path(video))]
    return records


def predict_kept(
    options: Namespace,
    predictor: "Predictor",
    records: "Sequence[ClipRecord]",
    near: "Sequence[ClipRecord | str]",
    views: "EvaluationConfig",
) -> "Sequence[Prediction]":
    """Predict what an earlier start has not predicted.

    Args:
        options: Of the command.
        predictor: What predicts.
        records: The clips, as they were given.
        near: Where each of them is read, or why it cannot be.
        views: Of each clip.
    """
    from everest.datasets.engine import open_engine
    from everest.datasets.ray_engine import RayEngine
    from everest.inference import FailedPrediction
    from everest.inference.kept import PredictionFile
    from everest.training.progress import Progress

    with ExitStack() as stack:
        kept = None
        if options.out is not None:
            kept = stack.enter_context(PredictionFile(options.out, predictor, views, options.top))
        found: dict[int, Prediction] = {}
        for index, (record, there) in enumerate(zip(records, near, strict=True)):
            known = None if kept is None else kept.known(record)
            if known is not None:
                found[index] = known
            elif isinstance(there, str):
                found[index] = FailedPrediction(record.path, there)
        left, num_known = [index for index in range(len(records)) if index not in found], len(found)

        def take(place: int, prediction: "Prediction") -> None:
            index = left[place]
            found[index] = replace(prediction, source=records[index].path)
            if kept is not None:
                kept.add(records[index], found[index])

        engine = stack.enter_context(open_engine(options.engine, address=options.ray_address))
        progress = stack.enter_context(Progress("predicting", len(records)))
        progress.skip(num_known)
        predictor.predict_many(
            [there for index in left if not isinstance(there := near[index], str)],
            lambda done, _: progress.update(num_known + done),
            views=views,
            top=options.top,
            num_workers=-1,
            on_result=take,
            engine=engine if isinstance(engine, RayEngine) else None,
            device=options.device,
        )
        results = [found[index] for index in range(len(records))]
        if kept is not None:
            kept.finish(records, results)
    return results


def _told(rows: list[dict[str, Any]]) -> list[str]:
    """Write predictions for a person; names of files and classes are what others have chosen."""
    lines = []
    for row in rows:
        if "classes" in row:
            end = "the end" if row.get("end") is None else f"{row['end']:g} s"
            lines.append(row["video"] + (f" from {row['start'] or 0:g} s to {end}" if "start" in row else ""))
            lines += [f"  {c['probability']:6.1%}  {c['name']}" for c in row["classes"]]
    return list(map(printable, lines))
