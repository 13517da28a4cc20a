"""How the numbers of one run went, a small chart for each."""

from collections.abc import Mapping
from dataclasses import dataclass

from everest.visualize.charts import COLORS, Points, as_png, empty_chart, whole_ticks
from everest.visualize.report import Figure, Section
from everest.visualize.run_curves import thin_out


@dataclass(frozen=True)
class Trace:
    """One number of the lines of metrics.

    Attributes:
        name: In the lines.
        title: Above the chart.
        words: Below it: what to look for.
        is_share: From 0 to 1, drawn as such.
    """

    name: str
    title: str
    words: str
    is_share: bool = False


TOP1 = "Top-1, measured on the way. The best of many looks better than it is."
TRACES = (
    Trace("loss", "Loss on training clips", "Of each logged step's batch. Lower is better, on these clips."),
    Trace(
        "top1",
        "Accuracy on held-out clips",
        TOP1,
        is_share=True,
    ),
    Trace("grad_norm", "Length of the gradient", "Before clipping. Spikes are hard batches; a steady rise is trouble."),
    Trace("lr", "Learning rate", "It rises while the run warms up, and falls to the end."),
    Trace(
        "wait_share",
        "Share of the time spent waiting for data",
        "Near 0: computing limits the speed. Near 1: reading and decoding videos does.",
        is_share=True,
    ),
    Trace("clips_per_second", "Clips per second", "Of all processes together; dips are other work on the machine."),
    Trace(
        "tokens_per_clip", "Computed tokens of a clip", "The average of a batch, where clips keep different numbers."
    ),
    Trace("gpu_memory_gb", "GPU memory, GB", "The highest since the line before, of the GPU that used most."),
    Trace("skipped_steps", "Skipped steps so far", "Loss or gradient were not finite there: nothing was learnt."),
)
MARGINS = (0.17, 0.95, 0.19, 0.89)  # left, right, bottom, top: charts of one page have their axes in line
ONLY_WHERE_IT_CHANGES = {"tokens_per_clip", "gpu_memory_gb", "skipped_steps"}


def training_section(points: Mapping[str, Points], heading: str = "Training") -> Section:
    """Draw the course of a run.

    Args:
        points: Steps done and values, by name of the metric.
        heading: Of the section.
    """
    figures = []
    for trace in TRACES:
        found = points.get(trace.name, ())
        is_flat = len({value for _, value in found}) < 2
        if not found or (is_flat and trace.name in ONLY_WHERE_IT_CHANGES):
            continue
        figures.append(Figure(draw_trace(found, trace), trace.words, f"Line chart: {trace.title}", "half"))
    words = (
        "Over optimiser steps. Strong lines are averages of neighbouring steps, pale ones the steps themselves. A loss "
        "on training clips says nothing about other clips, and losses of pre-training and of fine-tuning measure "
        "different things."
    )
    return Section(heading, (words if figures else "No step has been logged yet.",), figures=tuple(figures))


def draw_trace(points: Points, trace: Trace) -> bytes:
    """Draw one number over steps as PNG; every value is visible, however many there are."""
    figure, axes = empty_chart(4.6, 2.7, margins=MARGINS)
    thin = thin_out(points, 60) if len(points) > 120 and trace.name not in {"lr", "top1", "skipped_steps"} else points
    if thin is not points:
        axes.plot(*zip(*points, strict=True), color=COLORS[0], linewidth=0.6, alpha=0.35)
    marker = "o" if len(points) < 25 else None
    axes.plot(*zip(*thin, strict=True), color=COLORS[0], linewidth=1.7, marker=marker, markersize=3.5)
    axes.set_title(trace.title, fontsize=10, loc="left")
    axes.set_xlabel("steps")
    whole_ticks(axes.xaxis)
    axes.locator_params(axis="y", nbins=5)
    axes.yaxis.set_major_formatter("{x:.0%}" if trace.is_share else "{x:.4g}")
    if trace.is_share:
        axes.set_ylim(0, 1)
    elif trace.name != "loss":
        axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    return as_png(figure)
