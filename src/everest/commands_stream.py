"""What ``everest predict`` does with streams."""

import json
import sys
from argparse import Namespace
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from everest.commands import EXIT_FAILURES, EXIT_OK
from everest.commands_timeline import write_timeline
from everest.errors import EverestError, VideoError
from everest.texts import printable

if TYPE_CHECKING:
    from everest.config import EvaluationConfig
    from everest.inference import ClipPrediction, Predictor
    from everest.inference.windows import Windows


def predict_stream(options: Namespace, predictor: "Predictor", views: "EvaluationConfig", windows: "Windows") -> int:
    """Name what a camera or a broadcast shows, line by line, until it ends or somebody has seen enough."""
    from everest.inference.kept import StreamFile
    from everest.inference.live import watch

    location, seen = options.videos[0], _Seen(options)
    ended: BaseException | None = None
    try:
        with ExitStack() as stack:
            file = None
            if options.out is not None:
                kept = StreamFile(options.out, predictor, location, windows, views=views, top=options.top)
                file = stack.enter_context(kept)
            for window in watch(
                predictor, location, windows, views=views, top=options.top, max_seconds=options.seconds
            ):
                seen.tell(window)
                if file is not None:
                    file.add(window)
    except (EverestError, KeyboardInterrupt, OSError) as error:  # what was seen is drawn, whatever ended it
        ended = error
    problem = seen.draw()
    is_torn = isinstance(ended, VideoError) and seen.num_windows > 0
    for text in (str(ended) if is_torn else None, problem):
        if text is not None:
            print(printable(f"error: {text}"), file=sys.stderr)
    if ended is not None and not is_torn:
        raise ended
    return EXIT_OK if ended is None and problem is None else EXIT_FAILURES


class _Seen:
    """Tells windows as they come, and keeps them where they are to be drawn in the end."""

    def __init__(self, options: Namespace) -> None:
        self._as_json, self._folder = options.json, options.timelines
        self._windows: list[ClipPrediction] = []
        self.num_windows = 0

    def tell(self, window: "ClipPrediction") -> None:
        self.num_windows += 1
        if self._folder is not None:
            self._windows.append(window)
        print(json.dumps(window.to_row()) if self._as_json else printable(_say(window)), flush=True)

    def draw(self) -> str | None:
        """Write the timeline; gives what went wrong."""
        from everest.inference.timeline import Timeline

        if not self._windows:
            return None
        timeline = Timeline(self._windows[0].source, tuple(self._windows))
        return write_timeline(timeline, None, _free(self._folder))


def _free(folder: Path) -> Path:
    """Name files that are not there: what was seen earlier is not seen again."""
    number, place = 1, folder / "stream"
    while any(place.with_name(place.name + ending).exists() for ending in (".json", ".png")):
        number += 1
        place = folder / f"stream-{number}"
    return place


def _say(window: "ClipPrediction") -> str:
    from everest.inference.timeline import say_time

    span = f"{say_time(window.start_seconds or 0.0)} - {say_time(window.end_seconds or 0.0)}"
    return f"{span}  " + ", ".join(f"{name} {share:.1%}" for name, share in window.classes)
