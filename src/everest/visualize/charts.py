"""Charts as PNG: curves, confusion, accuracies with intervals.

Shapes: K classes.
"""

import io
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # told apart by everybody
FONT_SIZE = 10
MAX_NAMED_CLASSES = 40
MAX_NAME = 28  # letters of a class at an axis

Points = Sequence[tuple[float, float]]


def curves(series: Mapping[str, Points], title: str, x_label: str, y_label: str) -> bytes:
    """Draw lines over a common axis.

    Args:
        series: Points (x, y) by name; those without points are left out.
        title: Above the chart.
        x_label: Below it.
        y_label: Beside it.
    """
    figure, axes = empty_chart(6.4, 3.6)
    drawn = {name: points for name, points in series.items() if points}
    for number, (name, points) in enumerate(drawn.items()):
        x, y = zip(*points, strict=True)
        axes.plot(x, y, label=plain(name), color=COLORS[number % len(COLORS)], linewidth=1.6)
    axes.set(title=plain(title), xlabel=plain(x_label), ylabel=plain(y_label))
    axes.grid(alpha=0.3)
    if drawn:
        axes.legend(frameon=False)
    else:
        axes.text(0.5, 0.5, "nothing to show", ha="center", transform=axes.transAxes)
    return as_png(figure)


def confusion(matrix: Tensor | Sequence[Sequence[int]], class_names: Sequence[str]) -> bytes:
    """Draw which class (rows) is taken for which (columns); colours are shares of a row, numbers are clips.

    Args:
        matrix: Clips by true and predicted class, shape [K, K].
        class_names: Names by class index; long ones are cut. Above 40 classes, only every few are named, no numbers
            are written, and the scale of the colours is stretched where shares are small.
    """
    from matplotlib.colors import PowerNorm

    counts = torch.as_tensor(matrix).float()
    num_classes = len(class_names)
    side = min(9.5, 2.6 + 0.62 * num_classes)  # inches; a page shows it in nearly its own size
    figure, axes = empty_chart(side + 1.2, side)
    shares = counts / counts.sum(dim=1, keepdim=True).clamp(min=1)
    norm = PowerNorm(1.0 if num_classes <= MAX_NAMED_CLASSES else 0.45, vmin=0, vmax=1)
    image = axes.imshow(shares.numpy(), cmap="cividis", norm=norm)
    figure.colorbar(image, ax=axes, fraction=0.046, label="share of the true class")
    every = max(1, -(-num_classes // MAX_NAMED_CLASSES))
    ticks = range(0, num_classes, every)
    names = [plain(_cut(class_names[tick])) for tick in ticks]
    axes.set_xticks(ticks, names, rotation=90 if num_classes > 6 else 35, ha="right" if num_classes <= 6 else "center")
    axes.set_yticks(ticks, names)
    axes.set(xlabel="predicted", ylabel="true")
    if num_classes <= MAX_NAMED_CLASSES // 2:
        for row in range(num_classes):
            for column in range(num_classes):
                color = "black" if shares[row, column] > 0.6 else "white"
                axes.text(column, row, f"{int(counts[row, column])}", ha="center", va="center", color=color)
    return as_png(figure)


def accuracy_bars(
    rows: Sequence[tuple[str, float, tuple[float, float]]], reference: tuple[str, float] | None = None
) -> bytes:
    """Draw accuracies with their intervals, and one to compare with as a dashed line.

    Args:
        rows: Name, accuracy (0 to 1), and the interval's ends.
        reference: Name and accuracy of the line.
    """
    figure, axes = empty_chart(6.4, 1.3 + 0.5 * len(rows))
    for place, (_, value, (low, high)) in enumerate(rows):
        axes.barh(place, value, color=COLORS[place % len(COLORS)], height=0.55)
        axes.plot([low, high], [place, place], color="black", linewidth=1.5)
        axes.text(min(high, 0.93) + 0.015, place, f"{value:.0%}", va="center")
    if reference is not None:
        axes.axvline(reference[1], color="black", linestyle="--", label=plain(reference[0]))
        axes.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, 1.0 + 0.42 / max(1, len(rows))))
    axes.set_yticks(range(len(rows)), [plain(name) for name, _, _ in rows])
    axes.invert_yaxis()
    axes.set(xlim=(0, 1), xlabel="accuracy; the black line is its 95 % interval")
    return as_png(figure)


def counts_per_slot(series: Mapping[str, Sequence[int]], tokens_per_slot: int) -> bytes:
    """Draw how many tokens of each time slot are kept, one group of bars for each slot.

    Args:
        series: A number for each slot, by name.
        tokens_per_slot: How many there are, drawn as a line.
    """
    num_slots = max(len(counts) for counts in series.values())
    figure, axes = empty_chart(max(6.4, 0.5 + num_slots * 0.16 * (len(series) + 1.5)), 3.2)
    width = 0.8 / len(series)
    for number, (name, counts) in enumerate(series.items()):
        places = [slot + (number - (len(series) - 1) / 2) * width for slot in range(len(counts))]
        axes.bar(places, counts, width=width, color=COLORS[number % len(COLORS)], label=plain(name))
    axes.axhline(tokens_per_slot, color="black", linestyle="--", linewidth=1, label="all of a slot")
    axes.set_xticks(range(num_slots))
    axes.set(xlabel="time slot", ylabel="kept tokens", ylim=(0, tokens_per_slot * 1.08))
    figure.legend(frameon=False, loc="outside upper center", ncols=min(5, len(series) + 1))
    return as_png(figure)


def empty_chart(
    width: float, height: float, margins: tuple[float, float, float, float] | None = None
) -> "tuple[Figure, Axes]":
    """Make an empty chart, without the global state of pyplot.

    Args:
        width: In inches.
        height: In inches.
        margins: Left, right, bottom and top end of the axes, as shares; None: as what is written there needs it, which
            takes as long to find out as to draw.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context({"font.size": FONT_SIZE}):
        figure = Figure(figsize=(width, height), dpi=110, layout="constrained" if margins is None else None)
        axes = figure.subplots()
    if margins is not None:
        left, right, bottom, top = margins
        figure.subplots_adjust(left=left, right=right, bottom=bottom, top=top)
    return figure, axes


def whole_ticks(axis: "Axis") -> None:
    """Put the ticks of an axis that counts at whole numbers, however few there are: one is enough."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))
    axis.set_major_formatter("{x:,.0f}")


def _cut(name: str) -> str:
    """Shorten a name that would take the room of the chart; its end tells classes apart as often as its beginning."""
    return name if len(name) <= MAX_NAME else f"{name[: MAX_NAME // 2 - 1]}\u2026{name[-MAX_NAME // 2 :]}"


def plain(text: str) -> str:
    """Keep a name from being read as a formula, which it need not be, or as one that a legend leaves out."""
    return f"{' ' if text.startswith('_') else ''}{text}".replace("$", r"\$")


def as_png(figure: "Figure") -> bytes:
    """Turn a figure into the bytes of a PNG file."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)  # it draws a box
        figure.savefig(buffer, format="png")
    return buffer.getvalue()
