"""Curves of several runs in one picture: losses, and accuracies with the interval of the last one."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from everest.visualize.charts import COLORS, FONT_SIZE, Points, as_png, plain, whole_ticks

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_POINTS = 400  # of a curve; more are averaged in groups
_STYLES = ("-", "--", ":", "-.")


@dataclass(frozen=True)
class RunCurves:
    """What is drawn of a run.

    Attributes:
        name: In the legend.
        loss: Points (x, loss).
        top1: Points (x, accuracy from 0 to 1), measured on the way.
        final: Where the run ends, its accuracy, and the interval of that, if known; None where it was not evaluated.
    """

    name: str
    loss: Points
    top1: Points = ()
    final: tuple[float, float, tuple[float, float] | None] | None = None


def draw_runs(runs: Sequence[RunCurves], x_label: str, most: int = MAX_POINTS) -> bytes:
    """Draw the losses of runs and, where there are any, their accuracies below, as PNG.

    Args:
        runs: What to draw; the curve of a long run is averaged in groups, with all its points pale behind it.
        x_label: What the points are laid over.
        most: Points that are left of a loss.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    evaluated = any(run.top1 or run.final for run in runs)
    aside = 0.006 * max((x for run in runs for x, _ in run.loss), default=0.0)  # so that intervals do not hide others
    with rc_context({"font.size": FONT_SIZE}):
        figure = Figure(figsize=(7.2, 6.4 if evaluated else 3.8), dpi=110, layout="constrained")
        panels = figure.subplots(2 if evaluated else 1, sharex=True, squeeze=False)[:, 0]
        for number, run in enumerate(runs):
            style = {"color": COLORS[number % len(COLORS)], "linestyle": _STYLES[number // len(COLORS) % len(_STYLES)]}
            _draw_loss(panels[0], run, style, most)
            if evaluated:
                _draw_accuracy(panels[1], run, style, number * aside)
        panels[0].set(ylabel="loss on training clips")
        if evaluated:
            panels[1].set(ylabel="top-1 on held-out clips", ylim=(0, 1))
        panels[-1].set(xlabel=plain(x_label))
        if all(float(x).is_integer() for run in runs for x, _ in (*run.loss, *run.top1)):  # steps or epochs, not hours
            whole_ticks(panels[-1].xaxis)
        for axes in panels:
            axes.grid(alpha=0.3)
            if axes.get_legend_handles_labels()[0]:
                axes.legend(frameon=False)
        if not any(run.loss for run in runs):
            panels[0].text(0.5, 0.5, "nothing to show", ha="center", transform=panels[0].transAxes)
        return as_png(figure)


def thin_out(points: Points, most: int = MAX_POINTS) -> list[tuple[float, float]]:
    """Average neighbouring points in groups of equal size, so that at most so many are left."""
    size = -(-len(points) // most)
    if size <= 1:
        return list(points)
    groups = (points[first : first + size] for first in range(0, len(points), size))
    return [(sum(x for x, _ in group) / len(group), sum(y for _, y in group) / len(group)) for group in groups]


def _draw_loss(axes: "Axes", run: RunCurves, style: dict[str, Any], most: int) -> None:
    if not run.loss:
        return
    thin = thin_out(run.loss, most)
    if len(thin) < len(run.loss):
        axes.plot(*zip(*run.loss, strict=True), color=style["color"], linewidth=0.5, alpha=0.25)
    marker = "o" if len(thin) == 1 else None
    axes.plot(*zip(*thin, strict=True), label=plain(run.name), linewidth=1.6, marker=marker, **style)


def _draw_accuracy(axes: "Axes", run: RunCurves, style: dict[str, Any], aside: float) -> None:
    points = [*run.top1]
    if run.final is not None:
        x, value, interval = run.final
        points.append((x, value))
        if interval is not None:
            axes.plot([x + aside] * 2, interval, color=style["color"], linewidth=1.2, marker="_", markersize=8)
    if points:
        axes.plot(*zip(*points, strict=True), label=plain(run.name), linewidth=1.6, marker="o", markersize=4, **style)
