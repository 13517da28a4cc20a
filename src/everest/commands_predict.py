"""What ``everest predict`` does with its options."""

import math
import sys
from argparse import Namespace
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from everest.commands import EXIT_FAILURES, EXIT_OK, EXIT_UNUSABLE, print_result
from everest.errors import ConfigError
from everest.texts import printable

LISTS = (".csv", ".tsv")  # what is one, not a video

if TYPE_CHECKING:
    from everest.config import EvaluationConfig
    from everest.datasets import ClipRecord
    from everest.inference import ClipPrediction, FailedPrediction
    from everest.inference.windows import Windows

    Prediction = ClipPrediction | FailedPrediction


def predict(options: Namespace) -> int:
    """Name what happens in videos, or when; what cannot be read is said, and the rest is predicted."""
    from everest import api
    from everest.commands_stream import predict_stream
    from everest.commands_timeline import asks_when, make_folder, tell_timelines
    from everest.datasets.engine import open_engine
    from everest.datasets.ray_engine import RayEngine
    from everest.inference.far_videos import Copies
    from everest.inference.kept import PredictionFile
    from everest.inference.long_videos import predict_timelines
    from everest.inference.predicting import Predicting, predict_videos
    from everest.video.live import is_live

    is_stream = options.live or any(is_live(video) for video in options.videos)
    over_time = is_stream or asks_when(options)
    _check(options, is_stream=is_stream)
    views, windows = _views(options, over_time=over_time), _windows(options)
    given = [] if is_stream else _records(options.videos)
    if options.timelines is not None:
        make_folder(options.timelines)
    device = "cpu" if options.engine == "ray" else options.device
    predictor = api.load(options.checkpoint, device=device, keep_ratio=options.keep_ratio)
    if is_stream:
        return predict_stream(options, predictor, views, windows)
    with ExitStack() as stack:
        kept = None
        if options.out is not None:
            kept = stack.enter_context(PredictionFile(options.out, predictor, views, options.top))
        opened = stack.enter_context(open_engine(options.engine, address=options.ray_address))
        copies = stack.enter_context(Copies())
        engine = opened if isinstance(opened, RayEngine) else None
        work = Predicting(predictor, views, options.top, copies, kept, engine, options.device)
        if not over_time:
            return _tell(options, given, predict_videos(work, given))
        return tell_timelines(options, predict_timelines(work, given, windows), given, copies)


def _check(options: Namespace, *, is_stream: bool) -> None:
    """Refuse options that make no sense or do not go together."""
    from everest.video.live import expect_live

    if options.top < 1:
        raise ConfigError(f"--top must be at least 1, given: {options.top}")
    if options.annotate and options.timelines is None:
        raise ConfigError("--annotate writes into the folder of --timelines, which is not given")
    if options.seconds is not None and not is_stream:
        raise ConfigError("--seconds says when to stop reading a stream; no VIDEO is one")
    if options.seconds is not None and not options.seconds > 0:
        raise ConfigError(f"--seconds must be more than 0, given: {options.seconds:g}")
    if is_stream and (len(options.videos) != 1 or options.engine != "local" or options.annotate):
        raise ConfigError("a stream has to be the only VIDEO, and is neither annotated nor read by --engine ray")
    if is_stream:
        expect_live(options.videos[0])


def _windows(options: Namespace) -> "Windows":
    from everest.inference.windows import MIN_SECONDS, Windows

    for name, value in (("--window", options.window), ("--hop", options.hop)):
        if value is not None and not MIN_SECONDS <= value < math.inf:
            raise ConfigError(f"{name} must be {MIN_SECONDS} seconds or more, given: {value:g}")
    return Windows(options.window, options.hop)


def _views(options: Namespace, *, over_time: bool) -> "EvaluationConfig":
    from everest.evaluation import parse_views
    from everest.inference import DEFAULT_VIEWS
    from everest.inference.predict import ONE_VIEW

    views = ONE_VIEW if over_time else DEFAULT_VIEWS
    if options.views is not None:
        try:
            views = parse_views(options.views)
        except ConfigError as error:
            raise ConfigError(f"--{error}") from None
    return views if options.decoder is None else views.model_copy(update={"decoder": options.decoder})


def _tell(options: Namespace, records: "Sequence[ClipRecord]", results: "Sequence[Prediction]") -> int:
    """Print predictions, or where they are; gives the exit code."""
    from everest.inference import FailedPrediction
    from everest.inference.kept import to_row
    from everest.video.source import say_location

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


def _told(rows: list[dict[str, Any]]) -> list[str]:
    """Write predictions for a person; names of files and classes are what others have chosen."""
    lines = []
    for row in rows:
        if "classes" in row:
            end = "the end" if row.get("end") is None else f"{row['end']:g} s"
            lines.append(row["video"] + (f" from {row['start'] or 0:g} s to {end}" if "start" in row else ""))
            lines += [f"  {c['probability']:6.1%}  {c['name']}" for c in row["classes"]]
    return list(map(printable, lines))
