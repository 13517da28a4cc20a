"""Many long videos to timelines: all are cut, all windows are predicted together, and put together by video."""

from collections.abc import Sequence
from dataclasses import replace

from everest.datasets import ClipRecord
from everest.inference.cutting import cut_videos
from everest.inference.far_videos import with_sizes
from everest.inference.predicting import Group, Predicting, Prediction
from everest.inference.timeline import Timeline, make_timeline
from everest.inference.windows import Windows
from everest.training.progress import Progress

_Windows = tuple[list[ClipRecord], list[Prediction]]  # of one video


def predict_timelines(work: Predicting, videos: Sequence[ClipRecord], windows: Windows) -> list[Timeline]:
    """Name what happens when in long videos.

    Args:
        work: What predicts the windows.
        videos: As they were given.
        windows: How they are cut.

    Returns:
        One for each video; where it cannot be opened, without windows and with the reason.

    Raises:
        DataError: There is no room for a copy, or what is found cannot be written.
    """
    given, near = with_sizes(videos, for_others=work.engine is not None)
    found: dict[int, _Windows | str] = {}
    for group in work.groups(given, near, skip_known=False):  # how a video is cut, only the video says
        found |= zip(group.places, _predict_group(work, group, windows), strict=True)
    in_order = [found[place] for place in range(len(given))]
    read = [video for video in in_order if not isinstance(video, str)]
    work.finish([span for spans, _ in read for span in spans], [result for _, results in read for result in results])
    return [
        Timeline(record.path, (), ((None, None, video),))
        if isinstance(video, str)
        else make_timeline(record.path, video[1], video[0])
        for record, video in zip(given, in_order, strict=True)
    ]


def _predict_group(work: Predicting, group: Group, windows: Windows) -> list[_Windows | str]:
    """Predict the windows of videos; gives them by video, or why one cannot be opened."""
    there = [record for record in group.near if not isinstance(record, str)]
    info = work.predictor.info
    cut = cut_videos(there, windows, info, work.views, num_workers=-1, engine=work.engine) if there else []
    found = iter(cut)
    videos = [record if isinstance(record, str) else next(found) for record in group.near]
    spans = [span for video in videos if not isinstance(video, str) for span in video]
    named = [
        [replace(record, start_seconds=span.start_seconds, end_seconds=span.end_seconds) for span in video]
        for record, video in zip(group.records, videos, strict=True)
        if not isinstance(video, str)
    ]
    with Progress("predicting", len(spans)) as progress:
        results = iter(work.predict([span for video in named for span in video], spans, progress))
    by_video = iter(named)
    return [video if isinstance(video, str) else (next(by_video), [next(results) for _ in video]) for video in videos]
