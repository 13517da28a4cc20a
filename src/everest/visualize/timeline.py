"""What happens when in a video, as one picture: frames, the class of each moment, and how sure the model is of it.

Shapes: F frames, H height, W width.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from everest.errors import VideoError
from everest.inference.timeline import Timeline, say_time
from everest.texts import printable
from everest.video.backends import open_video
from everest.video.source import VideoSource, say_location
from everest.visualize.charts import COLORS, FONT_SIZE, as_png, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LOG = logging.getLogger("everest")
MAX_CLASSES = len(COLORS)  # with a colour of their own
OTHER_COLOR = "#9a9a9a"
HATCH_COLOR = "#777777"
NUM_FRAMES = 10
_WIDTH = 11.0  # inches
_LETTER = 0.085  # inches that a letter of a name takes


def class_colors(timeline: Timeline) -> dict[str, str]:
    """Give colours to the classes that take most of the time; the others are grey."""
    names = timeline.class_names
    colored = dict(zip(names, COLORS, strict=False))
    return {name: colored.get(name, OTHER_COLOR) for name in names}


def draw_timeline(timeline: Timeline, frames: Sequence[tuple[float, Tensor | None]] = ()) -> bytes:
    """Draw a timeline as PNG.

    Args:
        timeline: With at least one window.
        frames: Times in seconds and frames [H, W, 3], uint8, to show above, None in the place of one that is missing;
            see :func:`frames_over_time`.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    colors = class_colors(timeline)
    with rc_context({"font.size": FONT_SIZE}):
        heights = ([1.1] if frames else []) + [0.5, 2.4]
        figure = Figure(figsize=(_WIDTH, sum(heights) + 1.0), dpi=110, layout="constrained")
        axes = figure.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
        axes[0].set_title(plain(timeline.source.name))
        if frames:
            _draw_frames(axes[0], frames, timeline.seconds - timeline.start_seconds)
        _draw_segments(axes[-2], timeline, colors)
        _draw_probabilities(axes[-1], timeline, colors)
        axes[-1].set_xlim(timeline.start_seconds, timeline.seconds)
        axes[-1].xaxis.set_major_formatter(lambda value, _: say_time(value))
        _draw_legend(figure, axes[-1], colors)
        return as_png(figure)


def _draw_legend(figure: "Figure", axes: "Axes", colors: Mapping[str, str]) -> None:
    from matplotlib.patches import Patch

    handles, labels = axes.get_legend_handles_labels()
    if num_others := list(colors.values()).count(OTHER_COLOR):
        handles.append(Patch(color=OTHER_COLOR))
        labels.append("another class" if num_others == 1 else f"{num_others} other classes")
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)


def frames_over_time(
    timeline: Timeline, source: VideoSource, num_frames: int = NUM_FRAMES
) -> list[tuple[float, Tensor | None]]:
    """Read frames at equal distances over the time of a timeline.

    Args:
        timeline: Says which time.
        source: The video.
        num_frames: How many.

    Returns:
        Times in seconds and frames, [H, W, 3] each, None where one cannot be read, which is logged; where none can,
        nothing at all.
    """
    first = timeline.start_seconds
    length = timeline.seconds - first
    times = [first + length * (number + 0.5) / num_frames for number in range(num_frames)]
    found: list[tuple[float, Tensor | None]] = []
    reason = ""
    try:
        with open_video(source) as reader:
            last = reader.info.num_frames - 1
            for seconds in times:
                try:
                    found.append((seconds, reader.read([min(int(seconds * reader.info.fps), last)]).frames[0]))
                except VideoError as error:
                    found.append((seconds, None))
                    reason = str(error)
    except VideoError as error:  # it was read a moment ago: the picture does without
        reason = str(error)
    if reason:
        missing = num_frames - sum(frame is not None for _, frame in found)
        words = "%s: %d of the %d frames above the timeline cannot be read: %s"
        _LOG.warning(words, printable(say_location(timeline.source)), missing, num_frames, printable(reason))
    return found if any(frame is not None for _, frame in found) else []


def _draw_frames(axes: "Axes", frames: Sequence[tuple[float, Tensor | None]], length: float) -> None:
    """Put each frame [H, W, 3] above its time, in its own shape."""
    share = length / len(frames)
    inches = _WIDTH / len(frames)
    top = 1.1
    for seconds, frame in frames:
        if frame is None:
            continue
        height, width = frame.shape[:2]
        top = max(top, inches * height / width)
        left, right = seconds - 0.48 * share, seconds + 0.48 * share
        every = max(1, width // 240)  # more pixels than the picture has places for
        axes.imshow(frame[::every, ::every].numpy(), extent=(left, right, 0.0, inches * height / width), aspect="auto")
    axes.set_ylim(0.0, top)
    axes.axis("off")


def _draw_segments(axes: "Axes", timeline: Timeline, colors: Mapping[str, str]) -> None:
    per_second = _WIDTH / max(timeline.seconds - timeline.start_seconds, 1e-9)
    for segment in timeline.segments():
        length = segment.end_seconds - segment.start_seconds
        axes.barh(0.0, length, left=segment.start_seconds, height=1.0, color=colors[segment.name], edgecolor="white")
        if length * per_second > _LETTER * len(segment.name) + 0.1:
            middle = segment.start_seconds + length / 2
            axes.text(middle, 0.0, plain(segment.name), ha="center", va="center", color="white")
    for start, end in timeline.unread():
        axes.barh(0.0, end - start, left=start, height=1.0, color="white", edgecolor=HATCH_COLOR, hatch="///")
    axes.set_ylim(-0.5, 0.5)
    axes.set_yticks([0.0], ["class"])
    axes.tick_params(length=0)


def _draw_probabilities(axes: "Axes", timeline: Timeline, colors: Mapping[str, str]) -> None:
    """Draw a line for each class that has a colour.

    It is broken where the class is not among those that are named, and where time is left out.
    """
    nothing = float("nan")
    times: list[float] = []
    named: list[dict[str, float]] = []
    for run in timeline.runs():
        times += [*(((window.start_seconds or 0.0) + (window.end_seconds or 0.0)) / 2 for window in run), nothing]
        named += [*(dict(window.classes) for window in run), {}]
    for name, color in colors.items():
        if color != OTHER_COLOR:
            shares = [classes.get(name, nothing) for classes in named]
            axes.plot(times, shares, marker="o", markersize=3, color=color, label=plain(name), linewidth=1.6)
    axes.set(xlabel="time in the video", ylabel="probability in a window", ylim=(-0.02, 1.02))
    axes.grid(alpha=0.3)
